"""An answer that is read while an LLM writes it; what stalls or breaks off ends with an error that can be told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fieldtune.config import Llm
from fieldtune.errors import EndpointError
from fieldtune.llm.endpoint import Endpoint, is_openai, remote_endpoint
from fieldtune.llm.form import Form, plainer
from fieldtune.llm.prompt import Prompt

_SECONDS_TO_CONNECT = 10.0
_LONGEST = 100_000
_FORMS = 4


class ChatStream:
    """Asks an endpoint for one answer at a time; nothing is kept, since what people ask is theirs."""

    def __init__(self, settings: Llm, endpoint: Endpoint | None = None, *, seconds: float, stall: float) -> None:
        """`seconds` is what a whole answer may take, `stall` how long it may be silent.

        Raises ConfigError where no endpoint is set.
        """
        self._endpoint = remote_endpoint(settings) if endpoint is None else endpoint
        from openai import AsyncOpenAI, Timeout

        self.model = self._endpoint.model
        self._settings, self._seconds, self._stall = settings, seconds, stall
        self._form = Form(json="")
        self._client = AsyncOpenAI(
            base_url=self._endpoint.base_url,
            api_key=self._endpoint.key or "none",
            max_retries=1,  # a request that was refused or did not get through; never one that was being answered
            timeout=Timeout(seconds, connect=min(seconds, _SECONDS_TO_CONNECT)),
        )
        if not is_openai(self._endpoint.base_url):  # as in client.py: its identifiers are for OpenAI alone
            self._client.organization = self._client.project = None

    async def pieces(self, messages: Sequence[tuple[str, str]]) -> AsyncIterator[str]:
        """Yield the answer's text as it comes. Raises EndpointError when it does not, or not to its end."""
        end = time.monotonic() + self._seconds
        stream = await self._within(self._open(messages), end)
        length = 0
        finished = ""
        try:
            chunks = stream.__aiter__()
            while True:
                try:
                    chunk = await self._within(chunks.__anext__(), end)
                except StopAsyncIteration:
                    break
                choice = chunk.choices[0] if chunk.choices else None
                text = (choice.delta.content or "") if choice is not None and choice.delta is not None else ""
                finished = (choice.finish_reason if choice is not None else None) or finished
                length += len(text)
                if length > _LONGEST:
                    raise EndpointError("the LLM wrote an answer without end")
                if text:
                    yield text
        finally:
            await stream.close()
        if not finished:
            raise EndpointError("the LLM broke off in the middle of its answer")
        if not length:
            raise EndpointError(f"the LLM gave an empty answer ({finished})", "a model that thinks needs more tokens")

    async def close(self) -> None:
        await self._client.close()

    async def _open(self, messages: Sequence[tuple[str, str]]) -> Any:
        from openai import APIStatusError

        prompt = Prompt(tuple(messages), {}, "answer")
        for _ in range(_FORMS):
            options = self._form.options(prompt, 0.0, self._settings.answer_tokens)
            try:
                return await self._client.chat.completions.create(
                    model=self.model,
                    messages=[{"role": role, "content": text} for role, text in messages],
                    stream=True,
                    **options,
                )
            except APIStatusError as error:
                other = plainer(self._form, error.status_code, str(error.message))
                if other is None:
                    raise
                self._form = other
        raise EndpointError("the LLM endpoint takes no form of the request that is known")

    async def _within(self, step: Any, end: float) -> Any:
        """The next step's outcome, or EndpointError saying what was wrong without naming key or prompt."""
        from openai import APIError, APIStatusError

        left = min(self._stall, end - time.monotonic())
        try:
            async with asyncio.timeout(max(0.0, left)):
                return await step
        except (StopAsyncIteration, EndpointError):
            raise
        except TimeoutError:
            whole = end - time.monotonic() <= 0
            raise EndpointError(
                f"the LLM took more than {self._seconds:g} seconds" if whole
                else f"the LLM was silent for {self._stall:g} seconds and was given up"
            ) from None  # fmt: skip
        except APIStatusError as error:
            raise EndpointError(f"the LLM endpoint refused: {self._endpoint.told(error)}") from None
        except APIError as error:
            raise EndpointError(f"the LLM cannot be reached or broke off ({type(error).__name__})") from None
        except Exception as error:  # whatever the transport under the openai client raises
            raise EndpointError(f"the LLM broke off ({type(error).__name__})") from None
