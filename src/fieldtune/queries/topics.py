"""What a title says, worded as people type it: the heading, the document, and what sets the passage apart."""

from __future__ import annotations

from collections.abc import Mapping

from fieldtune.lexical import tokenize
from fieldtune.queries.draft import Draft
from fieldtune.queries.keywords import Keywords
from fieldtune.queries.wording import language_of, read_title
from fieldtune.types import Passage

_LONGEST = 12
"""Words (Chinese: twice as many characters) of a query made from a title."""


class Topics:
    """The titles of a corpus, and how many passages and documents each of them stands for."""

    def __init__(self, passages: Mapping[str, Passage], words: Keywords) -> None:
        self._passages, self._words = passages, words
        self._same: dict[str, list[str]] = {}
        self._captions: dict[str, set[str]] = {}
        for key, passage in passages.items():
            self._same.setdefault(passage.title, []).append(key)
            title = read_title(passage.title)
            if title.caption:
                self._captions.setdefault(title.caption.casefold(), set()).add(title.document)

    def query(self, key: str) -> Draft | None:
        """A query from the passage's title; None without a title that says something."""
        passage = self._passages[key]
        title = read_title(passage.title)
        chinese = language_of(passage.title + passage.text) == "zh"
        document = title.document.removeprefix("中华人民共和国") if chinese else title.document
        parts = [title.caption] if title.caption else []
        if not title.caption or len(self._captions[title.caption.casefold()]) > 1:
            parts.insert(0, document)
        siblings = self._same[passage.title]
        answers = tuple(siblings)
        # A law's name or a title shared by many passages asks for none of them in particular.
        if (title.number and not title.caption) or len(siblings) > 2:
            known = set(tokenize(" ".join(parts)))
            phrases = [p for p in self._words.phrases(passage.text, 4) if not set(tokenize(p)) <= known][:2]
            if not phrases:
                return None
            parts += phrases
            answers = (key,)
        text = " ".join(part for part in parts if part).strip()
        size = len(text) / 2 if chinese else len(text.split())
        if not parts or not parts[0] or size > _LONGEST or len(text) < 3:
            return None
        return Draft(text, answers, "title")
