"""All three kinds of vectors of many texts, in one pass each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.m3.heads import load_heads, token_size
from fieldtune.encoding.m3.signals import Signals, hidden_size, require_tokens, signals_of, token_counts
from fieldtune.encoding.m3.stored import M3Vectors, TokenFormat, TokenVectors, in_format, pooled
from fieldtune.encoding.tokens import budgeted
from fieldtune.errors import ModelError
from fieldtune.types import Side

if TYPE_CHECKING:
    from torch.nn import ModuleDict

_BUDGET = {"cpu": 2_048, "cuda": 32_768}  # padded tokens per pass; the states of all are kept for a moment


def m3_heads(encoder: Encoder, folder: Path) -> ModuleDict:
    """The layers in a model's folder, on the encoder's device; raises ModelError when there are none that fit."""
    return load_heads(folder, hidden_size(encoder)).to(encoder.model.device)


def encode_m3(
    encoder: Encoder,
    heads: ModuleDict,
    texts: Sequence[str],
    side: Side,
    *,
    form: TokenFormat = "float16",
    pool: int = 1,
    advance: Callable[[int], None] | None = None,
) -> M3Vectors:
    """Dense, sparse and token vectors in the order of the texts; equal texts are computed once.

    `pool` keeps about that part of a text's token vectors, for passages. Raises ModelError if the model returns numbers
    that are not finite.
    """
    import torch

    distinct = list(dict.fromkeys(texts))
    store = require_tokens(encoder).store(distinct, encoder.prompts[side])

    def passes() -> Iterator[tuple[NDArray[np.int64], Signals]]:
        for rows in budgeted(store.lengths, _BUDGET["cuda" if encoder.device.startswith("cuda") else "cpu"]):
            with torch.inference_mode():
                found = signals_of(encoder, heads, store, rows)
            yield rows, found
            if advance is not None:
                advance(len(rows))

    counts = token_counts(encoder, store, np.arange(len(distinct)))
    words = int(encoder.model.transformers_model.config.vocab_size)
    whole = collected(passes(), counts, encoder.dimension, token_size(heads), words, form, pool)
    if whole is None:
        raise ModelError(
            f"{encoder.name}: the model returned numbers that are not finite for a {side}",
            "its weights are damaged, or it computes in too small a format: train again, or use fp32",
        )
    if len(distinct) == len(texts):
        return whole
    place = {text: row for row, text in enumerate(distinct)}
    return whole.take(np.array([place[text] for text in texts], np.int64))


def collected(
    passes: Iterable[tuple[NDArray[np.int64], Signals]],
    counts: NDArray[np.int64],
    dimension: int,
    size: int,
    words: int,
    form: TokenFormat,
    pool: int = 1,
) -> M3Vectors | None:
    """What passes over some rows each gave of texts with these token counts; None where a number is not finite.

    `dimension` is that of dense vectors, `size` of token vectors, `words` of the vocabulary.
    """
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    dense = np.zeros((len(counts), dimension), np.float32)
    weights, ids = np.zeros(starts[-1], np.float32), np.zeros(starts[-1], np.int64)
    # At once in the format that is kept: as float32 the vectors of all would take two to four times the memory.
    kind: TokenFormat = form if pool == 1 else "float32"
    values = np.zeros((int(starts[-1]), size), kind)
    scales = np.zeros(int(starts[-1]) if kind == "int8" else 0, np.float32)
    for rows, found in passes:
        places = np.concatenate([np.arange(starts[row], starts[row + 1]) for row in rows])
        dense[rows] = found.dense.cpu().numpy()
        weights[places], ids[places] = found.weights.cpu().numpy(), found.ids.cpu().numpy()
        vectors = found.vectors.cpu().numpy()
        if not np.isfinite(vectors).all():
            return None
        made = in_format(vectors, starts, kind)
        values[places] = made.values
        if len(scales):
            scales[places] = made.scales
    if not all(np.isfinite(part).all() for part in (dense, weights)):
        return None
    sparse = _by_word(weights, ids, counts, max(words, int(ids.max(initial=0)) + 1))
    tokens = TokenVectors(values, scales, starts) if pool == 1 else in_format(*pooled(values, starts, pool), form)
    return M3Vectors(dense, sparse, tokens)


def _by_word(weights: NDArray[np.float32], ids: NDArray[np.int64], counts: NDArray[np.int64], vocabulary: int) -> Any:
    """(texts, vocabulary) CSR with the highest weight of each word of a text; weights of 0 are not kept."""
    from scipy.sparse import csr_matrix

    owners = np.repeat(np.arange(len(counts)), counts)
    kept = weights > 0
    keys = (owners * vocabulary + ids)[kept]
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], weights[kept][order]
    firsts = np.flatnonzero(np.diff(keys, prepend=-1))
    highest = np.maximum.reduceat(values, firsts) if len(firsts) else values
    rows, columns = np.divmod(keys[firsts], vocabulary)
    return csr_matrix((highest.astype(np.float32), (rows, columns)), shape=(len(counts), vocabulary))
