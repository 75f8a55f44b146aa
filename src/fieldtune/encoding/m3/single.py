"""All three kinds of vectors of queries with torch alone, as `SingleEncoder` gives the dense ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fieldtune.encoding.bert_folder import PROBES
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.m3.encode import collected, encode_m3
from fieldtune.encoding.m3.heads import load_heads, token_size
from fieldtune.encoding.m3.signals import Signals, of_states
from fieldtune.encoding.m3.stored import M3Vectors
from fieldtune.encoding.single import SingleEncoder
from fieldtune.encoding.tokens import budgeted
from fieldtune.errors import FieldtuneError, ModelError

if TYPE_CHECKING:
    from torch.nn import ModuleDict

_BUDGET = 2_048
"""Tokens of one pass."""
_CLOSE = 1e-5
"""Of the same operations on the same numbers; a rounding of one text beside another is larger in bf16."""


def ask_single(encoder: SingleEncoder, heads: ModuleDict, texts: Sequence[str]) -> M3Vectors:
    """Dense, sparse and token vectors of queries, token vectors in float32: those of `encode_m3`, of several texts up
    to the last digits of bf16. Raises ModelError for numbers that are not finite."""
    import torch

    tokens = encoder.tokenized(texts, "query")
    firsts = np.array([bool(ids) and ids[0] == encoder.first for ids in tokens], np.int64)
    lengths = np.array([len(ids) for ids in tokens], np.int64)

    def passes() -> Iterator[tuple[NDArray[np.int64], Signals]]:
        for rows in budgeted(lengths, _BUDGET):
            some = [tokens[row] for row in rows.tolist()]
            kept = torch.ones(int(lengths[rows].sum()), dtype=torch.bool)
            kept[torch.from_numpy((np.cumsum(lengths[rows]) - lengths[rows])[firsts[rows] > 0])] = False
            with torch.inference_mode():
                dense, states = encoder.states(some)
                ids = torch.tensor([number for text in some for number in text])
                counts = torch.from_numpy((lengths - firsts)[rows])
                yield rows, of_states(heads, encoder.special, dense, states[kept], ids[kept], counts)

    found = collected(passes(), lengths - firsts, encoder.dimension, token_size(heads), encoder.words, "float32")
    if found is None:
        raise ModelError("the model returned numbers that are not finite for a query", "train it again, or use fp32")
    return found


def agrees_three(folder: Path, encoder: Encoder, heads: ModuleDict, texts: Sequence[str] = ()) -> bool:
    """Whether `ask_single` gives what the loaded model gives of queries, for some probes and these texts."""
    try:
        single = SingleEncoder(folder)
        own = load_heads(folder, single.dimension)
        return all(
            _same(ask_single(single, own, [text]), encode_m3(encoder, heads, [text], "query", form="float32"))
            for text in (*PROBES, *texts)
        )
    except (FieldtuneError, OSError, LookupError, ValueError, TypeError, RuntimeError):
        return False  # not such a model; what it is does not matter


def _same(left: M3Vectors, right: M3Vectors) -> bool:
    """Of one text each."""
    if left.sparse.shape != right.sparse.shape or left.tokens.values.shape != right.tokens.values.shape:
        return False
    apart = [left.dense - right.dense, left.tokens.values - right.tokens.values, (left.sparse - right.sparse).data]
    return all(float(np.abs(part).max(initial=0)) <= _CLOSE for part in apart)
