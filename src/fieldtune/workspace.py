"""A run's folder: one lock, atomic writes, a record per finished stage, an event log."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout

from fieldtune.errors import BusyError, InputError
from fieldtune.types import Result


def digest(value: Any) -> str:
    """A short stable fingerprint (16 hex digits) of any JSON-able value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary neighbour of `path` that takes its place only when the block ends without an error."""
    if path.is_dir():
        raise InputError("is a folder", "give the name of a file to write", path=path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp")
    try:
        text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with os.fdopen(handle, mode, **text) as stream:  # type: ignore[call-overload]
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A fresh folder that takes `path`'s place only when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name[:40]}.", suffix=".tmp"))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = temporary.with_name(f"{temporary.name}.old.tmp")  # goes with the leftovers if we are killed here
            os.replace(path, old)
            os.replace(temporary, path)
            shutil.rmtree(old)
        else:
            os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_json(path: Path, value: Any) -> None:
    with atomic_file(path) as stream:
        json.dump(value, stream, ensure_ascii=False, indent=2, default=str)
        stream.write("\n")


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise InputError("no such file", path=path) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(f"not valid JSON ({error})", "mend or remove the file", path=path, line=line) from None


def write_jsonl(path: Path, rows: Iterable[Any]) -> int:
    """Write one JSON object a line (dataclasses become objects) and return how many."""
    count = 0
    with atomic_file(path) as stream:
        for row in rows:
            if dataclasses.is_dataclass(row) and not isinstance(row, type):
                row = dataclasses.asdict(row)
            stream.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object); `.gz` is unpacked on the way.

    Raises InputError naming file and line for a line that is not a JSON object or not UTF-8.
    """
    opened: Callable[..., IO[bytes]] = gzip.open if path.suffix == ".gz" else open  # type: ignore[assignment]
    try:
        with opened(path, "rb") as stream:
            for number, raw in enumerate(stream, 1):
                if not raw.strip():
                    continue
                try:
                    row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
                except (json.JSONDecodeError, UnicodeDecodeError) as error:
                    raise InputError(
                        f"not valid JSON ({error})",
                        "each line must be one JSON object in UTF-8",
                        path=path,
                        line=number,
                    ) from None
                if not isinstance(row, dict):
                    raise InputError(f"expected a JSON object, found {type(row).__name__}", path=path, line=number)
                yield number, row
    except FileNotFoundError:
        raise InputError("no such file", path=path) from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"damaged gzip file ({error})", "fetch the file again", path=path) from None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a finished stage took."""

    stage: str
    seconds: float
    peak_gb: float | None = None
    """Largest resident size of the process up to its end, worker processes apart; None where it is not known."""
    peak_own: bool = False
    """Whether the stage itself reached that size; else an earlier one did, and this one stayed below."""


class Workspace:
    """The folder of one run. Use as a context manager: entering takes the lock, leaving gives it back.

    Raises BusyError when another process holds the lock; a killed process holds nothing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._lock = FileLock(root / ".lock")

    def __enter__(self) -> Workspace:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError("is a file, not a folder", "give another --out", path=self.root) from None
        except PermissionError:
            raise InputError("the folder cannot be created (no permission)", path=self.root) from None
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise BusyError(
                f"another fieldtune process is working in {self.root}",
                "wait for it to end, stop it, or give this run another folder",
            ) from None
        for leftover in self.root.rglob(".*.tmp"):  # what a killed process was in the middle of writing
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def path(self, *parts: str) -> Path:
        return self.root.joinpath(*parts)

    def event(self, kind: str, **fields: Any) -> None:
        """Append one line to events.jsonl; a line is written whole or, after a crash, cut and ignored."""
        line = json.dumps({"time": round(time.time(), 3), "event": kind, **fields}, ensure_ascii=False, default=str)
        with self.path("events.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")

    def finished(self, stage: str, fingerprint: str) -> Result | None:
        """The recorded result if the stage ended with this very fingerprint, else None."""
        path = self.path("stages", f"{stage}.json")
        if not path.exists():
            return None
        record = read_json(path)
        if record.get("fingerprint") != fingerprint:
            return None
        saved = record["result"]
        return Result(
            stage=saved["stage"],
            counts=saved["counts"],
            dropped=saved["dropped"],
            notes=tuple(saved["notes"]),
            details=saved["details"],
        )

    def forget(self, stage: str) -> None:
        """Unmark a stage that is about to run: what it leaves if it is killed belongs to no record."""
        self.path("stages", f"{stage}.json").unlink(missing_ok=True)

    def record(self, fingerprint: str, result: Result, cost: Cost) -> None:
        """Mark a stage as finished; called after its last output is in place."""
        took = {"seconds": round(cost.seconds, 3), "peak_gb": cost.peak_gb, "peak_own": cost.peak_own}
        write_json(
            self.path("stages", f"{result.stage}.json"),
            {"fingerprint": fingerprint, **took, "result": dataclasses.asdict(result)},
        )

    def costs(self, stages: Iterable[str]) -> list[Cost]:
        """What the finished ones of these stages took, in the order asked."""
        paths = {stage: self.path("stages", f"{stage}.json") for stage in stages}
        records = {stage: read_json(path) for stage, path in paths.items() if path.exists()}
        return [
            Cost(stage, float(row["seconds"]), row.get("peak_gb"), row.get("peak_own", False))
            for stage, row in records.items()
        ]

    def results(self, stages: Iterable[str]) -> list[tuple[Result, float]]:
        """The recorded results and their seconds, in the order asked, leaving out stages that have none."""
        found = []
        for stage in stages:
            path = self.path("stages", f"{stage}.json")
            if path.exists():
                record = read_json(path)
                result = self.finished(stage, record["fingerprint"])
                if result is not None:
                    found.append((result, float(record["seconds"])))
        return found
