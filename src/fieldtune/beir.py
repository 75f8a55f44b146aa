"""Retrieval data in BEIR layout, the format between stages: corpus, queries, and qrels by split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fieldtune.beir_files import (
    read_corpus,
    read_qrels,
    read_queries,
    said_lines,
    write_corpus,
    write_qrels,
    write_queries,
)
from fieldtune.errors import InputError
from fieldtune.types import SPLITS, Passage, Qrels, Query
from fieldtune.workspace import read_json, write_json

__all__ = [
    "Protocol",
    "RetrievalData",
    "corpus_file",
    "load_beir",
    "read_corpus",
    "read_meta",
    "read_qrels",
    "read_queries",
    "require_split",
    "said_lines",
    "write_beir",
    "write_corpus",
    "write_qrels",
    "write_queries",
]

Protocol = Literal["full-corpus", "judged-only"]
"""Rank the whole corpus, or only passages that have a judgement for the query."""

_SHOWN = 5  # ids named in a note


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """A corpus, the queries asked of it, and who found what relevant."""

    passages: dict[str, Passage]
    queries: dict[str, Query]
    qrels: dict[str, Qrels]
    """Split name -> qrels, every judged row with its grade, 0 included."""
    relevance_threshold: int = 1
    evaluation: Protocol = "full-corpus"
    notes: tuple[str, ...] = field(default=())
    """What reading mended or wondered at (duplicate rows, for instance)."""

    def positives(self, split: str) -> dict[str, list[str]]:
        """Query id -> ids of its relevant passages, in file order; queries without one are left out."""
        out = {}
        for query, grades in self.qrels.get(split, {}).items():
            relevant = [passage for passage, grade in grades.items() if grade >= self.relevance_threshold]
            if relevant:
                out[query] = relevant
        return out


def load_beir(folder: Path) -> RetrievalData:
    """Read a BEIR folder: corpus.jsonl[.gz], queries.jsonl, qrels/*.tsv and, if there, meta.json.

    Raises InputError with file and line for a missing or repeated id, a bad grade, or qrels that name an absent
    passage or query; repeated rows and files without a judgement are named in the notes.
    """
    if not folder.is_dir():
        raise InputError("not a folder", "give a BEIR folder with corpus.jsonl, queries.jsonl and qrels/", path=folder)
    threshold, evaluation = read_meta(folder)
    passages = read_corpus(corpus_file(folder))
    queries = read_queries(folder / "queries.jsonl")
    files = sorted((folder / "qrels").glob("*.tsv"))
    if not files:
        raise InputError("no qrels/*.tsv in it", "add qrels/test.tsv with query-id, corpus-id, score", path=folder)
    qrels, notes = {}, []
    for path in files:
        qrels[path.stem], repeated = read_qrels(path, passages, queries)
        if repeated:
            said = "repeats an earlier row and is" if len(repeated) == 1 else "repeat an earlier row and are"
            notes.append(f"{path}: {said_lines(repeated)} {said} counted once.")
        if not qrels[path.stem]:
            notes.append(f"{path}: holds no judgement.")
        notes += _asked_twice(path, qrels[path.stem], queries)
    if empty := [name for name, one in passages.items() if not one.content.strip()]:
        said = "passage has" if len(empty) == 1 else "passages have"
        notes.append(f"{corpus_file(folder)}: {len(empty):,} {said} neither title nor text: {_some(empty)}.")
    return RetrievalData(passages, queries, qrels, threshold, evaluation, tuple(notes))


def require_split(folder: Path, data: RetrievalData, split: str) -> None:
    """Raise InputError naming the file when a split of a BEIR folder is not there or has nothing to measure."""
    path = folder / "qrels" / f"{split}.tsv"
    if split not in data.qrels:
        raise InputError("no such file", f"splits that are there: {', '.join(data.qrels)}", path=path)
    if not data.qrels[split]:
        raise InputError("holds no judgement", "it needs rows of query-id, corpus-id, score", path=path)
    if not data.positives(split):
        raise InputError(
            "no query in it has a relevant passage",
            f"a passage is relevant from grade {data.relevance_threshold} on (relevance_threshold in meta.json)",
            path=path,
        )


def _asked_twice(path: Path, qrels: Qrels, queries: Mapping[str, Query]) -> list[str]:
    """Queries of one split that say the same: each counts as often as it stands there."""
    first: dict[str, str] = {}
    twice = []
    for name in qrels:
        text = " ".join(queries[name].text.casefold().split())
        if (earlier := first.setdefault(text, name)) != name:
            twice.append(f"{name} = {earlier}")
    if not twice:
        return []
    said = "query has" if len(twice) == 1 else "queries have"
    return [f"{path}: {len(twice):,} {said} the text of another: {_some(twice)}."]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")


def read_meta(folder: Path) -> tuple[int, Protocol]:
    """The relevance threshold and how the folder wants to be evaluated; 1 and full-corpus without a meta.json."""
    path = folder / "meta.json"
    meta = read_json(path) if path.exists() else {}
    if not isinstance(meta, dict):
        raise InputError(f"expected a JSON object, found {type(meta).__name__}", "mend or remove the file", path=path)
    threshold, evaluation = meta.get("relevance_threshold", 1), meta.get("evaluation", "full-corpus")
    if not isinstance(threshold, int) or isinstance(threshold, bool):
        raise InputError(f"relevance_threshold must be a whole number, got {threshold!r}", path=path)
    if evaluation == "full-corpus and judged-only":  # fit for both; the whole corpus is the harder question
        evaluation = "full-corpus"
    if evaluation not in ("full-corpus", "judged-only"):
        raise InputError(f"evaluation {evaluation!r} is unknown", "full-corpus or judged-only", path=path)
    return threshold, "judged-only" if evaluation == "judged-only" else "full-corpus"


def corpus_file(folder: Path) -> Path:
    """The corpus of a BEIR folder, packed or not."""
    packed = folder / "corpus.jsonl.gz"
    return packed if packed.exists() and not (folder / "corpus.jsonl").exists() else folder / "corpus.jsonl"


def write_beir(folder: Path, data: RetrievalData, *, write_passages: bool = True) -> None:
    """Write the whole layout; `write_passages=False` leaves an existing corpus.jsonl alone."""
    if write_passages:
        write_corpus(folder / "corpus.jsonl", data.passages.values())
    write_queries(folder / "queries.jsonl", data.queries.values())
    for split in SPLITS:
        if split in data.qrels:
            write_qrels(folder / "qrels" / f"{split}.tsv", data.qrels[split])
        else:
            (folder / "qrels" / f"{split}.tsv").unlink(missing_ok=True)
    write_json(folder / "meta.json", {"relevance_threshold": data.relevance_threshold, "evaluation": data.evaluation})
