"""Dense, sparse and multi-vectors from one pass of one encoder, in the form of BGE-M3 (arXiv:2402.03216)."""

from fieldtune.encoding.m3.cached import CachedM3, cached_m3
from fieldtune.encoding.m3.encode import encode_m3, m3_heads
from fieldtune.encoding.m3.heads import has_heads, heads_digest, load_heads, new_heads, save_heads, token_size
from fieldtune.encoding.m3.scores import WEIGHTS, Scores, multi_scores, scores, sparse_scores
from fieldtune.encoding.m3.search import by_sum, find, multi_of, sparse_top, three_scores
from fieldtune.encoding.m3.signals import Signals, hidden_size, joined, signals_of, token_counts
from fieldtune.encoding.m3.single import agrees_three, ask_single
from fieldtune.encoding.m3.stored import M3Vectors, TokenFormat, TokenVectors, together

__all__ = [
    "WEIGHTS",
    "CachedM3",
    "M3Vectors",
    "Scores",
    "Signals",
    "TokenFormat",
    "TokenVectors",
    "agrees_three",
    "ask_single",
    "by_sum",
    "cached_m3",
    "encode_m3",
    "find",
    "has_heads",
    "heads_digest",
    "hidden_size",
    "joined",
    "load_heads",
    "m3_heads",
    "multi_of",
    "multi_scores",
    "new_heads",
    "save_heads",
    "scores",
    "signals_of",
    "sparse_scores",
    "sparse_top",
    "three_scores",
    "together",
    "token_counts",
    "token_size",
]
