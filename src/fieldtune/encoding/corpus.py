"""The vectors of a corpus, made in the way that is fastest here, and the account of which that was."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.checking import Check, check_retrieval, require_close, require_same
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.engine import FORMATS, Format
from fieldtune.encoding.exported import calibration_texts, require_export
from fieldtune.encoding.fast import Encodes, with_torch
from fieldtune.encoding.own_export import export_of, sound_export
from fieldtune.encoding.speed import by_speed, first_line
from fieldtune.encoding.vectors import cached_vectors, is_cached
from fieldtune.encoding.ways import Passages, Way, known_as, opened, ways_of, why_plain
from fieldtune.errors import ModelError
from fieldtune.workspace import digest, read_json, write_json

if TYPE_CHECKING:
    from fieldtune.beir import RetrievalData
    from fieldtune.config import Config, Encoding

log = logging.getLogger(__name__)

_CHECKS = "int8-checks.json"
"""What int8 was found to lose, by the vectors and the dev queries."""


@dataclass(frozen=True, slots=True)
class Encoded:
    vectors: NDArray[np.float32]
    """(texts, dimension), unit length, read-only memory map."""
    made_by: str
    """Backend and number format; "model" is the model as it is loaded."""
    notes: tuple[str, ...] = ()
    """For the user: what was to be tried and could not be used."""


def settings_for(config: Config, *, checked: bool = True) -> Encoding | None:
    """How a run encodes its corpus; None: by the model as it is, as the three kinds of vectors of M3 are made.

    Without `checked` there are no dev queries yet that int8 could be measured on, and it is not taken.
    """
    if config.training.m3.train != "none" or config.evaluation.m3:
        return None
    if config.encoding.precision == "int8" and not checked:
        return config.encoding.model_copy(update={"backend": "auto", "precision": "auto"})
    return config.encoding


def corpus_vectors(
    encoder: Encoder,
    texts: Sequence[str],
    folder: Path,
    settings: Encoding | None,
    *,
    label: str = "",
    dev: RetrievalData | None = None,
) -> Encoded:
    """Unit vectors of passages, kept in `folder` as `cached_vectors` keeps them, by the best way that is sound.

    A way whose vectors differ from the model's own on a sample of the texts gives its place to the next best, and a
    note says so. `settings.export` comes first where it was made from this model. int8 is calibrated on the texts and
    measured on the dev split of `dev`. Raises ModelError where int8 loses more than `settings.max_loss` or cannot be
    measured, InputError or ModelError for an export that is not sound, MissingExtraError where a named backend is not
    installed, and what the model itself raises.
    """
    other = ""
    if settings is not None and settings.export and texts:
        made, other = _by_export(encoder, texts, folder, settings, label)
        if made is not None:
            return made
    ways, notes = _ways(encoder, texts, folder, settings)
    notes += [other] if other else []
    for place, way in enumerate(ways):
        calibration = calibration_texts(texts) if way.precision == "int8" else ()
        known = known_as(encoder, way, calibration)
        done = is_cached(known, texts, "passage", folder)
        judged = _with_dev(dev) if way.precision == "int8" else None
        if judged is not None and settings is not None:  # what another limit or other dev queries let pass may not now
            done = done and _ranked_before(known, way, settings, judged, folder)
        if done or way.backend == "model":
            return Encoded(cached_vectors(known, texts, "passage", folder, label=label), way.name, tuple(notes))
        try:
            with opened(encoder, way, folder, calibration) as fast:
                if judged is not None and settings is not None:
                    _require_ranking(encoder, way, fast, settings, judged, known, folder)
                else:
                    require_same(encoder, fast, texts, way.name, "take encoding.backend=torch")
                by = known_as(encoder, way, calibration, fast)
                return Encoded(cached_vectors(by, texts, "passage", folder, label=label), way.name, tuple(notes))
        except (ModelError, RuntimeError, OSError, ImportError) as error:  # an engine's own are RuntimeErrors
            if way.precision == "int8":
                raise
            then = ways[place + 1].name
            notes.append(f"Passages were to be encoded by {way.name}, then by {then}: {first_line(error)}")
            log.warning(notes[-1])
    raise AssertionError("the model itself is the last way")


def corpus_is_cached(encoder: Encoder, texts: Sequence[str], folder: Path, settings: Encoding | None) -> bool:
    """Whether `corpus_vectors` has made them all in one of its ways."""
    ways = [Way("model", _own(encoder)), *_every(encoder, settings)]
    calibration = calibration_texts(texts)
    if settings is not None and settings.export:
        record = require_export(settings.export, settings.max_loss)
        known = known_as(encoder, Way(record["backend"], record["precision"]), [digest(record["files"])])
        if record["source"] == encoder.source and is_cached(known, texts, "passage", folder):
            return True
    return any(is_cached(known_as(encoder, way, calibration), texts, "passage", folder) for way in ways)


def _by_export(
    encoder: Encoder, texts: Sequence[str], folder: Path, settings: Encoding, label: str
) -> tuple[Encoded | None, str]:
    """The vectors by `settings.export`, or why not: it is of another model.

    Raises InputError or ModelError for an export that cannot be taken for any model, or gives other vectors than its.
    """
    record, said = export_of(encoder, settings)
    if record is None:
        return None, said
    way = Way(record["backend"], record["precision"])
    graph = digest(record["files"]) if way.precision == "int8" else ""
    known = known_as(encoder, way, [graph])
    if not is_cached(known, texts, "passage", folder):
        known = known_as(encoder, way, [graph], sound_export(encoder, record, settings, texts))
    return Encoded(cached_vectors(known, texts, "passage", folder, label=label), f"{way.name} (exported)"), ""


def _ways(
    encoder: Encoder, texts: Sequence[str], folder: Path, settings: Encoding | None
) -> tuple[tuple[Way, ...], list[str]]:
    """What to try in turn, the model itself last."""
    plain = Way("model", _own(encoder))
    if settings is None or not texts:
        return (plain,), []
    if why := why_plain(encoder):
        # Passages of a model that is another for queries alone may have been encoded with its base.
        calibration = calibration_texts(texts)
        for way in _every(encoder, settings) if encoder.routed else ():
            if is_cached(known_as(encoder, way, calibration), texts, "passage", folder):
                return (way, plain), []
        named = settings.backend != "auto" or settings.precision not in ("auto", encoder.precision)
        asked = f"encoding.backend={settings.backend} with precision {settings.precision}"
        return (plain,), [f"{encoder.name} encoded its passages itself, without {asked}: {why}."] if named else []
    ranked, notes = by_speed(encoder, ways_of(settings, encoder), texts, folder)
    return (*(way for way in ranked if way != plain), plain) if ranked[0] != plain else (plain,), notes


def _every(encoder: Encoder, settings: Encoding | None) -> list[Way]:
    """All ways but the model's own that vectors under these settings may have been made in."""
    if settings is None:
        return []
    wanted: tuple[Format, ...] = ("bf16", "fp32") if settings.precision == "auto" else (settings.precision,)
    return [
        Way(backend, precision)
        for backend, formats in FORMATS.items()
        for precision in wanted
        if precision in formats and settings.backend in ("auto", backend)
    ]


