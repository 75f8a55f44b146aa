"""Models that score a query and a passage together: a cross-encoder, or an LLM that is asked for a grade."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fieldtune.config import Llm
from fieldtune.encoding.precision import autocast, resolve_precision
from fieldtune.encoding.tokens import budgeted, encodable
from fieldtune.errors import ModelError
from fieldtune.hub import hub_folder
from fieldtune.llm.grading import LONGEST, Rubric, grades
from fieldtune.model_folder import fingerprint
from fieldtune.workspace import digest

Pair = tuple[str, str]
"""Query and passage."""

RUBRIC = Rubric(
    "You grade how well a passage answers a search query over professional documents.",
    """10: answers the query fully and for the very case it asks about. 7: answers its main part. 4: on the subject, \
but leaves the question open. 1: shares words with it. 0: nothing to do with it. A passage about another case, \
product, year or law than the query names does not answer it.""",
    10,
)
# Padded tokens per forward pass; see encoding.encoder.
_BUDGET = {"cpu": 2_048, "cuda": 65_536}


@dataclass(frozen=True, slots=True)
class Scorer:
    """Something that scores pairs, and what there is to record about it."""

    name: str
    kind: Literal["cross-encoder", "llm"]
    fingerprint: str
    """Of whatever changes its scores."""
    scale: str
    """What a score is: "logit", "0 to 1"."""
    max_tokens: int
    """Longest query and passage together; 0 where it has no such limit."""
    precision: str
    lengths: Callable[[Sequence[Pair]], NDArray[np.int64]]
    """Of each pair, not cut: tokens of both, or for an LLM characters of the passage."""
    score: Callable[[Sequence[Pair]], Iterator[tuple[Sequence[int], Sequence[float]]]]
    """Yields (positions of pairs, their scores) as they come; NaN where there is no answer."""
    max_characters: int = 0
    """Of a passage, where the limit is one of characters: what is longer is cut."""
    unasked: list[int] = field(default_factory=list)
    """How many pairs each call of `score` left out because the spending limit was reached."""

    @property
    def reads(self) -> str:
        """What it reads of a pair, in words."""
        if self.max_characters:
            return f"{self.max_characters:,} characters of a passage"
        return f"{self.max_tokens} tokens of query and passage together"


def open_scorer(
    name: str,
    llm: Llm,
    answers: Path,
    *,
    activation: Literal["none", "sigmoid"] = "sigmoid",
    max_tokens: int = 0,
    precision: Literal["auto", "fp32", "bf16"] = "fp32",
) -> Scorer:
    """A cross-encoder by folder or hub id, or the endpoint under `llm` for the name "llm".

    An LLM's grades are 0 to 1; its answers are kept in the file `answers`, which is also the account of what was
    spent. Raises ModelError for a model that is none, and
    ConfigError when no endpoint is set.
    """
    if name == "llm":
        return _llm_scorer(llm, answers)
    return _cross_encoder(name, activation, max_tokens, precision)


def scorer_fingerprint(name: str, llm: Llm) -> str:
    """What decides a scorer's answers, apart from length and activation; reads no weights but their remembered hash."""
    if name == "llm":
        return digest(["llm", llm.local or llm.base_url, llm.model, RUBRIC.task, RUBRIC.scale, LONGEST])
    return fingerprint(_folder(name))


def _llm_scorer(settings: Llm, answers: Path) -> Scorer:
    from fieldtune.llm import open_client
    from fieldtune.llm.endpoint import remote_endpoint

    if not settings.local:
        remote_endpoint(settings)  # one that is not set is told before any work
    settings = settings.model_copy(update={"temperature": 0.0})  # a grade, not a text with variety

    unasked: list[int] = []

    def score(pairs: Sequence[Pair]) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
        unasked.append(0)
        with open_client(settings, answers) as client:
            for position, grade in grades(client, RUBRIC, [(query, [passage]) for query, passage in pairs]):
                unasked[-1] += not grade.asked
                yield [position], [math.nan if grade.value is None else grade.value / RUBRIC.highest]

    return Scorer(
        name=settings.local or settings.model,
        kind="llm",
        fingerprint=scorer_fingerprint("llm", settings),
        scale="0 to 1",
        max_tokens=0,
        precision="",
        lengths=lambda pairs: np.array([len(passage) for _, passage in pairs], np.int64),
        score=score,
        max_characters=LONGEST,
        unasked=unasked,
    )


