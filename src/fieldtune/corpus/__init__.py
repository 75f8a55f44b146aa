"""Documents to passages that follow the documents' own structure, duplicates found and remembered."""

from __future__ import annotations

from fieldtune.corpus.duplicates import load_duplicates
from fieldtune.corpus.segments import cleaned_text
from fieldtune.corpus.stage import build_corpus

__all__ = ["build_corpus", "cleaned_text", "load_duplicates"]
