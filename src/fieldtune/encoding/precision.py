"""Which number format the hardware computes fast, found out rather than assumed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

from fieldtune.errors import ModelError

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]


@cache
def processor_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; emulated bf16 is several times slower than fp32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def resolve_precision(setting: PrecisionSetting, device: str) -> Precision:
    """Turn `auto` into what this device does in hardware.

    `device` is a torch device name such as "cpu" or "cuda:0". Raises ModelError for fp16 without a GPU.
    """
    if setting == "fp16" and not device.startswith("cuda"):
        raise ModelError(f"precision fp16 needs a GPU, the model is on {device}", "set training.precision=auto")
    if setting != "auto":
        return setting
    return "bf16" if has_bf16(device) else "fp32"


def has_bf16(device: str) -> bool:
    """Whether the device multiplies bf16 in hardware."""
    if device.startswith("cuda"):
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.startswith("cpu") and processor_has_bf16()


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Matrix products in 16 bits with fp32 weights and normalisation, or nothing at all for fp32."""
    if precision == "fp32":
        return nullcontext()
    import torch

    return torch.autocast(device.split(":")[0], torch.bfloat16 if precision == "bf16" else torch.float16)
