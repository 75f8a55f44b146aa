"""How long a stage will take: from its own earlier run, from a measured rate, or from what such a machine does."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fieldtune.config import Config
from fieldtune.model_folder import transformer_weights
from fieldtune.models import resolve_model
from fieldtune.types import Result
from fieldtune.workload import Workload

Basis = Literal["as before", "measured", "rough"]

# Operations per second that the forward pass of a small encoder reaches: per processor, and on a GPU.
_PLAIN, _WITH_BF16, _GPU = 50e9, 200e9, 30e12
_TRAINING = 4
"""Times a forward pass that a token costs in training: forward, backward, and batches that are padded."""
_SECONDS_TO_LOAD = 5.0
# Work that is not the model's, in seconds per unit; seen on processors of 2024.
_PER_MEGABYTE, _PER_PASSAGE, _PER_QUERY, _PER_ROW = 0.3, 2e-4, 2e-3, 5e-5
_PROBED, _PASSES, _MOST_SECONDS = 64, 5, 3.0


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second through the base model, without gradients."""

    tokens: float
    basis: Basis
    about: str
    """What it stands on, for the user."""


@dataclass(frozen=True, slots=True)
class Estimate:
    seconds: float
    basis: Basis


def rough_speed(config: Config) -> Speed:
    """From the size of the model and the kind of machine, by order of magnitude; nothing is loaded."""
    weights = transformer_weights(resolve_model(config.model.base).folder)
    per_token = 2.0 * max(weights, 1_000_000)
    if Path("/proc/driver/nvidia/version").exists():
        return Speed(_GPU / per_token, "rough", "a GPU")
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    bf16 = _has_bf16() and config.training.precision != "fp32"
    speed = processors * (_WITH_BF16 if bf16 else _PLAIN) / per_token
    return Speed(speed, "rough", f"{processors} processors {'with' if bf16 else 'without'} bf16")


def measured_speed(config: Config, texts: Sequence[str]) -> Speed:
    """Load the base model and time it on up to 64 passages. Raises ModelError where it cannot be loaded."""
    from fieldtune.encoding import Encoder
    from fieldtune.models import token_counter

    encoder = Encoder.load(config.model.base, settings=config.model)
    stride = max(1, len(texts) // _PROBED)
    chosen = list(dict.fromkeys(texts[::stride]))[:_PROBED]
    encoder.encode(chosen[:8], "passage")  # the first call also sets things up
    limit = int(encoder.model.max_seq_length or 512)
    tokens = sum(min(limit, count) for count in token_counter(config.model.base)(chosen))
    took: list[float] = []
    while len(took) < _PASSES and sum(took) < _MOST_SECONDS:  # the best of some: what else runs only makes it slower
        began = time.perf_counter()
        encoder.encode(chosen, "passage")
        took.append(max(1e-6, time.perf_counter() - began))
    about = f"on {len(chosen)} passages, {encoder.precision} on {encoder.device}"
    if encoder.device == "cpu" and _busy():
        about += "; other work keeps this machine busy, alone it would be faster"
    return Speed(tokens / min(took), "measured", about)


def estimate(
    stage: str, work: Workload, config: Config, speed: Speed, earlier: Mapping[str, tuple[Result, float]]
) -> Estimate | None:
    """Seconds of a stage that would run; None where nothing is known to tell by.

    `earlier` holds what stages of this run said when they last ran, under whatever settings, with their seconds.
    """
    if stage in earlier:
        now, then = _size(stage, work), _earlier_size(stage, earlier)
        if now and then:
            return Estimate(earlier[stage][1] * now / then, "as before")
    if stage == "queries" and config.queries.source == "llm":
        return None  # an endpoint's speed is its own
    seconds = _seconds(stage, work, config, speed.tokens)
    return Estimate(seconds, "rough" if stage in ("documents", "corpus", "index") else speed.basis)


def _seconds(stage: str, work: Workload, config: Config, rate: float) -> float:
    passages, queries = work.passages.value, work.queries.value
    corpus, asked = work.corpus_tokens / rate, work.query_tokens / rate
    if stage == "documents":
        return work.bytes / 1e6 * _PER_MEGABYTE
    if stage == "corpus":
        return passages * _PER_PASSAGE
    if stage == "queries":
        made = config.queries.source == "structure" and config.queries.round_trip_k
        return queries * _PER_QUERY + (corpus + asked + _SECONDS_TO_LOAD if made else 0.0)
    if stage == "dataset":
        return _SECONDS_TO_LOAD + corpus + asked + queries * _PER_QUERY
    if stage == "training":
        training = config.training
        dev = training.evaluations * min(training.dev_passages, passages) * work.tokens / rate
        return _SECONDS_TO_LOAD + work.steps.value * work.step_tokens(config) * _TRAINING / rate + dev
    if stage == "evaluation":
        return 2 * _SECONDS_TO_LOAD + corpus + asked + queries * _PER_QUERY
    return _SECONDS_TO_LOAD + passages * _PER_ROW


def _size(stage: str, work: Workload) -> int:
    sizes = {"documents": work.files, "queries": work.queries.value, "training": work.steps.value}
    return sizes.get(stage, work.passages.value)


def _earlier_size(stage: str, earlier: Mapping[str, tuple[Result, float]]) -> float:
    """The same of the run before, from what its stages said."""
    name, count = {
        "documents": ("documents", "files"),
        "queries": ("queries", "queries"),
        "training": ("training", "steps"),
    }.get(stage, ("corpus", "passages"))
    return float(earlier[name][0].counts.get(count, 0)) if name in earlier else 0.0


def _busy() -> bool:
    """Whether more was running in the last minute than there are processors."""
    return hasattr(os, "getloadavg") and os.getloadavg()[0] > (os.cpu_count() or 1)


def _has_bf16() -> bool:
    """Whether the processor says that it multiplies bf16; read without loading torch, which takes seconds."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return False  # not Linux; the lower rate is the safer guess
    return any(flag in text for flag in ("avx512_bf16", "amx_bf16", " bf16"))
