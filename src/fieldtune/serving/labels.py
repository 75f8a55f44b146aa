"""What people say of results, kept so that the next run trains and is measured on it.

RUN/labels/journal.jsonl          each judgement as it was made: who, when, what; nothing is ever taken out
RUN/labels/queries.jsonl,         the latest of each as a BEIR folder: queries.from or queries.test of the next run,
  corpus.jsonl, qrels/all.tsv       without those about the run's own test questions
RUN/labels/judgements-SPLIT.csv   those about queries of the run's own data: evaluate --split SPLIT --judgements

The journal is written at once, and tells all. The rest is made from it some seconds later, when it is asked for, or at
the end: a click must not wait for files as long as everything said before it.
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

from fieldtune.beir import RetrievalData, read_meta, write_corpus, write_qrels, write_queries
from fieldtune.evaluation.unjudged import write_judged
from fieldtune.queries.made import query_id
from fieldtune.serving.tested import Tested, folded
from fieldtune.types import SPLITS, Passage, Qrels, Query
from fieldtune.workspace import write_json

log = logging.getLogger(__name__)

_LOCK_SECONDS = 10
_LATER_SECONDS = 3.0
"""After a judgement the files for the next run are made anew."""


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
        self._writing = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        """The journal's inode, size and time when it was last looked at."""
        self._taken = 0
        """Bytes of the journal that are in `_now`: whole lines."""
        self._damaged = False
        self._now: dict[tuple[str, str], Label] = {}
        self._later: threading.Timer | None = None
        self._stale = False
        """Whether the files may lack something of the journal; at the start they may."""
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
            if self._later is None:
                self._later = threading.Timer(_LATER_SECONDS, self._write_later)
                self._later.daemon = True
                self._later.start()

    def write_out(self) -> None:
        """Make the files that the next run reads from what stands now, where they are behind. Raises OSError."""
        # The outer locks for the whole, so that what is newer is never written over; the inner for a look alone.
        with self._writing:
            with self._lock:
                self._take_up()
                if not self._stale:
                    return
            with FileLock(self.folder / ".lock-files", timeout=_LOCK_SECONDS):
                with self._lock:
                    self._take_up()
                    standing, self._stale = dict(self._now), False
                try:
                    self._write(standing)
                except BaseException:
                    self._stale = True
                    raise

    def close(self) -> None:
        """Write what is not written yet; a folder that cannot be written is said in the log."""
        with self._lock:
            later, self._later = self._later, None
        if later is not None:
            later.cancel()
        self._write_later()

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
        """Read what was added to the journal since the last look, also by another process."""
        try:
            found = self._journal.stat()
        except OSError:
            return
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns)
        if stamp == self._stamp:
            return
        if self._stamp is None or stamp[0] != self._stamp[0] or stamp[1] <= self._stamp[1]:  # another file, or changed
            self._now, self._taken, self._damaged = {}, 0, False
        with self._journal.open("rb") as stream:
            stream.seek(self._taken)
            added = stream.read()
        damaged = False
        for line in added.split(b"\n"):
            try:
                label = Label(**json.loads(line)) if line.strip() else None
            except (ValueError, TypeError):
                damaged = True
                continue
            if label is not None:
                key = (folded(label.query), label.passage)
                self._now.pop(key, None)
                if label.right is not None:
                    self._now[key] = label
        # A last line without an end may be half of what another process is writing: it is read again next time.
        self._taken += added.rfind(b"\n") + 1
        self._stamp, self._stale = stamp, True
        if damaged and not self._damaged:
            log.warning("%s: lines that are not whole are left out", self._journal)
            self._damaged = True

    def _write_later(self) -> None:
        with self._lock:
            self._later = None
        try:
            self.write_out()
        except Exception as error:  # the journal has it all; the next judgement or start tries again
            log.error("%s: the files for the next run were not written: %s", self.folder, type(error).__name__)

    def _write(self, standing: Mapping[tuple[str, str], Label]) -> None:
        tested = Tested.of(self._data)
        queries: dict[str, Query] = {}
        qrels: Qrels = {}
        passages: dict[str, Passage] = {}
        judged: dict[str, Qrels] = {split: {} for split in SPLITS}
        for (asked, passage), label in standing.items():
            known = tested.queries.get(asked)
            key = known.id if known else query_id(label.query)
            queries.setdefault(key, Query(key, label.query))
            passages[passage] = Passage(
                passage, label.title, label.text, label.group, label.source
            )  # fmt: skip
            if asked not in tested.held_out:  # a model that is trained on test questions is measured on nothing
                qrels.setdefault(key, {})[passage] = int(bool(label.right))
            for split in known.splits if known else ():
                judged[split].setdefault(key, {})[passage] = int(bool(label.right))
        used = dict.fromkeys(passage for row in qrels.values() for passage in row)
        write_corpus(self.folder / "corpus.jsonl", [passages[key] for key in used])
        write_queries(self.folder / "queries.jsonl", [queries[key] for key in qrels])
        write_qrels(self.folder / "qrels" / "all.tsv", qrels)
        threshold = read_meta(self._data)[0]
        for split, rows in judged.items():
            path = self.folder / f"judgements-{split}.csv"
            if rows:
                # Right is what counts as relevant in the run's own data, however it is graded.
                graded = {key: {one: grade * threshold for one, grade in row.items()} for key, row in rows.items()}
                write_judged(path, RetrievalData(passages, queries, {}), graded)
            else:
                path.unlink(missing_ok=True)
        write_json(self.folder / "meta.json", {"relevance_threshold": 1, "evaluation": "full-corpus"})
