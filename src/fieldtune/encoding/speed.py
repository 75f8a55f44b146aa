"""How fast each way encodes here, measured once for a machine and an architecture, and remembered."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import math
import platform
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from fieldtune import __version__
from fieldtune.cache import cache_folder
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.engine import processors
from fieldtune.encoding.fast import Encodes
from fieldtune.encoding.ways import Way, opened
from fieldtune.errors import FieldtuneError
from fieldtune.workspace import digest, write_json

log = logging.getLogger(__name__)

_FORMAT = 1
_FEW = 256
"""Texts below which nothing is measured: even a slow model is through with them soon."""
_PAYS = 60.0
"""Seconds of the simplest way from which another one may be worth its setting up."""
_TEXTS, _LEAST = 64, 8
_ROUNDS = 3
_SECONDS = 3.0
"""Of one timing by the simplest way; a slow model is timed on fewer texts."""
_PACKAGES = ("torch", "transformers", "sentence-transformers", "openvino", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Speed:
    tokens: float
    """A second; 0 for a way that this model cannot go."""
    setup: float = 0.0
    """Seconds before the first text."""

    def seconds(self, tokens: float) -> float:
        return self.setup + tokens / self.tokens if self.tokens > 0 else math.inf


def by_speed(encoder: Encoder, ways: Sequence[Way], texts: Sequence[str], folder: Path) -> tuple[Way, ...]:
    """The ways in the order in which they would be through with the texts, those that cannot go it left out.

    The first of the given ways is the simplest: alone returned where the texts are few, or encoded by it within a
    minute, and a part of every answer. What is measured is kept in the user's cache folder, so the same texts are
    encoded in the same way again. `folder` holds converted graphs while they are measured.
    """
    simplest = ways[0]
    if len(ways) == 1 or len(texts) < _FEW or encoder.tokens is None:
        return (simplest,)
    sample = _sample(texts)
    lengths = encoder.tokens.store(sample, encoder.prompts["passage"]).lengths
    tokens = float(lengths.mean()) * len(texts)
    path = cache_folder() / "engines" / f"{_key(encoder)}.json"
    known = recalled(path)
    if known.get(simplest.name, Speed(0.0)).tokens <= 0:
        known |= _measured(encoder, [simplest], sample, folder)
        _remember(path, encoder, known)
    if known[simplest.name].seconds(tokens) < _PAYS:
        return (simplest,)
    missing = [way for way in ways if way.name not in known]
    if missing:
        found = _measured(encoder, [simplest, *missing], sample, folder)
        # Seconds of two days do not compare on a machine that others use; ratios within one measurement do.
        ratio = known[simplest.name].tokens / found.pop(simplest.name).tokens
        known |= {name: Speed(speed.tokens * ratio, speed.setup) for name, speed in found.items()}
        _remember(path, encoder, known)
    usable = [way for way in ways if way is simplest or known[way.name].tokens > 0]
    ranked = tuple(sorted(usable, key=lambda way: known[way.name].seconds(tokens)))
    times = known[ranked[0].name].tokens / known[simplest.name].tokens
    log.info(
        "%s: %d passages by %s, %.1f times as fast as %s (measured once, remembered in %s)",
        encoder.name, len(texts), ranked[0].name, times, simplest.name, path,
    )  # fmt: skip
    return ranked


def recalled(path: Path) -> dict[str, Speed]:
    """What was measured before; nothing where there is no such file or it is damaged."""
    try:
        saved = json.loads(path.read_text("utf-8"))
        if saved["format"] != _FORMAT:
            return {}
        found = {str(name): Speed(float(row["tokens"]), float(row["setup"])) for name, row in saved["ways"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.info("%s cannot be read (%r): measured anew", path, error)
        return {}
    sound = all(math.isfinite(one.tokens + one.setup) and min(one.tokens, one.setup) >= 0 for one in found.values())
    # The simplest way always works: without its rate the others compare with nothing.
    return found if sound and all(one.tokens > 0 for name, one in found.items() if name.startswith("model")) else {}


def _remember(path: Path, encoder: Encoder, known: Mapping[str, Speed]) -> None:
    ways = {name: asdict(speed) for name, speed in known.items()}
    try:
        write_json(path, {"format": _FORMAT, "measured with": encoder.name, "machine": _machine(), "ways": ways})
    except OSError as error:
        log.info("the speed of encoding is not remembered and will be measured again: %s", error)


def _measured(encoder: Encoder, ways: Sequence[Way], sample: Sequence[str], folder: Path) -> dict[str, Speed]:
    """Tokens a second of each way on the same texts, in turn, the best of some; 0 for one that fails."""
    assert encoder.tokens is not None
    found: dict[str, Speed] = {}
    with ExitStack() as stack:
        ready: dict[Way, Encodes] = {}
        setup: dict[Way, float] = {}
        for way in ways:
            began = time.perf_counter()
            try:
                ready[way] = stack.enter_context(opened(encoder, way, folder))
                ready[way].encode(sample[:_LEAST], "passage")  # the first pass also sets things up
            except (FieldtuneError, RuntimeError) as error:
                if way is ways[0]:
                    raise
                log.info("%s cannot encode %s: %s", way.name, encoder.name, error)
                ready.pop(way, None)
                found[way.name] = Speed(0.0)
            setup[way] = time.perf_counter() - began
        began = time.perf_counter()
        ready[ways[0]].encode(sample[:_LEAST], "passage")
        each = max(1e-6, time.perf_counter() - began) / _LEAST
        chosen = sample[: max(_LEAST, int(_SECONDS / each))]
        tokens = int(encoder.tokens.store(chosen, encoder.prompts["passage"]).lengths.sum())
        took = dict.fromkeys(ready, math.inf)
        for _ in range(_ROUNDS):
            for way, encodes in ready.items():
                began = time.perf_counter()
                encodes.encode(chosen, "passage")
                took[way] = min(took[way], max(1e-6, time.perf_counter() - began))
    # The simplest way is there already: its model is loaded whatever is chosen.
    speeds = {
        way.name: Speed(tokens / seconds, 0.0 if way.backend == "model" else setup[way])
        for way, seconds in took.items()
    }
    return found | speeds


def _sample(texts: Sequence[str]) -> list[str]:
    """Texts from all over the corpus, each once: enough that every processor gets some batches."""
    size = max(_TEXTS, 8 * processors())
    return list(dict.fromkeys(texts[:: max(1, len(texts) // size)]))[:size]


def _key(encoder: Encoder) -> str:
    """Of all that decides the speed; of the weights only their shapes, so a tuned model has its base's."""
    shapes = sorted(
        (name, list(weight.shape), str(weight.dtype)) for name, weight in encoder.model.state_dict().items()
    )
    kinds = [type(module).__name__ for module in encoder.model.modules()]
    limit = encoder.tokens.limit if encoder.tokens else 0
    return digest([_FORMAT, _machine(), shapes, kinds, limit, encoder.precision])


def _machine() -> list[str]:
    import torch

    versions = [f"fieldtune {__version__}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    count = f"{processors()} processors, {torch.get_num_threads()} threads"
    return [platform.system(), platform.machine(), _processor(), count, *versions]


def _processor() -> str:
    """Its name; machines that share a home folder may differ in it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
