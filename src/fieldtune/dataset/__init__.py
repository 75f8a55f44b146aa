"""Queries and passages to training data: a split without leaks, negatives worth learning from, in open formats."""

from fieldtune.dataset.examples import read_examples, write_examples
from fieldtune.dataset.known import HUMAN
from fieldtune.dataset.rows import training_rows
from fieldtune.dataset.stage import build_dataset

__all__ = ["HUMAN", "build_dataset", "read_examples", "training_rows", "write_examples"]