def _cross_encoder(
    name: str,
    activation: Literal["none", "sigmoid"],
    max_tokens: int,
    wanted: Literal["auto", "fp32", "bf16"],
) -> Scorer:
    folder = _folder(name)
    model = _load(folder, name, max_tokens)
    limit = int(getattr(model, "max_length", 0) or 0)
    limit = 0 if limit > 1_000_000 else limit  # transformers' way to say that there is none
    precision = resolve_precision(wanted, str(model.device))
    lengths = _length_counter(model)

    def score(pairs: Sequence[Pair]) -> Iterator[tuple[Sequence[int], Sequence[float]]]:
        import torch

        squash = torch.nn.Sigmoid() if activation == "sigmoid" else torch.nn.Identity()
        budget = _BUDGET["cuda" if str(model.device).startswith("cuda") else "cpu"]
        padded = lengths(pairs)
        for rows in budgeted(np.minimum(padded, limit) if limit else padded, budget):
            batch = _encodable([pairs[row] for row in rows])
            with autocast(precision, str(model.device)):
                scores = model.predict(
                    batch,
                    batch_size=len(batch),
                    show_progress_bar=False,
                    activation_fn=lambda logits: squash(logits.float()),
                    convert_to_tensor=True,
                )
            yield rows.tolist(), scores.float().cpu().tolist()

    return Scorer(
        name=name,
        kind="cross-encoder",
        fingerprint=digest([fingerprint(folder), activation, limit, precision]),
        scale="logit" if activation == "none" else "0 to 1",
        max_tokens=limit,
        precision=precision,
        lengths=lengths,
        score=score,
    )


def _folder(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.exists():
        if name.count("/") > 1 or name.startswith((".", "~", "builtin:")):
            raise ModelError(f"{name!r} is neither a folder nor a hub id", "give the folder of a cross-encoder")
        return hub_folder(name, "give the folder of a cross-encoder")
    if not (path / "config.json").exists():
        raise ModelError(f"{name} has no config.json in it", "give a folder saved by CrossEncoder.save_pretrained")
    return path.resolve()


def _load(folder: Path, name: str, max_tokens: int) -> Any:
    from sentence_transformers import CrossEncoder
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        model = CrossEncoder(str(folder), max_length=max_tokens or None, local_files_only=True)
    except Exception as error:  # whatever a library raises on a folder that does not fit
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{name} cannot be loaded as a cross-encoder: {first}", "give a reranker") from error
    kinds = [str(kind) for kind in getattr(model.config, "architectures", None) or ()]
    if not any(kind.endswith(("ForSequenceClassification", "ForCausalLM")) for kind in kinds):
        # It would load, with a head of random numbers.
        raise ModelError(
            f"{name} is no cross-encoder ({', '.join(kinds) or 'of unknown kind'})",
            "give a reranker; teacher.model takes an embedding model too, if Sentence Transformers saved it",
        )
    if model.num_labels != 1:
        raise ModelError(
            f"{name} gives {model.num_labels} numbers for a pair, not one score", "give a reranker, not a classifier"
        )
    return model.eval()


def _length_counter(model: Any) -> Callable[[Sequence[Pair]], NDArray[np.int64]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda pairs: np.array(
        [len(found.ids) for found in tokenizer.encode_batch_fast(_encodable(pairs))], np.int64
    )


def _encodable(pairs: Sequence[Pair]) -> list[Pair]:
    return [(encodable(query), encodable(passage)) for query, passage in pairs]
