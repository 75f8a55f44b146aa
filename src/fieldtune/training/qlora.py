"""A base model in 4 bits, so that a large one fits on a GPU while low-rank changes of it are trained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from fieldtune.errors import FieldtuneError, MissingExtraError, ModelError
from fieldtune.models import quiet


def require_qlora(device: str) -> None:
    """Raises ModelError without a GPU, MissingExtraError without bitsandbytes: before anything is loaded or encoded."""
    if not device.startswith("cuda"):
        raise ModelError(
            f"training.method=qlora needs an NVIDIA GPU; this run is on {device}",
            "set training.method=lora: the same training over full weights, which runs anywhere",
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "qlora")


def in_four_bits(transformer: Any, folder: Path, device: str) -> Any:
    """The same model loaded anew with its matrices as NF4 with double quantisation (QLoRA, arXiv:2305.14314).

    `folder` holds its weights. Word vectors, norms and biases stay as they are. Raises ModelError where the model does
    not load so.
    """
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
    )
    try:
        with quiet():
            model = type(transformer).from_pretrained(
                folder, quantization_config=settings, device_map={"": device}, local_files_only=True
            )
    except FieldtuneError:
        raise
    except Exception as error:  # whatever transformers or bitsandbytes raise about this model and this machine
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the model cannot be loaded in 4 bits: {first}", "set training.method=lora, or use another base"
        ) from error
    return prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
