"""The users' own queries: an LLM takes tone and length from them, and may not hand them back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from fieldtune.corpus.shingling import words
from fieldtune.errors import InputError
from fieldtune.queries.columns import QUERY
from fieldtune.queries.match import fold
from fieldtune.queries.prompts import LONGEST_QUERY
from fieldtune.queries.rows import FORMATS, read_rows
from fieldtune.queries.sampling import stable_order
from fieldtune.queries.wording import language_of

_SHOWN = 4
_COPY = 0.75
"""Shared words (Chinese: pairs of characters) over all, from which a query counts as a copy."""
_MOST = 5_000


@dataclass(frozen=True, slots=True)
class UserQueries:
    """Real queries; `left_out` are lines that are none: empty, or longer than a query."""

    texts: tuple[str, ...] = ()
    left_out: int = 0
    _grams: tuple[frozenset[str], ...] = field(default=(), repr=False)
    _holders: dict[str, list[int]] = field(default_factory=dict, repr=False)
    _folded: frozenset[str] = field(default=frozenset(), repr=False)

    def shots(self, key: str, language: str, seed: int) -> list[str]:
        """A few of them for the prompt with this key, in its language where there are any."""
        same = [text for text in self.texts if language_of(text) == language]
        return sorted(same or self.texts, key=lambda text: stable_order(seed, f"{key}\n{text}"))[:_SHOWN]

    def is_copy(self, text: str) -> bool:
        """Whether one of them says the same in nearly the same words."""
        found = _gram_set(text)
        shared: dict[int, int] = {}
        for gram in found:
            for holder in self._holders.get(gram, ()):
                shared[holder] = shared.get(holder, 0) + 1
        return (
            any(both >= _COPY * (len(found) + len(self._grams[holder]) - both) for holder, both in shared.items())
            or fold(text) in self._folded
        )


def read_user_queries(path: str) -> UserQueries:
    """Read a text file with one query per line, or a table or JSON lines with a column `query`.

    Raises InputError when there is no query in it.
    """
    if not path:
        return UserQueries()
    file = Path(path)
    found: list[str] = []
    left_out = 0
    for text in _texts(file):
        text = " ".join(text.split())
        if 3 <= len(text) <= LONGEST_QUERY and len(found) < _MOST:
            found.append(text)
        else:
            left_out += bool(text)
    if not found:
        raise InputError(
            "no query in it", "one query per line, or a CSV or JSONL file with a column named query", path=file
        )
    return user_queries(found, left_out)


def user_queries(texts: Iterable[str], left_out: int = 0) -> UserQueries:
    """The same from texts at hand."""
    distinct = tuple(dict.fromkeys(texts))
    grams = tuple(_gram_set(text) for text in distinct)
    holders: dict[str, list[int]] = {}
    for place, found in enumerate(grams):
        for gram in found:
            holders.setdefault(gram, []).append(place)
    return UserQueries(distinct, left_out, grams, holders, frozenset(map(fold, distinct)))


def _texts(file: Path) -> Iterable[str]:
    if file.suffix.lower() not in FORMATS:
        try:
            return file.read_text("utf-8-sig").splitlines()
        except FileNotFoundError:
            raise InputError("no such file", "check queries.examples", path=file) from None
        except (IsADirectoryError, UnicodeDecodeError) as error:
            raise InputError(
                f"cannot be read as text ({error})", "save it as UTF-8, a query per line", path=file
            ) from None
    rows = [row for _, row in read_rows(file) if isinstance(row, dict)]
    names = (*QUERY, "text")
    return [str(next((row[name] for name in names if row.get(name)), "")) for row in rows]


def _gram_set(text: str) -> frozenset[str]:
    found = words(text)
    pairs = [a + b for a, b in pairwise(found) if not a.isascii() and not b.isascii()]
    # Single Chinese characters say little; words of other scripts say enough.
    return frozenset([word for word in found if word.isascii() or len(word) > 1] + pairs) or frozenset(found)
