"""A hub id to a local snapshot: from the hub when it answers, else from the hub client's own cache."""

from __future__ import annotations

import logging
from pathlib import Path

from fieldtune.errors import ModelError

log = logging.getLogger(__name__)

_SECONDS = 5.0
# Other formats of the same weights, which would multiply the download.
_UNUSED = ["onnx/*", "openvino/*", "*.onnx", "*.h5", "*.msgpack", "*.ot", "*.gguf", "*.tflite", "*.mlmodel", "coreml/*"]


def hub_folder(name: str, suggestion: str) -> Path:
    """Fetch the model's files once and return the snapshot's folder, whose name is the hub's commit.

    Raises ModelError when the hub has no such model, refuses it, or cannot be reached and the cache lacks it.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        try:
            info = HfApi().model_info(name, timeout=_SECONDS)
        except GatedRepoError:
            raise ModelError(
                f"the hub shows {name} to its approved users only", "ask there, then: hf auth login"
            ) from None
        except RepositoryNotFoundError:
            raise ModelError(
                f"{name!r} is no folder here and no model on the hub", f"check the name, or {suggestion}"
            ) from None
        files = {file.rfilename for file in info.siblings or ()}
        skipped = [*_UNUSED, "*.bin"] if any(file.endswith(".safetensors") for file in files) else _UNUSED
        return Path(snapshot_download(name, revision=info.sha, ignore_patterns=skipped))
    except ModelError:
        raise
    except Exception as error:  # offline mode, no route, a proxy's answer, a broken download: the cache may still do
        log.debug("hub: %s", error)
        try:
            return Path(snapshot_download(name, local_files_only=True))
        except (LocalEntryNotFoundError, OSError, ValueError):
            raise ModelError(
                f"{name!r} is no folder here and the hub cannot be reached ({type(error).__name__})",
                f"connect to the hub once, copy the model to a folder and give that, or {suggestion}",
            ) from None
