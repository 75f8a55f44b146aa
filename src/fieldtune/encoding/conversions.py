"""Converted models in the user's cache folder, so that mining, evaluation and index do not each convert one anew."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from fieldtune.cache import cache_folder
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.engine import Backend, Format
from fieldtune.encoding.exported import FORMAT, RECORD, load_export, made_with, write_export
from fieldtune.encoding.fast import FastEncoder
from fieldtune.errors import InputError
from fieldtune.workspace import atomic_folder, digest

log = logging.getLogger(__name__)

_KEPT = 4
"""Conversions; each is as large as the model in fp32. A run has two models, and of one two engines may be measured."""


def conversion(
    encoder: Encoder, backend: Backend, precision: Format, calibration: Sequence[str] = ()
) -> FastEncoder | None:
    """The model on a backend, from the cache folder, where it is put if it is not there; the longest unused ones go.

    None where the model has no fingerprint to know it by, or the folder cannot be written. Raises as `write_export`.
    """
    if not encoder.source:
        return None
    # Another version of a converter makes another graph.
    how = [FORMAT, encoder.source, backend, precision, digest(list(calibration)), made_with(backend)]
    place = cache_folder() / "conversions" / digest(how)
    if (place / RECORD).exists():
        try:
            found = load_export(place)
            os.utime(place)
        except (InputError, OSError, RuntimeError, KeyError) as error:  # damaged, or another process takes it away
            log.warning("%s is converted anew, %s cannot be used: %s", encoder.name, place, error)
        else:
            return found
    try:
        with atomic_folder(place) as folder:
            write_export(encoder, backend, precision, folder, calibration)
        _drop_oldest(place)
        return load_export(place)
    except OSError as error:
        log.warning("the conversion of %s for %s is not kept: %s", encoder.name, backend, error)
        return None


def _drop_oldest(new: Path) -> None:
    """Leave the last used ones, and nothing of a process that was killed while it wrote."""
    others = [path for path in new.parent.iterdir() if path != new and path.is_dir()]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    kept = [path for path in others if (path / RECORD).exists() and not path.name.endswith(".tmp")][: _KEPT - 1]
    for path in others:
        # One that is being written now is young; a converter takes minutes, not hours.
        young = path.name.endswith(".tmp") and time.time() - path.stat().st_mtime < 3_600
        if path not in kept and not young:
            shutil.rmtree(path, ignore_errors=True)
