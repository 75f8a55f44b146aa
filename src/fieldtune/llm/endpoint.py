"""Where an LLM is asked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from fieldtune.config import Llm
from fieldtune.errors import ConfigError

KEY_VARIABLE = "FIELDTUNE_LLM_API_KEY"
OPENAI_KEY_VARIABLE = "OPENAI_API_KEY"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An OpenAI-compatible server and what is peculiar to it."""

    base_url: str
    model: str
    key: str = field(default="", repr=False)
    identity: str = ""
    """What answers are remembered under: the address, or for a local model its weights, whatever port it got."""
    seed: int | None = None
    """Sent along where the server is known to take it."""
    most_at_once: int = 0
    """Requests that it can work on; 0 leaves it to the config."""
    least_timeout: float = 0.0
    """Seconds; a slow machine needs more than a service does."""

    @property
    def address(self) -> str:
        """As it may be told: without the password that an address can hold."""
        return re.sub(r"//[^/@]*@", "//", self.identity)

    def told(self, error: Any) -> str:
        """What a refusal says, shortened; `error` is an openai.APIStatusError."""
        body = error.body if isinstance(error.body, dict) else {}
        return self.hide(f"{error.status_code}: {body.get('message') or error.message}")[:300]

    def hide(self, text: str) -> str:
        """Without the key, which servers quote in what they complain about; in one line."""
        return " ".join((text.replace(self.key, "***") if self.key else text).split())


def remote_endpoint(settings: Llm) -> Endpoint:
    """The endpoint of the config, with the key from the environment. Raises ConfigError where none is set."""
    if not settings.base_url or not settings.model:
        raise ConfigError(
            "no LLM endpoint is set",
            'set llm.base_url and llm.model (or llm.local), or queries.from = "structure" to do without an LLM',
        )
    return Endpoint(settings.base_url, settings.model, key_for(settings.base_url), settings.base_url)


def is_openai(base_url: str) -> bool:
    """Whether an address is OpenAI's own, and not one that only looks like it."""
    parts = urlsplit(base_url)
    return parts.scheme == "https" and parts.hostname == "api.openai.com"


def key_for(base_url: str) -> str:
    """The key from the environment; that of OpenAI is for OpenAI's own address alone, whatever the config names."""
    key = os.environ.get(KEY_VARIABLE, "")
    return key or (os.environ.get(OPENAI_KEY_VARIABLE, "") if is_openai(base_url) else "")
