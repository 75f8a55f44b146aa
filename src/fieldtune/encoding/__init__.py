"""Tokens to vectors, and exact search over them: shared by mining, evaluation, index and serving."""

from fieldtune.encoding.encoder import Encoder
from fieldtune.encoding.precision import Precision, resolve_precision
from fieldtune.encoding.query_adapter import QueryAdapter
from fieldtune.encoding.search import top_k
from fieldtune.encoding.vectors import cached_vectors

__all__ = ["Encoder", "Precision", "QueryAdapter", "cached_vectors", "resolve_precision", "top_k"]
