"""What a model's folder says before anything heavy is imported: is it one, its prompts, its fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from fieldtune.cache import remembered_digest
from fieldtune.errors import ModelError
from fieldtune.installing import RUN
from fieldtune.workspace import file_digest

PLACE = "path/to/this/model"
"""What stands in a model card's code for the model; `fieldtune push` puts the repository's name there."""
_DECISIVE = (".safetensors", ".bin", ".json", ".txt", ".model", ".py")
# Families whose positions are counted from behind the padding token, so that the last ones are never reached.
_POSITIONS_AFTER_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "xmod")
_CODELESS = (".Pooling", ".Normalize", ".LayerNorm", ".Dropout", ".Dense")  # Dense alone can name code: looked at
_ADAPTED = "bottleneck_adapters.AdaptedTransformer"
# SHA-256 of fieldtune's code for bottleneck adapters as earlier versions wrote it into models.
_EARLIER = frozenset({"69a12faeb8bb25cfaec3d649f8b77c231a6fbd85e0e3948da39123b6f1bd6823"})
# Beside the weights, yet not what `SentenceTransformer(folder)` computes with.
_BESIDE = ("onnx", "openvino", "adapter", "checkpoint")


def model_folder(path: Path) -> Path:
    if not path.is_dir():
        hint = "GGUF files cannot be tuned; give the Sentence Transformers folder" if path.suffix == ".gguf" else ""
        raise ModelError(f"{path} is a file, not a model folder", hint or "give the folder that holds modules.json")
    for folder in (path, path / "model"):
        if (folder / "modules.json").exists():
            return folder.resolve()
    if (path / "adapter_config.json").exists():
        raise ModelError(f"{path} holds a PEFT adapter only", "merge it into its base model, or give the run's folder")
    if (path / "stages").is_dir():
        raise ModelError(f"the run {path} has no model yet", "run it to the end of training: fieldtune run CONFIG")
    if (path / "config.json").exists():
        return path.resolve()
    raise ModelError(
        f"{path} has neither modules.json nor config.json in it",
        "give a folder saved by SentenceTransformer.save, or a fieldtune run",
    )


def require_text_encoder(folder: Path, name: str) -> None:
    """Say early, before seconds of imports, that a folder is a reranker, an image model or lacks its weights."""
    inner = transformer_folder(folder)
    if (folder / "modules.json").exists() and not (inner / "config.json").exists():
        return  # static embeddings and the like: Sentence Transformers knows
    config = _read(inner / "config.json")
    kinds = [str(kind) for kind in config.get("architectures") or ()]
    if not (folder / "modules.json").exists() and any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(f"{name} is a reranker or classifier ({kinds[0]}), not a text encoder", "give its base model")
    if "vocab_size" not in config and "text_config" not in config and "auto_map" not in config:
        what = config.get("model_type", "an unknown kind of model")
        raise ModelError(f"{name} is {what}, not a text encoder", "give a model that embeds text")
    if not any(entry.suffix in (".safetensors", ".bin") for entry in inner.iterdir()):
        raise ModelError(f"{name} has no weights (model.safetensors) in {inner}", "save or fetch the model again")


def transformer_folder(folder: Path) -> Path:
    """Where the first module lies: the folder itself, or (older models) its `0_Transformer`."""
    modules = _read(folder / "modules.json", list) if (folder / "modules.json").exists() else []
    first = modules[0] if modules and isinstance(modules[0], dict) else {}
    return folder / str(first.get("path") or "")


def carries(folder: Path) -> tuple[bool, bool]:
    """Whether a layer for queries alone stands behind the first module, and whether that has bottleneck adapters."""
    modules = _read(folder / "modules.json", list) if (folder / "modules.json").exists() else []
    found = [module for module in modules if isinstance(module, dict)]
    paths = [folder / str(module.get("path")) / "router_config.json" for module in found[1:]]
    routed = any("query" in _read(path).get("structure", {}) for path in paths if path.exists())
    return routed, bool(found) and found[0].get("type") == _ADAPTED


def has_own_code_alone(folder: Path) -> bool:
    """Whether the only code that loading runs is fieldtune's own for bottleneck adapters, unchanged to the byte: as it
    is now, or as a model saved by an earlier version has it."""
    copy = folder / "bottleneck_adapters.py"
    if not copy.exists() or not (folder / "modules.json").exists():
        return False
    if (found := file_digest(copy)) != file_digest(Path(__file__).with_name(copy.name)) and found not in _EARLIER:
        return False
    modules = [module for module in _read(folder / "modules.json", list) if isinstance(module, dict)]
    kinds = [str(module.get("type", "")) for module in modules]
    if kinds[:1] != [_ADAPTED]:
        return False
    if not all(kind.startswith("sentence_transformers.") and kind.endswith(_CODELESS) for kind in kinds[1:]):
        return False
    for module, kind in zip(modules, kinds, strict=True):
        path = folder / str(module.get("path")) / "config.json"
        if kind.endswith(".Dense") and not str(_read(path).get("activation_function", "torch.")).startswith("torch."):
            return False
    return not any("auto_map" in path.read_text("utf-8", "replace") for path in folder.rglob("*config*.json"))


def is_embedding_model(folder: Path) -> bool:
    """Whether the folder says that it makes vectors of texts: modules.json, and not those of a reranker or a sparse
    encoder. The weights of a transformer alone say nothing of a vector."""
    if not (folder / "modules.json").exists():
        return False
    path = folder / "config_sentence_transformers.json"
    kind = _read(path).get("model_type") if path.exists() else None
    return kind in (None, "SentenceTransformer")  # models saved by older versions do not say


def saved_prompts(folder: Path) -> tuple[str, str]:
    path = folder / "config_sentence_transformers.json"
    prompts = _read(path).get("prompts") if path.exists() else None
    if not isinstance(prompts, dict):
        return "", ""
    passage = next((prompts[key] for key in ("document", "passage", "corpus") if prompts.get(key)), "")
    return str(prompts.get("query") or ""), str(passage)


def saved_sizes(folder: Path) -> tuple[int | None, int | None]:
    """The longest input in tokens and the size of the vectors, as far as the folder's settings state them."""
    inner = transformer_folder(folder)
    config, stated, tokenizer = (
        _read(inner / name) if (inner / name).exists() else {}
        for name in ("config.json", "sentence_bert_config.json", "tokenizer_config.json")
    )
    own = stated.get("max_seq_length") or tokenizer.get("model_max_length")  # the older and the newer place
    limits = [value for value in (own, most_tokens(folder)) if isinstance(value, int)]
    vectors = config.get("hidden_size")
    for module in sorted(folder.glob("*_Dense/config.json")):  # the last of them decides
        vectors = _read(module).get("out_features", vectors)
    return min(limits, default=None), vectors if isinstance(vectors, int) else None


