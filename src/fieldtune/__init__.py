"""fieldtune: a field's documents in, an embedding model that finds the right passage out, with proof."""

from __future__ import annotations

__version__ = "0.1.0"
