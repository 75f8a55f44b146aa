"""The queries and qrels of a BEIR folder, moved onto our corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fieldtune.beir import corpus_file, read_corpus, read_meta, read_qrels, read_queries, said_lines
from fieldtune.errors import InputError
from fieldtune.queries.made import Made
from fieldtune.queries.match import PassageFinder, fold
from fieldtune.types import SPLITS, Passage, Qrels, Query

_LISTED = 1_000
_OTHER_NAMES = {"validation": "dev", "valid": "dev", "val": "dev", "eval": "dev"}


def read_beir_labels(folder: Path, passages: Mapping[str, Passage], threshold: float) -> Made:
    """Each labelled passage is taken by its id where ours has the same text, else found by its text.

    A folder with train and one of dev and test keeps its split, and files of other names are left out: what is in them
    may belong to no side. Any other is handed over undivided. Raises InputError for a file that load_beir would refuse,
    for a split whose training file has nothing to train on, and when no labelled passage is in our corpus.
    """
    queries = read_queries(folder / "queries.jsonl")
    theirs = read_corpus(corpus_file(folder)) if corpus_file(folder).exists() else dict(passages)
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise InputError("no qrels/*.tsv in it", "add qrels/all.tsv with query-id, corpus-id, score", path=folder)
    relevant_from, evaluation = read_meta(folder)
    mover = _Mover(passages, theirs, threshold, relevant_from)
    qrels: dict[str, Qrels] = {}
    notes: list[str] = []
    sides = {path: _OTHER_NAMES.get(path.stem, path.stem) for path in files}
    kept = "train" in sides.values() and not {"dev", "test"}.isdisjoint(sides.values())
    if kept and (others := [path for path in files if sides[path] not in SPLITS]):
        notes.append(f"{_names(others)} left out: a folder with a split has train.tsv, dev.tsv and test.tsv alone.")
        files = [path for path in files if path not in others]
    for path in files:
        given, repeated = read_qrels(path, theirs, queries)
        if repeated:
            notes.append(f"{path.name}: {said_lines(repeated)} repeat an earlier row and are counted once.")
        moved = mover.move(given, path.name)
        if not moved:
            notes.append(f"{path.name}: none of its queries has a relevant passage in the corpus.")
        for query, row in moved.items():
            qrels.setdefault(sides[path], {}).setdefault(query, {}).update(row)
    if not any(qrels.values()):
        raise InputError(
            "none of its labelled passages is in the corpus",
            "check that documents.paths holds the labelled documents, or give no documents to use the folder's own",
            path=folder,
        )
    if kept and "train" not in qrels:  # to divide its test queries anew would train on them
        raise InputError(
            "qrels/train.tsv has no query with a relevant passage in the corpus",
            "fill it, or remove it to have the others divided anew",
            path=folder,
        )
    if not kept or len(qrels) == 1:
        if len(files) > 1:
            notes.append(
                f"{_names(files)} put together and divided anew, since they are no split with something in it."
            )
        qrels = {"all": _together(qrels.values())}
    asked = {query for rows in qrels.values() for query in rows}
    return Made(
        "labels",
        {key: Query(key, query.text, query.style, query.metadata) for key, query in queries.items() if key in asked},
        qrels,
        {"queries": len(asked)}
        | ({split: len(qrels[split]) for split in SPLITS if split in qrels})
        | {f"found: {how}": count for how, count in sorted(mover.how.items())},
        dict(sorted(mover.dropped.items())),
        (*notes, *mover.notes()),
        {"not_found": mover.not_found[:_LISTED]},
        tuple(mover.not_found),
        relevant_from,
        evaluation,
    )


def _names(files: Sequence[Path]) -> str:
    """Of files, with the verb."""
    *rest, last = [f"qrels/{path.name}" for path in files]
    return f"{', '.join(rest)} and {last} were" if rest else f"{last} was"


class _Mover:
    """Translates ids of the folder's corpus to ours."""

    def __init__(
        self, ours: Mapping[str, Passage], theirs: Mapping[str, Passage], threshold: float, relevant_from: int
    ) -> None:
        self._ours, self._theirs, self._threshold, self._relevant_from = ours, theirs, threshold, relevant_from
        self._finder: PassageFinder | None = None
        self._known: dict[str, tuple[str, ...]] = {}
        self.how: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.not_found: list[dict[str, Any]] = []

    def move(self, qrels: Qrels, name: str) -> Qrels:
        moved: Qrels = {}
        for query, row in qrels.items():
            target: dict[str, int] = {}
            for passage, grade in row.items():
                for ours in self._find(passage, f"{name} {query}", grade):
                    target[ours] = max(grade, target.get(ours, 0))
            if any(grade >= self._relevant_from for grade in target.values()):
                moved[query] = target
            else:
                self.dropped["query without a passage in the corpus"] += 1
        return moved

    def notes(self) -> list[str]:
        if not self.not_found:
            return []
        return [f"{len(self.not_found):,} labelled passages are not in the corpus; not_found.jsonl lists them."]

    def _find(self, passage: str, where: str, grade: int) -> tuple[str, ...]:
        if passage in self._known:
            return self._known[passage]
        theirs, ours = self._theirs[passage], self._ours.get(passage)
        # The same id may be another passage in another corpus: "1", "2", "3" are common.
        if ours is not None and (ours.text == theirs.text or fold(ours.text) == fold(theirs.text)):
            self.how["by id"] += 1
            found: tuple[str, ...] = (passage,)
        else:
            if self._finder is None:
                self._finder = PassageFinder(self._ours, self._threshold)
            match = self._finder.find(theirs.text, theirs.title)
            found = match.passages
            if found:
                self.how[match.how] += 1
            else:
                reason = "fits too many passages" if match.how == "ambiguous" else "not found in the corpus"
                self.dropped[f"labelled passage {reason}"] += 1
                entry = {"where": where, "id": passage, "text": theirs.text[:120], "relevant": grade > 0}
                self.not_found.append(
                    entry | {"reason": reason, "best": match.best, "similarity": round(match.similarity, 3)}
                )
        self._known[passage] = found
        return found


def _together(parts: Any) -> Qrels:
    merged: Qrels = {}
    for rows in parts:
        for query, row in rows.items():
            merged.setdefault(query, {}).update(row)
    return merged
