"""One client for any OpenAI-compatible endpoint: every paid answer is kept on disk before it is used."""

from __future__ import annotations

import contextlib
import email.utils
import json
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fieldtune.config import Llm
from fieldtune.errors import ConfigError, EndpointError
from fieldtune.workspace import digest

log = logging.getLogger(__name__)

KEY_VARIABLES = ("FIELDTUNE_LLM_API_KEY", "OPENAI_API_KEY")
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 120.0
_TRIES_UNREACHED = 3
"""Tries, as long as the endpoint was never reached: a wrong address should be told at once."""
_FAILED_IN_A_ROW = 5
"""Requests that failed one after the other, each after all its tries, from which the endpoint counts as gone."""


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
    """An answer as it came; `error` is set, and `text` empty, when there is none."""

    text: str
    error: str = ""
    cached: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Form:
    """How a request is written; the plainest form that an endpoint needed is used from then on."""

    json: Literal["json_schema", "json_object", ""]
    temperature: bool


class LlmClient:
    """Asks an endpoint, several requests at once, and never twice the same.

    Answers are appended to the JSON-lines file `cache`, keyed by a hash of address, model, temperature and prompt, so
    a killed run pays for no answer again. The key is read from the environment; it is neither logged nor stored.
    """

    def __init__(self, settings: Llm, cache: Path) -> None:
        if not settings.base_url or not settings.model:
            raise ConfigError(
                "no LLM endpoint is set",
                'set llm.base_url and llm.model, or queries.from = "structure" to do without an LLM',
            )
        from openai import OpenAI

        key = next((os.environ[name] for name in KEY_VARIABLES if os.environ.get(name)), "")
        self.calls = 0
        """Requests sent, retries included."""
        self._settings = settings
        self._secret = key
        # Local servers want no key, but the client insists on one. Retries are ours: they obey one common pause.
        self._client = OpenAI(
            base_url=settings.base_url, api_key=key or "none", max_retries=0, timeout=settings.timeout_seconds
        )
        self._cache = _Cache(cache)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._not_before = 0.0
        self._form = _Form("json_schema", True)
        self._reached = self._answered = False
        self._failed_in_a_row = 0

    def ask(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Reply]]:
        """Yield (index of the prompt, reply) as answers come; a request without an answer yields its error.

        Raises EndpointError when the key is refused, model or address are unknown, or the endpoint is dead. Closing
        the iterator (Ctrl-C) ends all waiting; answers that came are on disk by then.
        """
        waiting: dict[str, list[int]] = {}
        for index, prompt in enumerate(prompts):
            known = self._cache.get(self._hash(prompt))
            if known is not None:
                yield index, known
            else:
                waiting.setdefault(self._hash(prompt), []).append(index)
        work: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        for hashed, indices in waiting.items():
            work.put((hashed, indices[0]))
        done: queue.SimpleQueue[tuple[str, Reply | EndpointError]] = queue.SimpleQueue()

        def run() -> None:
            while not self._stop.is_set():
                try:
                    hashed, index = work.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((hashed, self._answer(hashed, prompts[index])))
                except EndpointError as error:
                    done.put((hashed, error))
                except Exception as error:  # a bug in one request must end the wait for it
                    log.exception("a request to the LLM endpoint failed")
                    done.put((hashed, Reply("", f"{type(error).__name__}")))

        self._stop.clear()
        # Daemon threads: an interrupted program ends at once instead of waiting for slow answers.
        for _ in range(min(self._settings.concurrency, len(waiting))):
            threading.Thread(target=run, daemon=True).start()
        try:
            for _ in range(len(waiting)):
                hashed, reply = done.get()
                if isinstance(reply, EndpointError):
                    raise reply
                for index in waiting[hashed]:
                    yield index, reply
        finally:
            self._stop.set()

    def _hash(self, prompt: Prompt) -> str:
        asked = [self._settings.base_url, self._settings.model, self._settings.temperature]
        return digest([*asked, prompt.messages, prompt.schema])

    def _answer(self, hashed: str, prompt: Prompt) -> Reply:
        """One answer, with retries; kept on disk before it is returned."""
        from openai import APIConnectionError, APIError, APIStatusError

        form = self._form
        reply = Reply("", "stopped")
        tried, refused = 0, False
        while tried <= self._settings.max_retries and not self._stop.is_set():
            self._pause()
            try:
                reply = _read(self._send(prompt, form))
                self._reached = True
                if not reply.error:
                    self._cache.put(hashed, reply)
                    self._form, self._answered, self._failed_in_a_row = form, True, 0
                    return reply
                if reply.completion_tokens:
                    break  # an answer, and paid for, though empty
                self._hold(tried, None)
            except APIStatusError as error:
                self._reached = True
                reply = Reply("", self._told(error))
                plainer = _plainer(form, error.status_code, reply.error)
                if plainer is not None:  # the same request in another form is no retry
                    form = plainer
                    continue
                self._raise_if_final(error, reply.error)
                refused = error.status_code in (400, 403, 413, 422)
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    break
                self._hold(tried, _retry_after(error.response.headers), common=error.status_code == 429)
            except APIConnectionError as error:
                reply = Reply("", self._hide(str(error.__cause__ or error)))
                if not self._reached and tried + 1 >= _TRIES_UNREACHED:
                    raise EndpointError(
                        f"the LLM endpoint {self._address()} cannot be reached ({reply.error})",
                        "check llm.base_url, and that the server runs; answers so far are kept",
                    ) from None
                self._hold(tried, None)
            except (APIError, ValueError) as error:
                reply = Reply("", f"not a chat completion ({self._hide(str(error))[:200]})")
                self._hold(tried, None)
            tried += 1
        if not self._stop.is_set() and not (refused and self._answered):
            self._count_failure(reply.error)
        return reply

    def _send(self, prompt: Prompt, form: _Form) -> Any:
        options: dict[str, Any] = {"temperature": self._settings.temperature} if form.temperature else {}
        if form.json == "json_schema":
            schema = {"name": prompt.name, "schema": dict(prompt.schema), "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form.json == "json_object":
            options["response_format"] = {"type": "json_object"}
        with self._lock:
            self.calls += 1
        messages: Any = [{"role": role, "content": text} for role, text in prompt.messages]
        return self._client.chat.completions.create(model=self._settings.model, messages=messages, **options)

    def _count_failure(self, problem: str) -> None:
        with self._lock:
            self._failed_in_a_row += 1
            if self._failed_in_a_row >= _FAILED_IN_A_ROW:
                raise EndpointError(
                    f"{self._failed_in_a_row} requests in a row failed at {self._address()}; the last: {problem}",
                    "when the endpoint works again, start again: answers so far are kept and not asked twice",
                )

    def _raise_if_final(self, error: Any, problem: str) -> None:
        """Raise EndpointError where trying again, or another prompt, cannot help."""
        where, status = self._address(), error.status_code
        if status == 401 or (status == 403 and not self._answered):
            raise EndpointError(
                f"the LLM endpoint {where} refuses the key ({problem})",
                f"put a valid key into the environment variable {KEY_VARIABLES[0]}",
            ) from None
        if status == 404:
            raise EndpointError(
                f"the LLM endpoint {where} does not know {self._settings.model!r} ({problem})",
                "check llm.base_url (most end in /v1) and llm.model",
            ) from None
        if status == 402 or "insufficient_quota" in (str(error.code), str(error.type)):
            raise EndpointError(
                f"the account at {where} is used up ({problem})",
                "top up the account and start again: answers so far are kept and not asked twice",
            ) from None

    def _pause(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0 and not self._stop.is_set():
            self._stop.wait(left)

    def _hold(self, tried: int, asked: float | None, *, common: bool = False) -> None:
        """Wait before the next try; where the endpoint limits the rate, all requests wait."""
        seconds = min(_LONGEST_PAUSE, asked if asked is not None else _FIRST_PAUSE * 2**tried)
        if common:
            with self._lock:
                self._not_before = max(self._not_before, time.monotonic() + seconds)
        elif tried < self._settings.max_retries:
            self._stop.wait(seconds)

    def _told(self, error: Any) -> str:
        body = error.body if isinstance(error.body, dict) else {}
        return self._hide(f"{error.status_code}: {body.get('message') or error.message}")[:300]

    def _hide(self, text: str) -> str:
        """Servers quote the key in what they complain about."""
        return " ".join((text.replace(self._secret, "***") if self._secret else text).split())

    def _address(self) -> str:
        return re.sub(r"//[^/@]*@", "//", self._settings.base_url)


class _Cache:
    """Answers by prompt hash in an append-only file; a line cut off by a kill is passed over."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, Reply] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return
        data = path.read_bytes()
        for line in data.split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = json.loads(line)
                tokens = int(row["prompt_tokens"]), int(row["completion_tokens"])
                self._known[row["key"]] = Reply(row["text"], "", True, *tokens)
        if data and not data.endswith(b"\n"):
            self._append(b"\n")

    def get(self, hashed: str) -> Reply | None:
        return self._known.get(hashed)

    def put(self, hashed: str, reply: Reply) -> None:
        row = {
            "key": hashed,
            "text": reply.text,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        with self._lock:
            self._append(json.dumps(row, ensure_ascii=True).encode() + b"\n")
            self._known[hashed] = Reply(reply.text, "", True, reply.prompt_tokens, reply.completion_tokens)

    def _append(self, data: bytes) -> None:
        with self._path.open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())


def _plainer(form: _Form, status: int, problem: str) -> _Form | None:
    """The form to try after a refusal, None where a plainer one does not exist or is not what was asked for."""
    if status not in (400, 404, 422):
        return None
    if form.temperature and "temperature" in problem.lower():
        return _Form(form.json, False)
    about_form = re.search(
        r"response.?format|json|schema|grammar|structured|parameter|extra|unsupported", problem, re.I
    )
    # Some servers only say "bad request"; a prompt that is too long is not helped by another form.
    vague = status != 404 and not re.search(r"context|too long|tokens|length|content|filter|policy", problem, re.I)
    if form.json and (about_form or vague):
        return _Form("json_object" if form.json == "json_schema" else "", form.temperature)
    return None


def _read(completion: Any) -> Reply:
    """The text of a completion; servers differ in what they leave out."""
    try:
        choice = completion.choices[0]
        text = choice.message.content or ""
    except (AttributeError, IndexError, TypeError):
        return Reply("", "not a chat completion")
    usage = getattr(completion, "usage", None)
    tokens = getattr(usage, "prompt_tokens", 0) or 0, getattr(usage, "completion_tokens", 0) or 0
    if text.strip():
        return Reply(text, "", False, *tokens)
    refused = getattr(choice.message, "refusal", None)
    return Reply("", "refused by the model" if refused else f"empty answer ({choice.finish_reason})", False, *tokens)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `Retry-After` as a number or a date, or `retry-after-ms`."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    text = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


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
    return found
