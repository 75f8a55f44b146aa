"""What building an index says to the user."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fieldtune.config import Index as Settings
from fieldtune.index.approximate import Approximate, Measured
from fieldtune.index.choose import Choice
from fieldtune.types import Passage, Result


def build_result(
    config: Settings,
    passages: Sequence[Passage],
    approximate: Approximate | None,
    costs: Measured | None,
    choice: Choice,
    meta: dict[str, Any],
) -> Result:
    """What an index is and takes, in counts and sentences."""
    size = meta["bytes_per_passage"]
    notes = [f"a passage takes {size['scanned']:,} bytes of memory in a scan, its vector {size['on disk']:,} on disk"]
    if meta["m3"]:
        about = meta["m3"]
        kept = "all kept" if about["pool"] == 1 else f"about one of {about['pool']} kept"
        notes.append(
            f"its word weights take {size['sparse']:,} bytes as inverted lists, its token vectors "
            f"{size['multi-vector']:,} ({about['tokens']}, {about['size']} numbers each, {kept}); weights of sums: "
            f"{about['weights_from']}"
        )
    if costs is not None:
        notes.append(
            f"int8: the first {config.rescore} candidates per result are scored by full vectors; {_said(costs)}"
        )
    elif approximate is None:
        notes.append(f"search compares with all {len(passages):,} passages (exact)")
    elif approximate.nprobes:
        notes.append(
            f"approximate index: {_said(approximate.measured)}, reading {approximate.nprobes} of "
            f"{approximate.partitions} lists"
        )
    else:
        notes.append(
            f"the approximate index was thrown away ({_said(approximate.measured)} with half of its lists, wanted "
            f"{config.min_recall}); search stays exact"
        )
    if choice.note:
        notes.append(choice.note)
    broken = sum(not _is_utf8(passage.content) for passage in passages)
    if broken:
        notes.append(f"{broken} passages held characters that are no valid Unicode; the index shows them as ?")
    counts = {"passages": len(passages), "dimensions": meta["dimension"], "recall@10": meta["recall@10"]}
    return Result("index", counts, notes=tuple(notes), details={"meta": meta})


def _said(measured: Measured) -> str:
    return f"recall@10 {measured.recall:.3f} against exact search on {measured.queries} {measured.queries_are}"


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
