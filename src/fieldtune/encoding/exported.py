"""A model as one graph with its pooling, for OpenVINO or ONNX Runtime, in a folder that needs no torch to run."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldtune.cache import remembered_digest
from fieldtune.encoding import onnx_engine, openvino_engine
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.engine import Backend, Engine, Format, Ids, require
from fieldtune.encoding.fast import FastEncoder
from fieldtune.encoding.tokens import Tokens, budgeted
from fieldtune.errors import InputError, ModelError
from fieldtune.workspace import digest, file_digest, read_json, write_json

if TYPE_CHECKING:
    import torch

RECORD = "fieldtune-export.json"
FORMAT = 1
_NEEDED = {"backend", "precision", "model", "fingerprint", "prompts", "max_tokens", "pad", "dimension"}
_CALIBRATED = 300
"""Texts that int8 ranges are taken from."""


def write_export(
    encoder: Encoder, backend: Backend, precision: Format, folder: Path, calibration: Sequence[str] = ()
) -> None:
    """Write the model's graph, tokenizer and record to an existing folder; `load_export` reads them.

    int8 takes the ranges of its numbers from up to 300 of the `calibration` passages. Raises ModelError for a model
    whose graph cannot be taken, and for int8 without passages.
    """
    if encoder.tokens is None or encoder.routed:
        raise ModelError(f"{encoder.name} does not take token ids alone for all texts", "it runs with torch as it is")
    if precision == "int8" and not calibration:
        raise ModelError("int8 is calibrated on your passages, and there are none", "give --data")
    require(backend, precision)
    try:
        with _quiet():
            model = _openvino_model(encoder) if backend == "openvino" else _onnx_model(encoder, folder)
            if precision == "int8":
                model = _quantised(model, encoder.tokens, encoder.prompts["passage"], calibration)
            _save(model, backend, folder)
    except ModelError:
        raise
    except Exception as error:  # whatever tracing, converting or quantising raises on an architecture it cannot do
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(
            f"{encoder.name} cannot be exported for {backend}: {first}", "the torch backend runs every model"
        ) from error
    (folder / "tokenizer.json").write_text(encoder.tokens.serialized(), "utf-8")
    record = {
        "format": FORMAT,
        "backend": backend,
        "precision": precision,
        "model": encoder.name,
        "fingerprint": encoder.fingerprint,
        "source": encoder.source,
        "prompts": encoder.prompts,
        "max_tokens": encoder.tokens.limit,
        "pad": encoder.tokens.pad,
        "dimension": encoder.dimension,
        "made_with": made_with(backend),
        "files": {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name != RECORD},
    }
    write_json(folder / RECORD, record)


def made_with(backend: Backend) -> dict[str, str]:
    """The versions of what converts a model."""
    packages = ("fieldtune", "torch", "openvino", "nncf") if backend == "openvino" else ("fieldtune", "torch", "onnx")
    return {name: version for name in packages if (version := _version(name))}


def calibration_texts(passages: Sequence[str]) -> list[str]:
    """Those that int8 takes its ranges from: up to 300, from all over the corpus."""
    return list(passages[:: max(1, len(passages) // _CALIBRATED)])[:_CALIBRATED]


def load_export(folder: Path) -> FastEncoder:
    """An encoder over an exported folder; imports no torch.

    Raises InputError for a folder that is none or of which a file has changed, MissingExtraError where its backend is
    not installed.
    """
    record = export_record(folder)
    for name, sha in record.get("files", {}).items():
        if not (folder / name).is_file() or remembered_digest(folder / name) != sha:
            raise InputError(f"{name} is not what was exported", "fieldtune export writes it again", path=folder)
    backend: Backend = record["backend"]
    precision: Format = record["precision"]
    for package in ("openvino",) if backend == "openvino" else ("onnxruntime",):
        _require_package(package)
    engine: Engine
    if backend == "openvino":
        engine = openvino_engine.OpenVinoEngine(folder, precision)
        weights = folder / "model.bin"
    else:
        engine = onnx_engine.OnnxEngine(folder, precision)
        weights = folder / onnx_engine.FILE
    tokens = Tokens((folder / "tokenizer.json").read_text("utf-8"), int(record["max_tokens"]), int(record["pad"]))
    # What int8 makes of a text depends on the passages that it was calibrated on.
    own = [record["fingerprint"], remembered_digest(weights)] if precision == "int8" else [record["fingerprint"]]
    return FastEncoder(
        engine,
        tokens,
        record["prompts"],
        name=f"{record['model']} ({backend} {precision})",
        fingerprint=digest(own),
        dimension=int(record["dimension"]),
    )


def export_record(folder: Path) -> dict[str, Any]:
    """What an exported folder says of itself. Raises InputError for a folder that is none."""
    record = read_json(folder / RECORD) if (folder / RECORD).exists() else None
    if not isinstance(record, dict) or record.get("format") != FORMAT or not record.keys() >= _NEEDED:
        raise InputError("not an exported model that this version reads", "fieldtune export writes one", path=folder)
    return record


def require_export(folder: str, max_loss: float) -> dict[str, Any]:
    """The record of an export that may encode a corpus: of a version that says which model it is of, int8 compared.

    Raises InputError for a folder that is no such thing, ModelError for int8 that nobody has compared on queries or
    that lost more than `max_loss` points.
    """
    record = export_record(Path(folder))
    if not record.get("source") or not record.get("files"):
        raise InputError("does not say which model it was made from", "export the model again", path=folder)
    check = record.get("check", {})
    if record["precision"] == "int8" and not check.get("queries"):
        raise ModelError(
            f"the int8 export {folder} was not compared with its model on queries",
            "export it again with --data, or take bf16 or fp32",
        )
    lost = 100 * (check.get("ndcg_before", 0.0) - check.get("ndcg_after", 0.0))
    if lost > max_loss:
        raise ModelError(
            f"the export {folder} loses {lost:.2f} points of nDCG@10, allowed are {max_loss:g}",
            "take a higher precision, or allow more with encoding.max_loss",
        )
    return record


def _require_package(name: str) -> None:
    from importlib.util import find_spec

    from fieldtune.errors import MissingExtraError

    if find_spec(name) is None:
        raise MissingExtraError(name, "fast")


def _pipeline(encoder: Encoder) -> torch.nn.Module:
    import torch

    class Pipeline(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = encoder.model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            features = self.model({"input_ids": input_ids, "attention_mask": attention_mask})
            return torch.nn.functional.normalize(features["sentence_embedding"].float(), dim=-1)

    return Pipeline().eval()


def _example(encoder: Encoder) -> dict[str, torch.Tensor]:
    """Texts of several lengths: a graph traced without padding would know no mask."""
    assert encoder.tokens is not None
    store = encoder.tokens.store(["a", "a b c d e f g", "a b c"])
    ids, mask = store.padded(np.arange(3), encoder.tokens.pad)
    return {"input_ids": ids, "attention_mask": mask}


def _openvino_model(encoder: Encoder) -> Any:
    import openvino

    model = openvino.convert_model(_pipeline(encoder), example_input=_example(encoder))
    for port, name in zip(model.inputs, ("input_ids", "attention_mask"), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    model.validate_nodes_and_infer_types()
    return model


def _onnx_model(encoder: Encoder, folder: Path) -> Any:
    import onnx
    import torch

    example = _example(encoder)
    batch, length = torch.export.Dim("texts", min=1), torch.export.Dim("tokens", min=2, max=encoder.tokens.limit)  # type: ignore[union-attr]
    path = folder / "traced.onnx"
    torch.onnx.export(
        _pipeline(encoder),
        (example["input_ids"], example["attention_mask"]),
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["vectors"],
        dynamic_shapes=({0: batch, 1: length}, {0: batch, 1: length}),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    model = onnx.load(str(path))
    path.unlink()
    return model


def _quantised(model: Any, tokens: Tokens, prompt: str, passages: Sequence[str]) -> Any:
    import nncf

    nncf.set_log_level(logging.ERROR)
    store = tokens.store(calibration_texts(passages), prompt)
    batches: list[dict[str, Ids]] = []
    for rows in budgeted(store.lengths, 1_024):
        ids, mask = store.padded_arrays(rows, tokens.pad)
        batches.append({"input_ids": ids, "attention_mask": mask})
    return nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches), model_type=nncf.ModelType.TRANSFORMER)


def _save(model: Any, backend: Backend, folder: Path) -> None:
    if backend == "openvino":
        import openvino

        openvino.save_model(model, str(folder / openvino_engine.FILE), compress_to_fp16=False)
    else:
        import onnx

        onnx.save(model, str(folder / onnx_engine.FILE))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the advice and progress that the converters print."""
    noisy = [logging.getLogger(name) for name in ("transformers", "torch.onnx", "onnxscript", "nncf", "openvino")]
    before = [logger.level for logger in noisy]
    try:
        for logger in noisy:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(noisy, before, strict=True):
            logger.setLevel(level)
