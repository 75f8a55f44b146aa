"""What a search is limited to: checked against the columns there are, and turned into one mark per passage."""

from __future__ import annotations

import bisect
import json
import math
import re
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.errors import InputError
from fieldtune.index.columns import Kind, Mask

Where = Mapping[str, Any]
"""Column -> a value, a list of values (any of them), or {"from": x, "to": y}, both inclusive, either left out."""
_KEPT = 32
_LAST = "\U0010ffff"
_DAY = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:[T ]\d\d:\d\d.*)?)?)?")
"""A date, or the month or year of one: dates are compared as texts, and 31/12/2024 would come before all."""


class Columns:
    """The columns of an index; each is read when it is first asked for. Safe to use from several threads."""

    def __init__(self, folder: Path, kinds: Mapping[str, Kind], count: int) -> None:
        self.kinds, self._count, self._folder = dict(kinds), count, folder
        self._lock = threading.Lock()
        self._texts: dict[str, tuple[list[str], Any, Any]] = {}
        self._masks: OrderedDict[str, Mask] = OrderedDict()

    def mask(self, where: Where) -> Mask:
        """Which passages meet all conditions: (passages,).

        Raises InputError for a column that is not there, and a value of another type than the column's.
        """
        for name in where:
            if name not in self.kinds:
                raise InputError(f"there is no column {str(name)!r}", f"columns: {', '.join(self.kinds)}")
        key = json.dumps({name: where[name] for name in sorted(where)}, default=repr)
        with self._lock:
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key]
            mask = np.ones(self._count, bool)
            for name, wanted in where.items():
                mask &= self._meets(name, wanted)
            self._masks[key] = mask
            if len(self._masks) > _KEPT:
                self._masks.popitem(last=False)
            return mask

    def values(self, name: str) -> Sequence[str]:
        """The different values of a column of texts or dates, sorted; of numbers the lowest and the highest, if any."""
        if self.kinds[name] in ("number", "yes/no"):
            numbers = np.load(self._folder / f"column-{self._place(name)}.npy", mmap_mode="r")
            known = numbers[~np.isnan(numbers)]
            return [f"{end:g}" for end in (known.min(), known.max())] if len(known) else []
        with self._lock:
            return self._text_column(name)[0]

    def _meets(self, name: str, wanted: Any) -> Mask:
        kind = self.kinds[name]
        span = None
        if isinstance(wanted, Mapping):
            span = (wanted.get("from"), wanted.get("to"))
            if not wanted or set(wanted) - {"from", "to"} or span == (None, None):
                raise InputError(f"{name}: {dict(wanted)!r} is no range", 'a range has "from", "to" or both')
            if kind in ("text", "texts", "yes/no"):
                raise InputError(f"{name} is {kind} and has no ranges", "give a value or a list of values")
        several = list(wanted) if isinstance(wanted, list | tuple | set | frozenset) else [wanted]
        for value in [one for one in span if one is not None] if span else several:
            _require(name, kind, value)
        if kind in ("number", "yes/no"):
            return self._numbers(name, span, several)
        return self._strings(name, span, several)

    def _numbers(self, name: str, span: tuple[Any, Any] | None, several: Sequence[Any]) -> Mask:
        values = np.load(self._folder / f"column-{self._place(name)}.npy", mmap_mode="r")
        if span is not None:
            low, high = (-math.inf if span[0] is None else span[0]), (math.inf if span[1] is None else span[1])
            return np.asarray((values >= low) & (values <= high))
        found = np.isin(values, [float(value) for value in several if value is not None])
        return found | np.isnan(values) if None in several else found

    def _strings(self, name: str, span: tuple[Any, Any] | None, several: Sequence[Any]) -> Mask:
        values, codes, ends = self._text_column(name)
        out = np.zeros(self._count, bool)
        if span is not None:  # days of a month or year given as such belong to it, also at the end
            low = 0 if span[0] is None else bisect.bisect_left(values, span[0])
            high = len(values) if span[1] is None else bisect.bisect_right(values, span[1] + _LAST)
            chosen = np.flatnonzero((codes >= low) & (codes < high))
        else:
            places = [bisect.bisect_left(values, value) for value in several if value is not None]
            given = [value for value in several if value is not None]
            known = [at for at, value in zip(places, given, strict=True) if at < len(values) and values[at] == value]
            chosen = np.flatnonzero(np.isin(codes, known))
        out[np.searchsorted(ends, chosen, side="right") - 1] = True
        if None in several and span is None:
            out |= np.diff(ends) == 0
        return out

    def _text_column(self, name: str) -> tuple[list[str], Any, Any]:
        if name not in self._texts:
            place = self._place(name)
            values = json.loads((self._folder / f"column-{place}.json").read_text("utf-8"))
            codes = np.load(self._folder / f"column-{place}.npy", mmap_mode="r")
            self._texts[name] = values, codes, np.load(self._folder / f"column-{place}-ends.npy", mmap_mode="r")
        return self._texts[name]

    def _place(self, name: str) -> int:
        return list(self.kinds).index(name)


def _require(name: str, kind: Kind, value: Any) -> None:
    if value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {"number": number and math.isfinite(value), "yes/no": isinstance(value, bool)}.get(
        kind, isinstance(value, str)
    )
    if not fits:
        raise InputError(f"{name} is {kind}, {value!r} is not", "give a value of the column's type")
    if kind == "date" and not _DAY.fullmatch(value):
        raise InputError(f"{name} is a date, {value[:40]!r} is none", "write 2024-12-31, 2024-12 or 2024")


def parse_where(pairs: Sequence[str], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Conditions of a command line: COLUMN=VALUE, COLUMN=FROM..TO; a column named twice takes either value.

    Raises InputError for a pair that is none, an unknown column, and a value that is not of its type.
    """
    out: dict[str, Any] = {}
    for pair in pairs:
        name, is_there, text = pair.partition("=")
        if not is_there or name not in kinds:
            raise InputError(f"{pair!r} is no condition", f"COLUMN=VALUE with one of: {', '.join(kinds)}")
        first, dots, last = text.partition("..")
        if dots and kinds[name] in ("number", "date"):
            ends = {"from": first, "to": last}
            out[name] = {end: _value(name, kinds[name], value) for end, value in ends.items() if value}
        else:
            value = _value(name, kinds[name], text)
            out[name] = [*out[name], value] if isinstance(out.get(name), list) else [value]
    return out


def _value(name: str, kind: str, text: str) -> Any:
    if kind == "yes/no":
        if text.casefold() not in ("yes", "no", "true", "false"):
            raise InputError(f"{name} is yes or no, not {text!r}", f"{name}=yes or {name}=no")
        return text.casefold() in ("yes", "true")
    if kind != "number":
        return text
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{name} is a number, {text!r} is none", f"{name}=7 or {name}=3..9") from None
