"""How much there is to do in a run: counted where it can be, estimated where a stage has yet to make it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fieldtune.config import Config
from fieldtune.documents.find import extension, find_files
from fieldtune.models import resolve_model
from fieldtune.stages.inputs import given_corpus
from fieldtune.types import Result

# Share of a file's bytes that is text, as far as one may say so without reading it.
_TEXT_SHARE: Mapping[str, float] = {".pdf": 0.1, ".docx": 0.2, ".docm": 0.2, ".html": 0.4, ".htm": 0.4, ".xhtml": 0.4}
_BYTES_PER_TOKEN = 4.0
_FILLED = 0.6
"""Mean tokens of a passage as a share of the most that it may have."""
_QUERY_TOKENS = 14


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of things; `sure` when it was counted."""

    value: int
    sure: bool

    def __str__(self) -> str:
        return f"{self.value:,}" if self.sure else f"about {_rounded(self.value):,}"


@dataclass(frozen=True, slots=True)
class Workload:
    """What the stages of a run have before them."""

    files: int
    bytes: int
    passages: Amount
    tokens: float
    """Of a passage, in the mean."""
    queries: Amount
    pairs: Amount
    steps: Amount

    @property
    def corpus_tokens(self) -> float:
        return self.passages.value * self.tokens

    @property
    def query_tokens(self) -> float:
        return float(self.queries.value * _QUERY_TOKENS)

    def step_tokens(self, config: Config) -> float:
        """Tokens that go through the model in one step of training."""
        training = config.training
        hard = min(training.hard_negatives, config.negatives.per_query)
        return training.batch_size * (_QUERY_TOKENS + (1 + hard) * self.tokens)


def work_of(config: Config, finished: Mapping[str, Result]) -> Workload:
    """Count files, passages, queries, training pairs and steps.

    `finished` holds the results of stages that need not run again. Raises InputError for documents that do not exist.
    """
    given = given_corpus(config)
    if config.documents.paths:
        paths = [path for path, _ in find_files(config.documents.paths, (Path(config.out),)).files]
    else:
        paths = [given] if given is not None and given.exists() else []
    text = sum(_text_bytes(path) for path in paths)
    tokens = _passage_tokens(config, finished)
    passages = _passages(config, finished, paths, text / _BYTES_PER_TOKEN / tokens)
    queries = _queries(config, finished, passages)
    pairs = _pairs(config, finished, queries)
    steps = finished["training"].counts.get("steps") if "training" in finished else None
    return Workload(
        files=len(paths),
        bytes=sum(path.stat().st_size for path in paths),
        passages=passages,
        tokens=tokens,
        queries=queries,
        pairs=pairs,
        steps=Amount(int(steps), True) if steps is not None else planned_steps(config, pairs),
    )


def planned_steps(config: Config, pairs: Amount) -> Amount:
    """Steps of training on so many pairs; early stopping may end sooner (see `training.batches.plan`)."""
    size, epochs = config.training.batch_size * config.training.accumulate, config.training.epochs
    batches, left = divmod(pairs.value, size)
    batches += left > 0 and (left >= size // 2 or 4 * left > batches * size)
    steps = sum(max(1, round(batches * min(1.0, epochs - epoch))) for epoch in range(math.ceil(epochs)))
    return Amount(steps if batches else 0, pairs.sure)


def _text_bytes(path: Path) -> float:
    ending = extension(path.name)
    packed = 4.0 if ending.endswith(".gz") else 1.0
    return path.stat().st_size * _TEXT_SHARE.get(ending, 1.0) * packed


def _passage_tokens(config: Config, finished: Mapping[str, Result]) -> float:
    most = config.corpus.max_tokens
    limit = config.model.max_tokens or resolve_model(config.model.base).max_tokens or most
    mean = finished["corpus"].counts.get("tokens mean") if "corpus" in finished else None
    return max(1.0, min(mean if mean else most * _FILLED, limit))


def _passages(config: Config, finished: Mapping[str, Result], paths: list[Path], guess: float) -> Amount:
    if "corpus" in finished:
        return Amount(int(finished["corpus"].counts["passages"]), True)
    if paths and all(path.name in ("corpus.jsonl", "corpus.jsonl.gz") for path in paths):  # passages already
        counted = [_lines(path) for path in paths]
        return Amount(sum(counted), not config.documents.paths)  # documents may lose duplicates
    return Amount(max(1, round(guess)) if paths else 0, False)


def _queries(config: Config, finished: Mapping[str, Result], passages: Amount) -> Amount:
    if "queries" in finished:
        return Amount(int(finished["queries"].counts.get("queries", 0)), True)
    settings, source = config.queries, Path(config.queries.source)
    if settings.source in ("structure", "llm"):
        return Amount(min(settings.max_passages, passages.value) * settings.per_passage, False)
    if source.is_dir() and (source / "queries.jsonl").exists():
        return Amount(_lines(source / "queries.jsonl"), False)
    files = [source] if source.is_file() else sorted(source.glob("*")) if source.is_dir() else []
    return Amount(sum(_lines(path) for path in files if path.suffix in (".jsonl", ".csv", ".tsv")), False)


def _pairs(config: Config, finished: Mapping[str, Result], queries: Amount) -> Amount:
    if "dataset" in finished:
        return Amount(int(finished["dataset"].counts.get("training pairs", 0)), True)
    labelled = Path(config.queries.source) / "qrels" / "train.tsv"
    if config.split.keep_given and "queries" not in finished and labelled.exists():
        return Amount(max(0, _lines(labelled) - 1), False)
    held_out = 0.0 if config.queries.test else config.split.test
    return Amount(round(queries.value * (1 - config.split.dev - held_out)), False)


def _lines(path: Path) -> int:
    """Lines that are not empty."""
    import gzip

    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as stream:
        return sum(1 for line in stream if line.strip())


def _rounded(value: int) -> int:
    """Two leading digits: what an estimate may claim."""
    return int(float(f"{value:.2g}")) if value else 0
