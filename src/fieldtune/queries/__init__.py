"""Queries with labels: the user's own, or made from the documents."""

from fieldtune.queries.from_file import is_generated
from fieldtune.queries.stage import gather_queries

__all__ = ["gather_queries", "is_generated"]
