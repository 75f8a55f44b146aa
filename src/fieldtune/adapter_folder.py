"""What an adapter's folder says of itself: how it was made, of which base, and how texts are put to it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fieldtune.errors import InputError, ModelError
from fieldtune.workspace import file_digest, read_json, write_json

if TYPE_CHECKING:
    from torch.nn import Module

Kind = Literal["lora", "bottleneck", "query"]
RECORD = "fieldtune.json"
PEFT_CONFIG = "adapter_config.json"
_SAMPLED = 1_024  # values of each tensor that are compared: enough to tell two models apart, quick for any size


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """Beside the weights of an adapter, as `fieldtune.json`."""

    method: Kind
    base: str
    """As it was given: a hub id, a folder or builtin:NAME; empty for vectors from files, unless a user wrote it in."""
    base_weights: str
    """`weights_digest` of the base model, the same however it is stored; empty for vectors from files."""
    base_fingerprint: str
    """`ResolvedModel.fingerprint` of the base: its passages' vectors are kept under it."""
    dimension: int
    query_prompt: str = ""
    passage_prompt: str = ""
    max_tokens: int = 0
    """The length that texts were cut at in training; 0 where that is not known."""


def write_record(folder: Path, record: AdapterRecord) -> None:
    write_json(folder / RECORD, asdict(record))


def read_record(folder: Path) -> AdapterRecord | None:
    """None for a PEFT adapter that another program wrote: it says nothing of its base but a name.

    Raises InputError for a damaged record.
    """
    path = folder / RECORD
    if not path.exists():
        return None
    saved = read_json(path)
    names = {field.name for field in fields(AdapterRecord)}
    try:
        return AdapterRecord(**{name: value for name, value in saved.items() if name in names})
    except (TypeError, AttributeError):
        raise InputError("not the record of an adapter", "save the adapter again", path=path) from None


def adapter_folder(path: str | Path) -> Path:
    """The adapter that is meant: the folder itself, or the one inside a tuned model or a run.

    Raises ModelError when there is none.
    """
    given = Path(path).expanduser()
    for folder in (given, given / "adapter", given / "model" / "adapter"):
        if (folder / RECORD).exists() or (folder / PEFT_CONFIG).exists():
            return folder
    raise ModelError(
        f"{given} holds no adapter" if given.exists() else f"{given} does not exist",
        f"give a folder with {RECORD} or {PEFT_CONFIG}, or a model tuned with training.method lora, adapter or query",
    )


def adapter_digest(folder: Path) -> str:
    """32 hex digits over the adapter's files: what vectors made with it are kept under."""
    whole = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".safetensors", ".bin", ".json"):
            whole.update(f"{path.name}\0{file_digest(path)}\n".encode())
    return whole.hexdigest()[:32]


def weights_digest(model: Module) -> str:
    """32 hex digits over names, shapes and a fixed sample of the values of a model's weights.

    The same for a copy that was stored in another way or place. Poolers are left out: Sentence Transformers does not
    use them, and models stored without one get a random one at each loading.
    """
    import torch

    whole = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        if "pooler" in name or not weight.is_floating_point():
            continue
        flat = weight.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // _SAMPLED)][:_SAMPLED].to("cpu", torch.float32)
        whole.update(f"{name.rpartition('model.')[2]}\0{tuple(weight.shape)}\0".encode())
        whole.update(sample.contiguous().numpy().tobytes())
    return whole.hexdigest()[:32]


def require_base(record: AdapterRecord | None, weights: str, dimension: int, folder: Path, base: str) -> None:
    """Raises ModelError when the adapter in `folder` was trained on another base than `base` with these `weights`, or,
    where nothing is known of those, does not name it: in its adapter_config.json without a record, else in that."""
    if record is None:
        _require_named(folder, base)
        return
    if record.dimension != dimension:
        raise ModelError(
            f"the adapter {folder} is for vectors of {record.dimension} dimensions, {base} makes {dimension}",
            _cure(record),
        )
    if not record.base_weights and not _same_name(record.base, base):
        named = f"and names {record.base} as its base" if record.base else "and names no base"
        raise ModelError(
            f"the adapter {folder} was trained on vectors from files, {named}: nothing tells that {base} made them",
            f"if {base} made those vectors, write this name as base into {folder / RECORD}; vectors of a closed model "
            "go through QueryAdapter.load(folder).apply(vectors)",
        )
    if record.base_weights and record.base_weights != weights:
        raise ModelError(f"the adapter {folder} was trained on another base than {base}", _cure(record))


def _require_named(folder: Path, base: str) -> None:
    """Of another program's adapter nothing but the name of its base is known; shapes fit any model of the family."""
    path = folder / PEFT_CONFIG
    saved = read_json(path)
    named = str((saved.get("base_model_name_or_path") if isinstance(saved, dict) else None) or "")
    if not _same_name(named, base):
        raise ModelError(
            f"the adapter {folder} names {named} as its base, not {base}" if named else f"{path} names no base model",
            f"load it on {named or 'its own base'}; if {base} is that very model, write this name as "
            f"base_model_name_or_path into {path}",
        )


def _same_name(one: str, other: str) -> bool:
    """Whether two names may mean one model: the same, or the same at their ends ("org/NAME", "folder/NAME")."""
    if one == other:
        return True
    folders = [Path(name).expanduser() for name in (one, other)]
    if all(folder.is_dir() for folder in folders):
        return folders[0].resolve() == folders[1].resolve()
    ends = {re.split(r"[/\\:]", name.rstrip("/\\"))[-1].lower() for name in (one, other)}
    return len(ends) == 1 and not ends & {"", "model"}  # `model` is what every run calls its own


def _cure(record: AdapterRecord) -> str:
    if not record.base:
        return "give the model whose vectors it was trained on"
    return f"load it on {record.base}, or train an adapter on this base"
