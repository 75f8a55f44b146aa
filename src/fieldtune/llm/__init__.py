"""One client for any OpenAI-compatible endpoint, or a small model on this machine."""

from fieldtune.llm.budget import Tokens
from fieldtune.llm.client import LlmClient, open_client
from fieldtune.llm.json_answer import find_object
from fieldtune.llm.prompt import Prompt, Reply
from fieldtune.llm.tokens import estimated_tokens, prompt_tokens

__all__ = [
    "LlmClient",
    "Prompt",
    "Reply",
    "Tokens",
    "estimated_tokens",
    "find_object",
    "open_client",
    "prompt_tokens",
]
