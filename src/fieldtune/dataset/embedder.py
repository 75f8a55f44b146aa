"""A larger embedding model as a teacher: its cosines of query and passage, each text encoded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Config, Model, Teacher
from fieldtune.dataset.fused_teacher import NAME as FUSED
from fieldtune.dataset.scorers import Pair
from fieldtune.encoding import Encoder, cached_vectors, paired, unrelated_spread
from fieldtune.errors import ConfigError
from fieldtune.hub import hub_folder
from fieldtune.model_folder import is_embedding_model, most_tokens, transformer_folder
from fieldtune.models import resolve_model
from fieldtune.types import Side
from fieldtune.workspace import read_jsonl, write_jsonl

KIND = "embedder"
"""What teacher.json calls it."""
SPREAD = "spread of unrelated texts"
"""Of its cosines, in teacher.json: its own temperature follows from it."""


@dataclass(frozen=True, slots=True)
class Cosines:
    values: list[float]
    """In the order of the pairs."""
    distinct: int
    """Different pairs among them."""
    cut: int
    """Different texts that are longer than the model reads."""
    texts: int
    """Different texts."""
    spread: float
    """Standard deviation between unrelated texts."""


def is_embedder(name: str) -> bool:
    """Whether a teacher of this name is an embedding model, as its folder says; a hub id is fetched."""
    if name in ("", "llm", FUSED):
        return False
    if name.startswith("builtin:"):
        return True
    path = Path(name).expanduser()
    if not path.exists():
        if name.count("/") > 1 or name.startswith((".", "~")):
            return False
        path = hub_folder(name, "give the folder of a model")
    return any(map(is_embedding_model, (path, path / "model")))  # that of a run is in it


def require_embedder(config: Config) -> None:
    """Raise ConfigError for an embedding model that is no teacher of this base model, as far as the folders tell."""
    settings = config.teacher
    if not is_embedder(settings.model):
        return
    found = resolve_model(settings.model)
    if found.fingerprint == resolve_model(config.model.base).fingerprint:
        raise ConfigError(
            f"teacher.model {settings.model} is the base model itself, which would be taught what it knows",
            "name a larger embedding model, a cross-encoder, or fused, which adds what BM25 finds",
        )
    if settings.activation != "none":
        raise ConfigError(
            f"teacher.activation={settings.activation} is for a cross-encoder; {settings.model} gives cosines",
            "leave teacher.activation at none",
        )
    most = most_tokens(found.folder)
    if settings.max_tokens and not (transformer_folder(found.folder) / "config.json").exists():
        raise ConfigError(f"{settings.model} reads texts of any length at once", "set teacher.max_tokens to 0")
    if most is not None and settings.max_tokens > most:
        raise ConfigError(
            f"teacher.max_tokens asks for {settings.max_tokens} tokens, {settings.model} reads at most {most}",
            f"set teacher.max_tokens to {most} or less; 0 keeps the model's own limit",
        )


def open_embedder(settings: Teacher) -> Encoder:
    """The embedding model that `settings` names, with its own prompts; see `require_embedder` for what fits."""
    model = Model(base=settings.model, max_tokens=settings.max_tokens)
    return Encoder.load(settings.model, settings=model, precision=settings.precision)


def cosines(encoder: Encoder, pairs: Sequence[Pair], folder: Path, seed: int) -> Cosines:
    """The cosine of each pair of query and passage; vectors are kept in `folder`, also of a run that is killed."""
    queries, passages = (list(dict.fromkeys(texts)) for texts in zip(*pairs, strict=True))
    asked, there = _vectors(encoder, queries, "query", folder), _vectors(encoder, passages, "passage", folder)
    rows = [{text: row for row, text in enumerate(texts)} for texts in (queries, passages)]
    left, right = (np.array([rows[side][pair[side]] for pair in pairs], np.int64) for side in (0, 1))
    return Cosines(
        values=[round(float(value), 6) for value in paired(asked, there, left, right)],
        distinct=len(set(zip(left.tolist(), right.tolist(), strict=True))),
        cut=_longer(encoder, queries, "query") + _longer(encoder, passages, "passage"),
        texts=len(queries) + len(passages),
        spread=unrelated_spread(asked, there, seed),
    )


def _vectors(encoder: Encoder, texts: Sequence[str], side: Side, folder: Path) -> NDArray[np.float32]:
    """Vectors (n, dim) of these texts, of which those that an earlier call for others asked for are not made again.

    What was encoded together is one set of vectors, and its texts are a line in a file: mining anew, or drawing other
    passages to be scored, brings new texts among many that are known.
    """
    model = encoder.fingerprint if side == "query" else encoder.passage_fingerprint
    path = folder / f"{side}-{model}.jsonl"
    sets = [list(map(str, row["texts"])) for _, row in read_jsonl(path)] if path.exists() else []
    known = {text for some in sets for text in some}
    if fresh := [text for text in texts if text not in known]:
        sets.append(fresh)
        write_jsonl(path, [{"texts": some} for some in sets])  # before encoding: a resumed run finds the same set
    wanted = set(texts)
    where: dict[str, int] = {}
    parts, count = [], 0
    for some in sets:
        rows = [row for row, text in enumerate(some) if text in wanted]
        if not rows:
            continue
        label = f"encoding {'queries' if side == 'query' else 'passages'} with the teacher"
        vectors = cached_vectors(encoder, some, side, folder, label=label)
        where |= {some[row]: count + place for place, row in enumerate(rows)}
        parts.append(vectors if len(rows) == len(some) else vectors[rows])
        count += len(rows)
    order = np.array([where[text] for text in texts], np.int64)
    if len(parts) == 1 and np.array_equal(order, np.arange(len(parts[0]))):
        return parts[0]
    return np.concatenate(parts)[order]


def _longer(encoder: Encoder, texts: Sequence[str], side: Side) -> int:
    """How many of the texts the model cuts."""
    return 0 if encoder.tokens is None else encoder.tokens.longer(texts, encoder.prompts[side])
