"""What test_distributed.py runs in two processes at once, and alone for comparison: `torchrun two_processes.py`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fieldtune.config import Config, make_config
from fieldtune.encoding import Encoder
from fieldtune.errors import ModelError
from fieldtune.training import loop
from fieldtune.training.adapting import prepare
from fieldtune.training.checkpoint import Progressed
from fieldtune.training.development import Development
from fieldtune.training.devices.follow import follow
from fieldtune.training.devices.orders import End, assign, tell
from fieldtune.training.devices.world import current, join
from fieldtune.training.fixed import FixedVectors
from fieldtune.training.loop import Hooks, train
from fieldtune.training.m3.fitting import put_in
from fieldtune.training.m3.hooks import with_m3
from fieldtune.training.pairs import Pairs, make_pairs
from fieldtune.training.recipe import Recipe
from fieldtune.training.session import open_session
from fieldtune.types import Example

WORDS = ["lease", "rent", "tenant", "deposit", "eviction", "contract", "breach", "damages", "notice", "fever", "cough"]
ZERO = str(Path(__file__).parent.parent.parent / "examples" / "cluster" / "zero{}.json")


def rows() -> list[Example]:
    """Queries of unequal length, with passages that several of them share or know to be right."""
    rng = np.random.default_rng(3)
    texts = [" ".join(rng.choice(WORDS, 1 + n % 11)) + f" {n}" for n in range(24)]
    return [
        Example(
            f"what {n} " + " ".join(rng.choice(WORDS, n % 7)),
            (texts[n % 20],),
            (texts[(n + 3) % 24], texts[(n + 5) % 24]),
            (0.9,),
            (0.4, 0.1 * (n % 3)),
            known=(texts[(n + 1) % 20],),  # the positive of the next query: masked, wherever that is encoded
        )
        for n in range(22)
    ]


def settings(**training: Any) -> dict[str, Any]:
    return {
        "batch_size": 22, "hard_negatives": 2, "learning_rate": 1e-3, "precision": "fp32", "max_grad_norm": 1e9,
        "epochs": 1, "evaluations": 1, "matryoshka": [32, 16],
    } | training  # fmt: skip


M3 = {"train": "both", "size": 16, "self_distillation_from": 0}
LEARNED = {"loss": "vectors", "projection": "learned", "vector_teacher": "t", "contrastive_share": 0.1}
CASES: dict[str, dict[str, Any]] = {
    "mnrl": {},
    "one text for a process": {"batch_size": 2},
    "accumulated": {"batch_size": 11, "accumulate": 2},
    "cached": {"gradient_cache": True},
    "dropout off, checkpointed": {"gradient_checkpointing": True},
    "symmetric": {"loss": "symmetric"},
    "gte": {"loss": "gte"},
    "kl": {"loss": "kl"},
    "triplet": {"loss": "triplet"},
    "cosent": {"loss": "cosent"},
    "guided": {"loss": "guided"},
    "guided, cached": {"loss": "guided", "gradient_cache": True},
    "learned projection": LEARNED,
    "learned projection, cached": LEARNED | {"gradient_cache": True},
    "lora": {"method": "lora", "lora": {"rank": 4}},
    "anchor": {"anchor": 1.0},
    "m3": {"m3": M3},
    "m3, cached": {"m3": M3, "gradient_cache": True},
    "m3, layers alone, own negatives": {"m3": M3 | {"train": "heads", "in_batch": False}, "gradient_cache": True},
    "m3, taught": {"m3": M3 | {"distillation": "m3_kd_loss"}, "loss": "kl"},
}
CUT: dict[str, dict[str, Any]] = {
    "fsdp": {"fsdp": True},
    "fsdp, one text for a process": {"fsdp": True, "batch_size": 2},
    "fsdp, lora": {"fsdp": True, "method": "lora", "lora": {"rank": 4}},
    "fsdp, m3": {"fsdp": True, "m3": M3},
    "fsdp, learned projection": {"fsdp": True, **LEARNED},
    "deepspeed 1": {"deepspeed": ZERO.format(1)},
    "deepspeed 2, accumulated": {"deepspeed": ZERO.format(2), "batch_size": 11, "accumulate": 2},
    "deepspeed 3": {"deepspeed": ZERO.format(3)},
    "deepspeed 3, m3": {"deepspeed": ZERO.format(3), "m3": M3},
}
SHORT = {"max_grad_norm": 0.05}  # a fraction of the first gradient's length
CLIPPED: dict[str, dict[str, Any]] = {
    "ddp": SHORT,
    "ddp, learned projection": SHORT | LEARNED,
    "fsdp": SHORT | {"fsdp": True},
    "fsdp, m3": SHORT | {"fsdp": True, "m3": M3},
    "fsdp, learned projection": SHORT | {"fsdp": True, **LEARNED},
    "deepspeed 2": SHORT | {"deepspeed": ZERO.format(2)},
    "deepspeed 3": SHORT | {"deepspeed": ZERO.format(3)},
}
HALF: dict[str, dict[str, Any]] = {
    "ddp": {"precision": "bf16", "gradient_checkpointing": True},
    "fsdp": {"precision": "bf16", "gradient_checkpointing": True, "fsdp": True},
}


FITTED: dict[str, dict[str, Any]] = {
    "ddp": {"dropout": True},
    "fsdp": {"fsdp": True},
    "zero": {"deepspeed": ZERO.format(2)},
}


def config_of(model: str, training: dict[str, Any]) -> Config:
    return make_config({"model": {"base": model}, "training": settings(**training)})


def recipe_of(config: Config) -> Recipe:
    chosen = config.training
    loss = "mnrl" if chosen.loss == "auto" else chosen.loss
    return Recipe(
        chosen,
        20.0,
        (32, 16),
        5,
        loss=loss,
        cached=chosen.gradient_cache,
        uses_scores=loss == "cosent",
        fixed=second_vectors if loss in ("guided", "vectors") else None,
    )


def second_vectors(pairs: Pairs) -> FixedVectors:
    """As a second model's, of another size: those of a query's positive are the nearest for some, not for others."""
    rng = np.random.default_rng(11)
    queries, passages = (rng.normal(size=(len(texts), 48)) for texts in (pairs.queries, pairs.passages))
    queries[pairs.query[::2]] += passages[pairs.positive[::2]]
    unit = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (queries, passages))
    return FixedVectors(*(side.astype(np.float32) for side in unit))


def made(model: str, training: dict[str, Any]) -> tuple[Config, Encoder, Recipe, Hooks]:
    config = config_of(model, training)
    encoder = Encoder.load(model, settings=config.model, precision=config.training.precision)
    prepare(encoder, config.training, config.seed)
    recipe = recipe_of(config)
    if config.training.m3.train == "none":
        return config, encoder, recipe, Hooks()
    return config, encoder, recipe, with_m3(Hooks(), put_in(encoder, config.training), recipe)


def gradient(model: str, training: dict[str, Any], work: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradient of the first step, as the optimizer sees it; called by all processes."""
    config, encoder, recipe, hooks = made(model, training)
    pairs = make_pairs(rows())
    session = open_session(encoder, pairs, recipe, work)
    if config.training.anchor:
        moved = [weight.detach() + 0.01 for weight in encoder.model.parameters()]

        def penalty() -> torch.Tensor:
            every = zip(encoder.model.parameters(), moved, strict=True)
            return torch.stack([(weight - there).square().sum() for weight, there in every]).sum()

        hooks = replace(hooks, penalty=penalty)
    session.stepper.start(session.state())
    stepper: Any = session.stepper
    found: dict[str, torch.Tensor] = {}

    def look(*_: Any, **__: Any) -> None:
        if session.objective.module is not None:
            for name, weight in session.objective.module.named_parameters():
                assert weight.grad is not None
                found[f"of the loss: {name}"] = weight.grad.clone().view(-1)
        for name, weight in stepper.encoder.model.named_parameters():
            if stepper.__class__.__name__ == "Deep":
                from deepspeed.utils import safe_get_full_grad

                part = safe_get_full_grad(weight) if weight.requires_grad else None
            else:
                part = weight.grad
                part = part.full_tensor() if hasattr(part, "full_tensor") else part
            if part is not None:
                found[name.removeprefix("module.")] = part.detach().clone().view(-1)

    if hasattr(stepper, "_engine"):
        stepper._engine.step = look
    else:
        stepper.optimizer.step = look
    size = config.training.batch_size * config.training.accumulate
    loss, _ = loop._step(session, np.arange(min(size, len(pairs))), 0, hooks)
    return loss, found


