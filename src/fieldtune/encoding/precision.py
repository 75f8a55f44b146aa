"""Which number format the hardware computes fast, found out rather than assumed."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal

Precision = Literal["fp32", "bf16"]


@cache
def processor_has_bf16() -> bool:
    """Whether the processor multiplies bf16 in hardware; emulated bf16 is several times slower than fp32."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("bf16"))


def resolve_precision(setting: Literal["auto", "fp32", "bf16"], device: str) -> Precision:
    """Turn `auto` into what this device does in hardware.

    `device` is a torch device name such as "cpu" or "cuda:0".
    """
    if setting != "auto":
        return setting
    if device.startswith("cuda"):
        import torch

        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if device.startswith("cpu"):
        return "bf16" if processor_has_bf16() else "fp32"
    return "fp32"


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """Matrix products in bf16 with fp32 weights and normalisation, or nothing at all for fp32."""
    if precision == "fp32":
        return nullcontext()
    import torch

    return torch.autocast(device.split(":")[0], torch.bfloat16)
