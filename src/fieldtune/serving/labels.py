"""What people say of results, kept so that the next run trains and is measured on it.

RUN/labels/journal.jsonl          each judgement as it was made: who, when, what; nothing is ever taken out
RUN/labels/queries.jsonl,         the latest of each as a BEIR folder: queries.from or queries.test of the next run
  corpus.jsonl, qrels/all.tsv
RUN/labels/judgements-SPLIT.csv   those about queries of the run's own data: evaluate --split SPLIT --judgements
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from fieldtune.beir import RetrievalData, read_meta, said_lines, write_corpus, write_qrels, write_queries
from fieldtune.evaluation.unjudged import write_judged
from fieldtune.queries.made import query_id
from fieldtune.serving.tested import Tested, folded
from fieldtune.types import SPLITS, Passage, Qrels, Query
from fieldtune.workspace import write_json

log = logging.getLogger(__name__)

_LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Label:
    """One judgement."""

    query: str
    passage: str
    """Its id."""
    right: bool | None
    """None takes an earlier one back."""
    by: str
    at: str
    """UTC, ISO 8601."""
    title: str
    text: str
    group: str
    source: str


class Labels:
    """The labels of a run. Safe to use from several threads and processes."""

    def __init__(self, run: Path) -> None:
        self.folder = run / "labels"
        self._data = run / "data"
        self._journal = self.folder / "journal.jsonl"
        self._lock = threading.RLock()
        self._read: tuple[int, int] | None = None
        self._now: dict[tuple[str, str], Label] = {}
        self._take_up()

    def add(self, query: str, passage: Passage, right: bool | None, by: str) -> None:
        """Keep a judgement: it is on the disk when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        made = Label(
            query, passage.id, right, by, now, passage.title, passage.text, passage.group, passage.source
        )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock, FileLock(self.folder / ".lock", timeout=_LOCK_SECONDS):
            line = json.dumps(asdict(made), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
            with self._journal.open("ab+") as stream:
                size = stream.seek(0, os.SEEK_END)
                if size:  # the end of a line that a crash cut off must not swallow this one
                    stream.seek(size - 1)
                    line = line if stream.read(1) == b"\n" else b"\n" + line
                stream.write(line)
                stream.flush()
                os.fsync(stream.fileno())
            self._take_up()
            self._write_out()

    def of(self, query: str) -> Mapping[str, bool]:
        """Passage id -> right or wrong, as it was last said for this query."""
        with self._lock:
            self._take_up()
            asked = folded(query)
            return {key[1]: bool(label.right) for key, label in self._now.items() if key[0] == asked}

    def latest(self, most: int = 100) -> Sequence[Label]:
        """The last judgements that stand, newest first."""
        with self._lock:
            self._take_up()
            return sorted(self._now.values(), key=lambda label: label.at, reverse=True)[:most]

    def counts(self) -> tuple[int, int, int]:
        """How many queries, passages right for one, and wrong."""
        with self._lock:
            self._take_up()
            right = sum(bool(label.right) for label in self._now.values())
            return len({query for query, _ in self._now}), right, len(self._now) - right

    def _take_up(self) -> None:
        """Read the journal where it has changed, also by another process."""
        try:
            found = self._journal.stat()
        except OSError:
            return
        stamp = (found.st_mtime_ns, found.st_size)
        if stamp == self._read:
            return
        self._now = {}
        for label in _labels(self._journal):
            key = (folded(label.query), label.passage)
            self._now.pop(key, None)
            if label.right is not None:
                self._now[key] = label
        self._read = stamp

    def _write_out(self) -> None:
        """The files that the next run reads, from what stands now."""
        tested = Tested.of(self._data)
        queries: dict[str, Query] = {}
        qrels: Qrels = {}
        passages: dict[str, Passage] = {}
        judged: dict[str, Qrels] = {split: {} for split in SPLITS}
        for (asked, passage), label in self._now.items():
            known = tested.queries.get(asked)
            key = known.id if known else query_id(label.query)
            queries.setdefault(key, Query(key, label.query))
            qrels.setdefault(key, {})[passage] = int(bool(label.right))
            passages[passage] = Passage(
                passage, label.title, label.text, label.group, label.source
            )  # fmt: skip
            for split in known.splits if known else ():
                judged[split].setdefault(key, {})[passage] = int(bool(label.right))
        write_corpus(self.folder / "corpus.jsonl", passages.values())
        write_queries(self.folder / "queries.jsonl", queries.values())
        write_qrels(self.folder / "qrels" / "all.tsv", qrels)
        write_json(self.folder / "meta.json", {"relevance_threshold": 1, "evaluation": "full-corpus"})
        threshold = read_meta(self._data)[0]
        for split, rows in judged.items():
            path = self.folder / f"judgements-{split}.csv"
            if rows:
                # Right is what counts as relevant in the run's own data, however it is graded.
                graded = {key: {one: grade * threshold for one, grade in row.items()} for key, row in rows.items()}
                write_judged(path, RetrievalData(passages, queries, {}), graded)
            else:
                path.unlink(missing_ok=True)


def _labels(path: Path) -> list[Label]:
    """The journal's lines; what a crash cut off is left out."""
    found, damaged = [], []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            if line.strip():
                found.append(Label(**json.loads(line)))
        except (ValueError, TypeError):
            damaged.append(number)
    if damaged:
        log.warning("%s: %s not whole and left out", path, said_lines(damaged))
    return found
