"""The JSON in what models wrap it in."""

from __future__ import annotations

import json
import re
from typing import Any


def find_object(text: str) -> dict[str, Any]:
    """The JSON object in an answer that may bring thoughts, a code fence or a sentence along.

    Raises ValueError saying what is wrong.
    """
    text = re.sub(r"<think>.*?(</think>|$)", "", text, flags=re.S)
    start = re.search(r'\{\s*["}]', text)  # not the braces of prose
    if start is None:
        raise ValueError("no JSON object in it")
    try:
        found: dict[str, Any] = json.JSONDecoder(strict=False).raw_decode(text, start.start())[0]
    except json.JSONDecodeError as error:
        raise ValueError(f"broken JSON ({error.msg} at character {error.pos})") from None
    except RecursionError:
        raise ValueError("broken JSON (brackets without end)") from None
    return found
