"""Queries and passages to training data: a split without leaks, negatives worth learning from."""

from fieldtune.dataset.examples import read_examples, write_examples
from fieldtune.dataset.stage import build_dataset

__all__ = ["build_dataset", "read_examples", "write_examples"]
