"""How a request is written and its answer read: endpoints differ in what they understand and leave out."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

from fieldtune.llm.prompt import Prompt, Reply
from fieldtune.llm.tokens import estimated_tokens, prompt_tokens


@dataclass(frozen=True, slots=True)
class Form:
    """The plainest form that an endpoint needed is used from then on."""

    json: Literal["json_schema", "json_object", ""] = "json_schema"
    temperature: bool = True
    cap: Literal["max_tokens", "max_completion_tokens", ""] = "max_tokens"
    """The name under which the endpoint takes the most tokens that an answer may have."""

    def options(self, prompt: Prompt, temperature: float, cap: int) -> dict[str, Any]:
        """The request without model and messages."""
        options: dict[str, Any] = {"temperature": temperature} if self.temperature else {}
        if self.cap:
            options[self.cap] = cap
        if self.json == "json_schema":
            schema = {"name": prompt.name, "schema": dict(prompt.schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif self.json == "json_object":
            options["response_format"] = {"type": "json_object"}
        return options


def plainer(form: Form, status: int, problem: str) -> Form | None:
    """The form to try after a refusal, None where a plainer one does not exist or is not what was asked for."""
    if status not in (400, 404, 422):
        return None
    if form.temperature and "temperature" in problem.lower():
        return replace(form, temperature=False)
    if form.cap and re.search(r"max_(completion_)?tokens", problem):
        return replace(form, cap="max_completion_tokens" if form.cap == "max_tokens" else "")
    about_form = re.search(
        r"response.?format|json|schema|grammar|structured|parameter|extra|unsupported", problem, re.I
    )
    # Some servers only say "bad request"; a prompt that is too long is not helped by another form.
    vague = status != 404 and not re.search(r"context|too long|tokens|length|content|filter|policy", problem, re.I)
    if form.json and (about_form or vague):
        return replace(form, json="json_object" if form.json == "json_schema" else "")
    return None


def read_body(body: bytes, prompt: Prompt) -> Reply:
    """The text of a completion as it came in, or why there is none; what had the status of success counts as paid.

    Tokens are estimated where the endpoint does not count them.
    """
    useless = partial(Reply, "", paid=True, prompt_tokens=prompt_tokens(prompt))
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        if body.lstrip().startswith(b"{"):
            return useless("the answer broke off on the way")
        start = " ".join(body[:80].decode("utf-8", "replace").split())
        return useless(f"not a chat completion but {start!r}")
    problem = found.get("error") if isinstance(found, dict) else None
    if problem:
        told = problem.get("message") if isinstance(problem, dict) else problem
        return useless(f"error in place of an answer: {str(told)[:200]}")
    try:
        choice = found["choices"][0]
        message = choice["message"]
        text = message.get("content") or ""
    except (AttributeError, IndexError, KeyError, TypeError):
        return useless(f"not a chat completion but {' '.join(str(found)[:80].split())!r}")
    if isinstance(text, list):  # some endpoints give the content in parts
        text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
    usage = found.get("usage")
    asked, answered = (_count(usage, name) for name in ("prompt_tokens", "completion_tokens"))
    tokens = asked or prompt_tokens(prompt), answered or estimated_tokens(str(text))
    if str(text).strip():
        return Reply(str(text), "", False, *tokens, paid=True)
    reason = choice.get("finish_reason")
    told = "refused by the model" if message.get("refusal") else f"empty answer ({reason})"
    if reason != "length":
        return Reply("", told, False, *tokens, paid=True)
    told += "; the model used up llm.answer_tokens before it came to its answer"
    return Reply("", told, False, *tokens, paid=True, limit="answer_tokens")


def _count(usage: Any, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return int(value) if isinstance(value, int | float) else 0
