"""Adapters of a tiny base as training saves them, with weights at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fieldtune.config import make_config
from fieldtune.encoding import Encoder, QueryAdapter

KINDS: dict[str, dict[str, Any]] = {
    "law": {"method": "lora"},
    "medicine": {"method": "lora", "lora": {"rank": 4, "rslora": True}},
    "finance.zh": {"method": "adapter", "bottleneck": {"placement": "houlsby", "size": 8}},
    "search": {"method": "query", "query": {"hidden": 5}},
}


def random_query_adapter(seed: int, hidden: int) -> QueryAdapter:
    draw = np.random.default_rng(seed)

    def some(*shape: int) -> np.ndarray:
        return (0.3 * draw.normal(size=shape)).astype(np.float32)

    return QueryAdapter(some(32, hidden or 32), some(32), *((some(hidden, 32), some(hidden)) if hidden else ()))


def write_tuned(base: str, name: str, folder: Path) -> Path:
    """A tuned model of this kind with its adapter beside it; its prompt for queries holds the name."""
    import torch

    from fieldtune.training.adapting import finish, prepare, save_beside

    settings, seed = KINDS[name], list(KINDS).index(name)
    encoder = Encoder.load(base, precision="fp32")
    encoder.prompts["query"] = f"query: {name.split('.')[0]} "  # prompts are part of what an adapter was trained on
    encoder.model.prompts["query"] = encoder.prompts["query"]
    prepared = prepare(encoder, make_config({"training": settings}).training, seed)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in encoder.model.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    if settings["method"] == "query":
        prepared.query_adapter = random_query_adapter(seed, 5)
    encoder = finish(encoder, prepared)
    encoder.model.save(str(folder))
    save_beside(prepared, folder)
    return folder


def write_other_base(base: str, folder: Path) -> Path:
    """A model of the same shape with other weights."""
    import torch

    from fieldtune.models import load_model

    model = load_model(base)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    model.save(str(folder))
    return folder
