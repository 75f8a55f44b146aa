"""What is asked of an LLM and what comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is sent: a conversation, and the JSON schema that the answer shall have."""

    messages: tuple[tuple[str, str], ...]
    """(role, text)."""
    schema: Mapping[str, Any]
    name: str
    """Of the schema: letters, digits and underscores."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came; `error` is set, and `text` empty, when there is none that can be used."""

    text: str
    error: str = ""
    cached: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    paid: bool = False
    """Whether the endpoint answered with success, whatever the answer is worth: it is never asked the same again."""
    asked: bool = True
    """False where the spending limit was reached before the prompt's turn came."""
    limit: str = ""
    """The setting that cut the answer short: with a higher one the same prompt is worth asking again."""
    passing: bool = False
    """Whether nothing was answered, for a reason that may pass."""
