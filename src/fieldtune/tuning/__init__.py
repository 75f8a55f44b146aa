"""A small, budgeted search over the settings of training, by dev alone."""

from fieldtune.tuning.search import Found, search_settings

__all__ = ["Found", "search_settings"]
