"""How many tokens a text has, near enough to price it: an endpoint's own tokenizer is seldom at hand."""

from __future__ import annotations

import math

import regex

from fieldtune.llm.prompt import Prompt

_WIDE = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}]")
_PER_MESSAGE = 4
"""Role and separators of a chat template."""
_CHARACTERS_PER_TOKEN = 3.6
"""Of alphabetic text: tokenizers of today's models come to 3.5 to 4.5 for English, less for names and figures."""


def estimated_tokens(text: str) -> int:
    """A token for each Chinese, Japanese or Korean character, and one for 3.6 of all others; rather too many."""
    wide = len(_WIDE.findall(text))
    return wide + math.ceil((len(text) - wide) / _CHARACTERS_PER_TOKEN)


def prompt_tokens(prompt: Prompt) -> int:
    """The estimate for a whole conversation; the schema is not counted, as most endpoints do not charge for it."""
    return sum(estimated_tokens(text) + _PER_MESSAGE for _, text in prompt.messages)
