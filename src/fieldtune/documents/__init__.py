"""Files to typed blocks: what stands in the user's documents, in reading order, with pages."""

from __future__ import annotations

from fieldtune.documents.read import load_documents, read_documents

__all__ = ["load_documents", "read_documents"]