def _own(encoder: Encoder) -> Format:
    return encoder.precision  # type: ignore[return-value]  # fp16, on a GPU, is only named


def _with_dev(dev: RetrievalData | None) -> RetrievalData:
    if dev is None or not dev.positives("dev"):
        raise ModelError(
            "encoding.precision=int8 is taken only where dev queries show what it loses, and there are none",
            "take bf16, fp32 or auto, or give a dev split",
        )
    return dev


def _require_ranking(
    encoder: Encoder, way: Way, fast: Encodes, settings: Encoding, dev: RetrievalData, known: Encodes, folder: Path
) -> None:
    """The check of `fieldtune export`, with queries by the model itself, as they will be; kept beside the vectors."""
    exact = Passages(encoder, Way("torch", "fp32"), fast=with_torch(encoder, "fp32"))
    mixed = Passages(encoder, way, fast=fast)
    check = check_retrieval(exact, mixed, dev, "dev", queries=settings.check_queries, passages=settings.check_passages)
    log.info("%s of %s: %s", way.name, encoder.name, "; ".join(check.said()))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _CHECKS
    write_json(path, _checks(path) | {_check_key(known, settings, dev): check.as_dict()})
    require_close(check, way.precision, settings.max_loss, f"{encoder.name} on {way.name}")


def _ranked_before(known: Encodes, way: Way, settings: Encoding, dev: RetrievalData, folder: Path) -> bool:
    """Whether these vectors were compared on these dev queries. Raises ModelError where they lose too much."""
    found = _checks(folder / _CHECKS).get(_check_key(known, settings, dev))
    if found is not None:
        require_close(Check(**found), way.precision, settings.max_loss, f"{known.name}, as measured before,")
    return found is not None


def _checks(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}


def _check_key(known: Encodes, settings: Encoding, dev: RetrievalData) -> str:
    asked = {query: dev.queries[query].text for query in dev.qrels["dev"]}
    size = [settings.check_queries, settings.check_passages, len(dev.passages), dev.relevance_threshold]
    return digest([known.passage_fingerprint, asked, dev.qrels["dev"], size])
