"""What was spent on an LLM and may yet be: a call is started only if its answer still fits under the limit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from fieldtune.config import Llm
from fieldtune.errors import ConfigError
from fieldtune.llm.prompt import Reply

_KNOWN_AFTER = 8
"""Answers from which on their lengths tell how long the next may be."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of some calls, and what they cost in the prices of the config; 0 where it has none."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: Tokens) -> Tokens:
        return Tokens(self.prompt + other.prompt, self.completion + other.completion)

    def cost(self, settings: Llm) -> float:
        return (self.prompt * settings.price_prompt + self.completion * settings.price_completion) / 1e6


class Budget:
    """Keeps account of all that a run spends, whatever it asks for; `paid` are the answers of its earlier stages.

    Raises ConfigError for a cost limit without prices.
    """

    def __init__(self, settings: Llm, paid: Sequence[Tokens] = ()) -> None:
        if settings.max_cost and not (settings.price_prompt or settings.price_completion):
            raise ConfigError(
                "llm.max_cost is set, but no prices are",
                "set llm.price_prompt and llm.price_completion (per million tokens), or limit llm.max_tokens instead",
            )
        self._settings = settings
        self._lock = threading.Lock()
        self._spent = sum(paid, Tokens())
        self._reserved: dict[int, Tokens] = {}
        self._answers = len(paid)
        self._longest = max((tokens.completion for tokens in paid), default=0)
        self._ratio = 1.0
        self.reached = False
        """Whether a call was not made because of the limit."""

    @property
    def spent(self) -> Tokens:
        return self._spent

    def reserve(self, ticket: int, prompt: int) -> bool | None:
        """Set aside what a call may cost at most; None while calls under way may yet leave room, False if it is over.

        `prompt` is the estimate of its prompt's tokens. After the first answers, twice the longest of them is taken
        for the most that the next one can be, so that a limit is not left half unused.
        """
        with self._lock:
            most = self._settings.answer_tokens
            if self._answers >= _KNOWN_AFTER and self._longest:
                most = min(most, 2 * self._longest)
            wanted = Tokens(int(prompt * self._ratio) + 1, most)
            held = list(self._reserved.values())
            if self._fits(sum(held, self._spent + wanted)):
                self._reserved[ticket] = wanted
                return True
            if held:
                return None
            self.reached = True
            return False

    def settle(self, ticket: int, estimate: int, reply: Reply | None) -> None:
        """Book what an answer really took; without one, what was set aside is free again."""
        with self._lock:
            self._reserved.pop(ticket, None)
            if reply is None or not reply.paid or reply.cached:  # an answer that another caller got is booked by it
                return
            self._spent += Tokens(reply.prompt_tokens, reply.completion_tokens)
            self._answers += 1
            self._longest = max(self._longest, reply.completion_tokens)
            if estimate and reply.prompt_tokens:
                self._ratio = max(self._ratio, reply.prompt_tokens / estimate)

    def _fits(self, tokens: Tokens) -> bool:
        settings = self._settings
        if settings.max_tokens and tokens.total > settings.max_tokens:
            return False
        return not settings.max_cost or tokens.cost(settings) <= settings.max_cost
