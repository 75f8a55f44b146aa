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

_FORMAT = 2
_FEW = 256
"""Texts below which nothing is measured: even a slow model is through with them soon."""
_PAYS = 60.0
"""Seconds of the simplest way from which another one may be worth its setting up."""
_TEXTS, _LEAST = 64, 8
_ROUNDS = 3
_SECONDS = 3.0
"""Of one timing by the simplest way; a slow model is timed on fewer texts."""
_EXPIRES = 3_600.0
"""Seconds after which a way that failed is tried again: what failed may have been a full disk, or a package that was
just being installed. Until then the stages of one run do not each convert the model in vain."""
FAILURES = (FieldtuneError, RuntimeError, OSError, ImportError)
"""What a way may raise that is not to be taken: an engine's own errors are RuntimeErrors."""
_PACKAGES = ("torch", "transformers", "sentence-transformers", "openvino", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Speed:
    tokens: float
    """A second."""
    setup: float = 0.0
    """Seconds before the first text."""

    def seconds(self, tokens: float) -> float:
        return self.setup + tokens / self.tokens


@dataclass(frozen=True, slots=True)
class Failure:
    """A way that could not be measured."""

    why: str
    until: float
    """Seconds since 1970: from then on it is tried again."""


Known = Mapping[str, Speed | Failure]
"""By the name of the way."""


def by_speed(
    encoder: Encoder, ways: Sequence[Way], texts: Sequence[str], folder: Path
) -> tuple[tuple[Way, ...], list[str]]:
    """The ways in the order in which they would be through with the texts, and what is to be said of those that failed.

    The first of the given ways is the simplest: alone returned where the texts are few, or encoded by it within a
    minute, and a part of every answer. What is measured is kept in the user's cache folder, so the same texts are
    encoded in the same way again; a way that failed is left out and tried again after an hour. `folder` holds
    converted graphs while they are measured.
    """
    simplest = ways[0]
    if len(ways) == 1 or len(texts) < _FEW or encoder.tokens is None:
        return (simplest,), []
    sample = _sample(texts)
    lengths = encoder.tokens.store(sample, encoder.prompts["passage"]).lengths
    tokens = float(lengths.mean()) * len(texts)
    path = cache_folder() / "engines" / f"{_key(encoder, float(lengths.mean()))}.json"
    known: dict[str, Speed | Failure] = dict(recalled(path))
    if not isinstance(known.get(simplest.name), Speed):
        known |= _measured(encoder, [simplest], sample, folder)
        _remember(path, encoder, known)
    plain = _speeds(known)[simplest.name]
    if plain.seconds(tokens) < _PAYS:
        return (simplest,), []
    missing = [way for way in ways if way.name not in known]
    if missing:
        found = _measured(encoder, [simplest, *missing], sample, folder)
        # Seconds of two days do not compare on a machine that others use; ratios within one measurement do.
        speeds = _speeds(found)
        ratio = plain.tokens / speeds.pop(simplest.name).tokens
        known |= {name: one for name, one in found.items() if isinstance(one, Failure)}
        known |= {name: Speed(speed.tokens * ratio, speed.setup) for name, speed in speeds.items()}
        _remember(path, encoder, known)
    rates = _speeds(known)
    ranked = tuple(sorted((way for way in ways if way.name in rates), key=lambda way: rates[way.name].seconds(tokens)))
    log.info(
        "%s: %d passages by %s, %.1f times as fast as %s (measured once, remembered in %s)",
        encoder.name, len(texts), ranked[0].name, rates[ranked[0].name].tokens / plain.tokens, simplest.name, path,
    )  # fmt: skip
    return ranked, [_said(way, one, path) for way in ways if isinstance(one := known[way.name], Failure)]


def _speeds(known: Known) -> dict[str, Speed]:
    return {name: one for name, one in known.items() if isinstance(one, Speed)}


def _said(way: Way, failure: Failure, path: Path) -> str:
    again = time.strftime("%H:%M", time.localtime(failure.until))
    return (
        f"Passages were not encoded by {way.name}, which failed when its speed was measured: {failure.why}. It is "
        f"tried again from {again} on, or as soon as {path} is removed."
    )


def first_line(error: BaseException) -> str:
    """What an error says, short enough for a note."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def recalled(path: Path) -> dict[str, Speed | Failure]:
    """What was measured before; nothing where there is no such file or it is damaged. Failures of long ago are gone."""
    try:
        saved = json.loads(path.read_text("utf-8"))
        if saved["format"] != _FORMAT:
            return {}
        found = {str(name): Speed(float(row["tokens"]), float(row["setup"])) for name, row in saved["ways"].items()}
        failed = {str(name): Failure(str(row["why"]), float(row["until"])) for name, row in saved["failed"].items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.info("%s cannot be read (%r): measured anew", path, error)
        return {}
    if not all(math.isfinite(one.tokens + one.setup) and one.tokens > 0 and one.setup >= 0 for one in found.values()):
        return {}
    now = time.time()  # one that lies further ahead than any expiry was written under another clock
    lately = {name: one for name, one in failed.items() if now < one.until <= now + _EXPIRES}
    return {**lately, **found}


def _remember(path: Path, encoder: Encoder, known: Known) -> None:
    ways = {name: asdict(speed) for name, speed in _speeds(known).items()}
    failed = {name: asdict(one) for name, one in known.items() if isinstance(one, Failure)}
    about = {"format": _FORMAT, "measured with": encoder.name, "machine": _machine()}
    try:
        write_json(path, {**about, "ways": ways, "failed": failed})
    except OSError as error:
        log.info("the speed of encoding is not remembered and will be measured again: %s", error)


def _measured(encoder: Encoder, ways: Sequence[Way], sample: Sequence[str], folder: Path) -> dict[str, Speed | Failure]:
    """Tokens a second of each way on the same texts, in turn, the best of some; why, for one that fails.

    Raises what the first of them, the simplest, raises.
    """
    assert encoder.tokens is not None
    failed: dict[str, Failure] = {}
    with ExitStack() as stack:
        ready: dict[Way, Encodes] = {}
        setup: dict[Way, float] = {}

        def fails(way: Way, error: Exception) -> None:
            if way is ways[0]:
                raise error
            log.warning("%s cannot encode passages with %s now: %s", encoder.name, way.name, first_line(error))
            ready.pop(way, None)
            failed[way.name] = Failure(first_line(error), time.time() + _EXPIRES)

        for way in ways:
            began = time.perf_counter()
            try:
                ready[way] = stack.enter_context(opened(encoder, way, folder))
                ready[way].encode(sample[:_LEAST], "passage")  # the first pass also sets things up
            except FAILURES as error:
                fails(way, error)
            setup[way] = time.perf_counter() - began
        began = time.perf_counter()
        ready[ways[0]].encode(sample[:_LEAST], "passage")
        each = max(1e-6, time.perf_counter() - began) / _LEAST
        chosen = sample[: max(_LEAST, int(_SECONDS / each))]
        tokens = int(encoder.tokens.store(chosen, encoder.prompts["passage"]).lengths.sum())
        took = dict.fromkeys(ready, math.inf)
        for _ in range(_ROUNDS):
            for way, encodes in list(ready.items()):
                began = time.perf_counter()
                try:
                    encodes.encode(chosen, "passage")
                except FAILURES as error:
                    fails(way, error)
                    continue
                took[way] = min(took[way], max(1e-6, time.perf_counter() - began))
    # The simplest way is there already: its model is loaded whatever is chosen.
    speeds = {way.name: Speed(tokens / took[way], 0.0 if way.backend == "model" else setup[way]) for way in ready}
    return {**failed, **speeds}


def _sample(texts: Sequence[str]) -> list[str]:
    """Texts from all over the corpus, each once: enough that every processor gets some batches."""
    size = max(_TEXTS, 8 * processors())
    return list(dict.fromkeys(texts[:: max(1, len(texts) // size)]))[:size]


def _key(encoder: Encoder, length: float) -> str:
    """Of all that decides the speed; of the weights only their shapes, so a tuned model has its base's, and of the
    texts how long they are, to a factor of two: what an engine gains differs between lines and pages."""
    shapes = sorted(
        (name, list(weight.shape), str(weight.dtype)) for name, weight in encoder.model.state_dict().items()
    )
    kinds = [type(module).__name__ for module in encoder.model.modules()]
    limit = encoder.tokens.limit if encoder.tokens else 0
    return digest([_FORMAT, _machine(), shapes, kinds, limit, encoder.precision, round(math.log2(max(1.0, length)))])


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
