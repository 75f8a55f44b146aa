"""Numbers as files hold them."""

from __future__ import annotations

import math
from typing import Any


def json_ready(value: Any) -> Any:
    """JSON with numbers cut to the 6 digits that every machine agrees on, and null for what is not a number."""
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: json_ready(inner) for key, inner in value.items()}
    return [json_ready(inner) for inner in value] if isinstance(value, list | tuple) else value