def most_tokens(folder: Path) -> int | None:
    """The longest input that the model has positions for, whatever limit it states; None where there is no end."""
    path = transformer_folder(folder) / "config.json"
    config = _read(path) if path.exists() else {}
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    if config.get("model_type") in _POSITIONS_AFTER_PADDING:
        positions -= int(config.get("pad_token_id") or 0) + 1
    return positions


def transformer_weights(folder: Path) -> int:
    """About how many weights each token is multiplied by: those of the first module without its word vectors."""
    inner = transformer_folder(folder)
    config = _read(inner / "config.json") if (inner / "config.json").exists() else {}
    width = 2 if "16" in str(config.get("dtype") or config.get("torch_dtype") or "") else 4
    size = sum(path.stat().st_size for path in inner.glob("*.safetensors")) or sum(
        path.stat().st_size for path in inner.glob("*.bin")
    )
    words = int(config.get("vocab_size") or 0) * int(config.get("hidden_size") or 0)
    return max(0, size // width - words)


def fingerprint(folder: Path) -> str:
    """32 hex digits over the content of weights, tokenizer and settings, with their places in the folder."""
    whole = hashlib.sha256()
    for parent, folders, files in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if name != RUN and not name.startswith((".", *_BESIDE)))
        for name in sorted(files):
            path = Path(parent, name)
            if path.suffix in _DECISIVE and not name.startswith("."):
                whole.update(f"{path.relative_to(folder).as_posix()}\0{remembered_digest(path)}\n".encode())
    return whole.hexdigest()[:32]


def _read(path: Path, kind: type[Any] = dict) -> Any:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read ({error})", "save or fetch the model again") from None
    if not isinstance(value, kind):
        raise ModelError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}", "save the model again")
    return value
