"""`fieldtune export`: a model as a graph for another backend, compared with the model before it is kept."""

from __future__ import annotations

import time
from pathlib import Path

from fieldtune.beir import RetrievalData, load_beir, require_split
from fieldtune.config import Encoding
from fieldtune.encoding import Encoder
from fieldtune.encoding.checking import Check, check_retrieval, check_vectors, require_close
from fieldtune.encoding.engine import Backend, FormatSetting, require
from fieldtune.encoding.exported import RECORD, load_export, write_export
from fieldtune.encoding.fast import with_torch
from fieldtune.errors import ConfigError, InputError
from fieldtune.workspace import atomic_folder, read_json, write_json


def export(
    model: str,
    backend: Backend,
    precision: FormatSetting,
    out: Path,
    *,
    data: Path | None = None,
    split: str = "dev",
    settings: Encoding | None = None,
) -> list[str]:
    """Write `model` for a backend to the folder `out` and say how it was checked; what fails the check is not kept.

    `data` is a BEIR folder: int8 is calibrated on its passages, and nDCG@10 is compared on its `split`. Raises
    ModelError for an export that is wrong or loses more than `settings.max_loss` points, MissingExtraError for a
    backend that is not installed, InputError where `out` holds anything else than an earlier export.
    """
    settings = settings or Encoding()
    if backend == "torch":
        raise ConfigError("a model runs on torch as it is", "--backend openvino or --backend onnx")
    found = require(backend, precision)
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / RECORD).exists())):
        raise InputError("holds other things than an exported model", "give a new folder as --out", path=out)
    field = load_beir(data) if data is not None else None
    if field is not None and data is not None:
        require_split(data, field, split)
    encoder = Encoder.load(model, precision="fp32")
    texts = [] if field is None else [passage.content for passage in field.passages.values() if passage.content]
    began = time.monotonic()
    with atomic_folder(out) as folder:
        write_export(encoder, backend, found, folder, texts)
        check = _checked(encoder, folder, field, split, texts, settings)
        require_close(check, found, settings.max_loss, f"{model} on {backend} in {found}")
        record = read_json(folder / RECORD)
        write_json(folder / RECORD, record | {"check": check.as_dict() | {"split": split if field else ""}})
    return [
        *check.said(),
        *([] if field else ["nDCG@10 was not compared: that needs --data"]),
        f"{backend} {found}: {out} ({time.monotonic() - began:.0f} s)",
    ]


def _checked(
    encoder: Encoder, folder: Path, field: RetrievalData | None, split: str, texts: list[str], settings: Encoding
) -> Check:
    exact, fast = with_torch(encoder, "fp32"), load_export(folder)
    probed = check_vectors(exact, fast, texts)
    if field is None:
        return probed
    ranked = check_retrieval(
        exact, fast, field, split, queries=settings.check_queries, passages=settings.check_passages
    )
    lowest = min(probed.lowest_cosine, ranked.lowest_cosine)
    return Check(lowest, ranked.mean_cosine, ranked.queries, ranked.passages, ranked.ndcg_before, ranked.ndcg_after)