def clipped(model: str, training: dict[str, Any], work: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """Length of the first gradient before it is shortened, and how far the step moves the first process' weights.

    With so large an epsilon AdamW moves weights by the gradient itself, not by its signs whatever its length.
    """
    _, encoder, recipe, hooks = made(model, {**training, "learning_rate": 1.0, "weight_decay": 0.0})
    session = open_session(encoder, make_pairs(rows()), recipe, work)
    whole, stepper = session.state(), session.stepper
    stepper.start(whole)
    for group in stepper.optimizer.param_groups:
        group["eps"] = 1.0

    def weights() -> dict[str, torch.Tensor]:
        found = dict(encoder.model.named_parameters())
        module = session.objective.module
        found |= (
            {} if module is None else {f"of the loss: {name}": weight for name, weight in module.named_parameters()}
        )
        return {name: weight.detach().clone() for name, weight in found.items()}

    before = weights()
    loop._step(session, np.arange(len(session.pairs)), 0, hooks)
    stepper.collect(whole, 1)
    return stepper.norm, {name: before[name] - weight for name, weight in weights().items()}


def fitted(model: str, training: dict[str, Any], work: Path, *, kill_at: int = 0) -> tuple[Encoder, Progressed]:
    """A whole training as the first process leads it; `kill_at` stops it before that step."""
    config, encoder, recipe, hooks = made(model, {"epochs": 3, "batch_size": 6, "evaluations": 3} | training)
    assign(config)
    texts = [row.pos[0] for row in rows()]
    dev = Development([row.query for row in rows()], texts, [{n: 1} for n in range(len(texts))], 1, True)
    real = loop._step

    def stopping(session: Any, batch: Any, number: int, hooks: Any) -> tuple[float, float]:
        loss, penalty = real(session, batch, number, hooks)  # the others take the step too
        return (float("nan") if kill_at and number == kill_at else loss), penalty

    loop._step = stopping
    try:
        return encoder, train(encoder, make_pairs(rows()), recipe, dev, work, "k", hooks)
    finally:
        loop._step = real


def main(model: str, out: Path) -> None:
    world = join()
    assert world is not None and current() is world
    there = importlib.util.find_spec("deepspeed") is not None
    for name, training in {**CASES, **CUT}.items():
        if "deepspeed" in training and not there:
            continue
        loss, found = gradient(model, training, out / "work")
        torch.save((loss, found), out / f"{name}-{world.rank}.pt")
    for name, training in CLIPPED.items():
        if "deepspeed" in training and not there:
            continue
        torch.save(clipped(model, training, out / "work"), out / f"{name}-clipped-{world.rank}.pt")
    for name, training in HALF.items():
        torch.save(gradient(model, training, out / "work"), out / f"{name}-half-{world.rank}.pt")
    if world.rank:
        code = follow(world)
        (out / "followed.json").write_text(json.dumps(code))
        world.gathered(None)
        os._exit(0)
    for name, training in FITTED.items():
        if "deepspeed" in training and not there:
            continue
        encoder, state = fitted(model, training, out / f"{name}-whole")
        try:
            fitted(model, {**training, "checkpoint_seconds": 1e-6}, out / f"{name}-cut", kill_at=7)
        except ModelError as error:
            assert "loss is nan" in error.message
        again, _ = fitted(model, {**training, "checkpoint_seconds": 1e-6}, out / f"{name}-cut")
        torch.save((encoder.model.state_dict(), again.model.state_dict(), state.log), out / f"{name}-fitted.pt")
    tell(End(7))
    world.gathered(None)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
