"""A Sentence Transformers model as a fast function from texts to unit vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.adapter_folder import read_record
from fieldtune.encoding import packed
from fieldtune.encoding.feeding import all_of, in_blocks, tokenised
from fieldtune.encoding.lane import aside
from fieldtune.encoding.precision import PrecisionSetting, autocast, resolve_precision
from fieldtune.encoding.tokens import Tokens, TokenStore, budgeted, encodable
from fieldtune.errors import ModelError
from fieldtune.models import load_model, resolve_model
from fieldtune.types import Side
from fieldtune.workspace import digest

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

    from fieldtune.config import Model

# Padded tokens per forward pass. On a processor a small batch stays in its cache (measured with MiniLM: 2,048 tokens
# are 1.2 times as fast as 4,096 and 1.8 times as fast as 16,384); a GPU wants to be filled.
_BUDGET = {"cpu": 2_048, "cuda": 65_536}
_WHOLE = 1_000  # texts at once for a model that does its own tokenising


class Encoder:
    """Encodes queries and passages with the prompts, pooling and length limit that the model's folder states."""

    def __init__(
        self,
        model: SentenceTransformer,
        *,
        name: str = "",
        fingerprint: str = "",
        precision: PrecisionSetting = "auto",
        passage_fingerprint: str = "",
        tokens: Tokens | None = None,
        shares_weights: bool = False,
    ) -> None:
        """`tokens` of a model that shares its tokenizer with another, whose copy would take much memory."""
        self.model = model.eval()
        self.shares_weights = shares_weights
        """With a base model: copies of this one would not be what its adapter costs."""
        self.routed = has_query_route(model)
        """Queries go another way through the model than passages."""
        self.name = name
        self.device = str(model.device)
        self.precision = resolve_precision(precision, self.device)
        self.dimension = int(model.get_embedding_dimension() or 0)
        self.prompts: dict[Side, str] = {
            "query": _prompt(model, "query"),
            "passage": _prompt(model, "document", "passage", "corpus"),
        }
        # Only a plain encoder with a fast tokenizer takes ready-made token ids; others go through model.encode.
        self.tokens = (tokens or Tokens.of(model)) if takes_token_ids(model) else None
        longest = model.max_seq_length or 0  # infinite in static models
        limit = int(longest) if math.isfinite(longest) else 0
        self.source = digest([fingerprint, self.prompts, limit]) if fingerprint else ""
        """Of the model alone, whatever it computes on and in; empty where nobody said what it is."""
        how = [self.precision, limit, self.device.split(":")[0]]
        self.fingerprint = digest([fingerprint, self.prompts, *how])
        self.passage_fingerprint = digest([passage_fingerprint or fingerprint, self.prompts["passage"], *how])
        """As `fingerprint`, of the vectors of passages: the base's, where an adapter changes queries alone."""

    @classmethod
    def load(
        cls, name: str, *, settings: Model | None = None, precision: PrecisionSetting = "auto", trust: bool = False
    ) -> Encoder:
        """Load a hub id, local folder or builtin:NAME; `settings` may change prompts and length.

        `trust` lets code of the model's folder run, for one made of a base whose code is trusted, without the settings
        that were meant for the base: its folder states prompts and length itself.
        Raises ModelError when the model cannot be found or loaded.
        """
        from fieldtune.config import Model

        resolved = resolve_model(name)
        own = settings or Model(trust_remote_code=trust)
        model = load_model(own.model_copy(update={"base": name}))
        passages = ""
        if has_query_route(model):  # a model tuned with method=query remembers whose passages it left as they were
            record = read_record(resolved.folder / "adapter")
            passages = record.base_fingerprint if record and record.method == "query" else ""
        return cls(
            model, name=name, fingerprint=resolved.fingerprint, precision=precision, passage_fingerprint=passages
        )

    def encode(
        self, texts: Sequence[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> NDArray[np.float32]:
        """Unit vectors, float32 (len(texts), dimension), in the order of the texts; equal texts are computed once.

        Raises ModelError if the model returns numbers that are not finite.
        """
        return all_of(partial(self.stream, side=side), texts, self.dimension, advance)

    def stream(
        self, texts: Iterable[str], side: Side, *, advance: Callable[[int], None] | None = None
    ) -> Iterator[NDArray[np.float32]]:
        """Unit vectors of however many texts, block by block in their order; memory does not grow with their number.

        While the model works on one block, the next is tokenised.
        """
        if self.tokens is None:
            for some in in_blocks(texts, _WHOLE):
                vectors = self._encode_whole(some, side)
                self._require_finite(vectors, some, side)
                if advance is not None:
                    advance(len(some))
                yield vectors
            return
        for block in tokenised(self.tokens, texts, self.prompts[side]):
            vectors, several = np.zeros((len(block.store), self.dimension), np.float32), block.several
            for rows in budgeted(block.store.lengths, _BUDGET["cuda" if self.device.startswith("cuda") else "cpu"]):
                vectors[rows] = self._pass(partial(self.forward, block.store, rows, side))
                if advance is not None:
                    advance(int(several[rows].sum()))
            self._require_finite(vectors, block.texts, side)
            yield vectors[block.where]

    def _require_finite(self, vectors: NDArray[np.float32], texts: Sequence[str], side: Side) -> None:
        damaged = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        if len(damaged):
            text = texts[int(damaged[0])]
            raise ModelError(
                f"{self.name}: the model returned a vector with NaN for the {side} {text[:80]!r}",
                "its weights are damaged, or it computes in too small a format: train again, or use fp32",
            )

    def _pass(self, forward: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        return aside(forward) if self.device.startswith("cpu") else forward()

    def forward(self, store: TokenStore, rows: NDArray[np.int64], side: Side) -> NDArray[np.float32]:
        """One pass: unit vectors (len(rows), dimension) of texts that `tokens` has tokenised with the side's prompt."""
        import torch

        assert self.tokens is not None  # encode() has checked
        with torch.inference_mode(), autocast(self.precision, self.device):
            output = embed(self.model, store, rows, self.tokens.pad, side if self.routed else None)
        unit = torch.nn.functional.normalize(output.float(), dim=-1)
        return np.asarray(unit.cpu().numpy(), np.float32)

    def _encode_whole(self, texts: list[str], side: Side) -> NDArray[np.float32]:
        encode = self.model.encode_query if side == "query" else self.model.encode_document
        whole = [encodable(text) for text in texts]
        return np.asarray(encode(whole, normalize_embeddings=True, show_progress_bar=False), np.float32)


def embed(
    model: Any, store: TokenStore, rows: NDArray[np.integer[Any]], pad: int, side: Side | None = None
) -> torch.Tensor:
    """One forward pass: the model's sentence embeddings (len(rows), dimension), in the precision of the moment.

    `side` chooses the way through a model that has one for queries and one for passages.
    """
    ids, mask = store.padded(rows, pad)
    route = {} if side is None else {"task": "query" if side == "query" else "document"}
    return packed.vectors(model, ids, mask, **route)


def has_query_route(model: SentenceTransformer) -> bool:
    """Whether a module of the model treats queries in another way than passages."""
    from sentence_transformers.sentence_transformer.modules import Router

    return any(isinstance(module, Router) and "query" in module.sub_modules for module in model)


def takes_token_ids(model: SentenceTransformer) -> bool:
    """Whether token ids and a mask say all there is to say about a text to this model."""
    from sentence_transformers.models import Pooling, Transformer

    if not isinstance(model[0], Transformer) or not getattr(model.tokenizer, "is_fast", False):
        return False
    # A pooling that leaves the prompt out needs to know the prompt's length; segment ids matter for pairs alone.
    return all(module.include_prompt for module in model if isinstance(module, Pooling))


def _prompt(model: SentenceTransformer, *names: str) -> str:
    """The first of the named prompts that the model has, else its default prompt, as encode_query and
    encode_document choose it."""
    prompts = model.prompts or {}
    for name in names:
        if prompts.get(name):
            return str(prompts[name])
    default = model.default_prompt_name
    return str(prompts.get(default) or "") if default else ""
