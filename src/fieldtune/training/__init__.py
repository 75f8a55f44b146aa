"""A base model and a dataset to a tuned model."""

from fieldtune.training.stage import tune

__all__ = ["tune"]
