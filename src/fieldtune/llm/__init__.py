"""One client for any OpenAI-compatible endpoint, or a small model on this machine."""

from fieldtune.llm.answers import PLACE
from fieldtune.llm.budget import Budget, Tokens
from fieldtune.llm.client import LlmClient, open_client
from fieldtune.llm.endpoint import KEY_VARIABLE
from fieldtune.llm.json_answer import find_object
from fieldtune.llm.prompt import Prompt, Reply
from fieldtune.llm.tokens import estimated_tokens, prompt_tokens

__all__ = [
    "KEY_VARIABLE",
    "PLACE",
    "Budget",
    "LlmClient",
    "Prompt",
    "Reply",
    "Tokens",
    "estimated_tokens",
    "find_object",
    "open_client",
    "prompt_tokens",
]
