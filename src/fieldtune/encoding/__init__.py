"""Tokens to vectors, and exact search over them: shared by mining, evaluation, index and serving."""

from fieldtune.encoding.adapters import AdaptedModel, load_adapters
from fieldtune.encoding.corpus import Encoded, corpus_is_cached, corpus_vectors, settings_for
from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.given_vectors import GivenVectors, read_both
from fieldtune.encoding.numpy_bert import NumpyEncoder, agrees_closely
from fieldtune.encoding.precision import Precision, resolve_precision
from fieldtune.encoding.proposals import cosines, nearest
from fieldtune.encoding.query_adapter import QueryAdapter
from fieldtune.encoding.query_model import with_query_adapter
from fieldtune.encoding.search import top_k
from fieldtune.encoding.shorter import shortened
from fieldtune.encoding.single import SingleEncoder, agrees
from fieldtune.encoding.spread import paired, unrelated_spread
from fieldtune.encoding.vectors import cached_vectors, is_cached, keep_vectors

__all__ = [
    "AdaptedModel",
    "Encoded",
    "Encoder",
    "GivenVectors",
    "NumpyEncoder",
    "Precision",
    "QueryAdapter",
    "SingleEncoder",
    "agrees",
    "agrees_closely",
    "cached_vectors",
    "corpus_is_cached",
    "corpus_vectors",
    "cosines",
    "is_cached",
    "keep_vectors",
    "load_adapters",
    "nearest",
    "paired",
    "read_both",
    "resolve_precision",
    "settings_for",
    "shortened",
    "top_k",
    "unrelated_spread",
    "with_query_adapter",
]
