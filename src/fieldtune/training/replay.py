"""General pairs among those of the field, so that what the base model knows elsewhere is practised too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fieldtune.beir import RetrievalData
from fieldtune.errors import InputError
from fieldtune.probes import Probe
from fieldtune.probes.sets import texts_of
from fieldtune.queries.columns import is_relevant, parse_row, scale_of
from fieldtune.queries.match import fold
from fieldtune.queries.rows import read_rows
from fieldtune.types import Example

_LISTED = 20


@dataclass(frozen=True, slots=True)
class Replay:
    """General rows to be mixed in, and the account of those that were not."""

    examples: list[Example]
    dropped: dict[str, int]
    broken: list[str]
    """The first rows that could not be read, with their lines."""


def replay_rows(
    path: Path, field: Sequence[Example], share: float, data: RetrievalData, probes: Sequence[Probe], seed: int
) -> Replay:
    """Draw rows from a file of pairs (JSON lines, CSV or Parquet) so that they are `share` of all rows.

    Rows that hold a text of the probes, or ask what a dev or test query asks, are left out: the one would make the
    measure of general ability worthless, the other that of the field. Raises InputError if no row can be used.
    """
    dropped: Counter[str] = Counter()
    broken: list[str] = []
    labels = []
    for line, row in read_rows(path):
        try:
            if isinstance(row, str):
                raise ValueError(row)
            label = parse_row(row)
            if any(not judged.text for judged in label.judged):
                raise ValueError("names a passage by its id, not by its text")
            labels.append(label)
        except ValueError as error:
            dropped["replay row: broken"] += 1
            broken.append(f"{path.name}:{line}: {error}")
    scale = scale_of([judged.score for label in labels for judged in label.judged if judged.score is not None])
    measured = {fold(text) for texts in texts_of(probes) for text in texts} | _own_texts(probes)
    held = {fold(data.queries[query].text) for split in ("dev", "test") for query in data.qrels.get(split, {})}
    usable = []
    for label in labels:
        sides: tuple[list[str], list[str]] = ([], [])
        for judged in label.judged:
            text = f"{judged.title}\n{judged.text}" if judged.title else judged.text
            sides[not is_relevant(judged.score, scale)].append(text)
        query, (positives, negatives) = fold(label.query), sides
        if not positives:
            dropped["replay row: nothing relevant in it"] += 1
        elif query in measured or any(fold(text) in measured for text in (*positives, *negatives)):
            dropped["replay row: a text of the general-ability probes"] += 1
        elif query in held:
            dropped["replay row: a dev or test query"] += 1
        else:
            usable.append(Example(label.query, tuple(positives), tuple(negatives)))
    if not usable:
        reasons = ", ".join(f"{reason.removeprefix('replay row: ')}: {count}" for reason, count in dropped.items())
        raise InputError(
            f"no row can be replayed ({reasons or 'it is empty'})",
            "training.replay takes rows of query and passage, or query, pos and neg",
            path=path,
        )
    wanted = round(len(field) * share / (1 - share))
    drawn = np.sort(np.random.default_rng((seed, 11)).permutation(len(usable))[:wanted])
    return Replay([usable[row] for row in drawn], dict(dropped), broken[:_LISTED])


def _own_texts(probes: Sequence[Probe]) -> set[str]:
    """Queries of the user's own retrieval sets, which `texts_of` leaves out; their passages may be anywhere."""
    return {
        fold(query.text)
        for one in probes
        if (data := getattr(one, "data", None)) is not None
        for query in data.queries.values()
    }
