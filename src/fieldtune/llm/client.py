"""The client: several requests at once, never twice the same, every paid answer on disk before it is used."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldtune.config import Llm
from fieldtune.errors import EndpointError
from fieldtune.llm.answers import Answers
from fieldtune.llm.budget import Budget, Tokens
from fieldtune.llm.endpoint import Endpoint, is_openai, remote_endpoint
from fieldtune.llm.failures import AGAIN, raise_if_final, retry_after, was_sent
from fieldtune.llm.form import Form, plainer, read_body
from fieldtune.llm.health import Health
from fieldtune.llm.pace import Pace
from fieldtune.llm.prompt import Prompt, Reply
from fieldtune.llm.tokens import prompt_tokens
from fieldtune.stopping import ending_gently
from fieldtune.workspace import digest

log = logging.getLogger(__name__)

_TRIES_UNREACHED = 3
"""Tries, as long as the endpoint was never reached: a wrong address should be told at once."""
_SECONDS_TO_CONNECT = 10.0
_SENT_WHEN_LATE = 2
"""Times that a prompt is sent that is not answered in time: the endpoint may bill for each."""
_LAST_WAIT = 10.0
"""Seconds that answers under way get to come in when asking ends early: they are paid for."""
_LONGEST_BODY = 10_000_000


class LlmClient:
    """Asks an endpoint through the openai client; answers are kept in the JSON-lines file `cache`.

    The cache is keyed by a hash of address, model, temperature and prompt, so a killed run pays for no answer again. A
    request that got the status of success is never sent again, whatever came back; one that was not answered within
    `llm.timeout_seconds` is sent once more, though the endpoint may have worked on it, and counted in `late`. The
    spending limit holds for all that the file `cache` keeps. The key is neither logged nor stored. Raises ConfigError
    where no endpoint is set.
    """

    def __init__(self, settings: Llm, cache: Path, endpoint: Endpoint | None = None) -> None:
        self._endpoint = remote_endpoint(settings) if endpoint is None else endpoint
        from openai import OpenAI, Timeout

        self.calls = 0
        """Requests sent, retries included."""
        self.late = 0
        """Those of them that were not answered in time; each may have been billed nevertheless."""
        self.used = Tokens()
        """Of all distinct answers that this client gave, those from the cache included."""
        self.model = self._endpoint.model
        self._settings = settings
        self._seconds = max(settings.timeout_seconds, self._endpoint.least_timeout)
        limits = {"answer_tokens": settings.answer_tokens, "timeout_seconds": self._seconds}
        self._answers = Answers(cache, limits, ask_again=settings.ask_again)
        self.budget = Budget(settings, self._answers.paid)
        # Local servers want no key, but the client insists on one. Retries are ours: they obey one common pause.
        self._client = OpenAI(
            base_url=self._endpoint.base_url,
            api_key=self._endpoint.key or "none",
            max_retries=0,
            timeout=Timeout(self._seconds, connect=min(self._seconds, _SECONDS_TO_CONNECT)),
        )
        if not is_openai(self._endpoint.base_url):  # it would send OpenAI's identifiers from the environment anywhere
            self._client.organization = self._client.project = None
        self._lock = threading.Lock()
        self._room = threading.Condition()
        self._flying: dict[str, threading.Event] = {}
        self._pace = Pace(self._endpoint.address, settings.max_retries)
        self._form = Form()
        self._health = Health()
        self._counted: set[str] = set()

    def ask(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, Reply]]:
        """Yield (index of the prompt, reply) as answers come; a request without an answer yields its error.

        Raises EndpointError when the key is refused, model or address are unknown, or the endpoint is dead. Closing
        the iterator (Ctrl-C) ends all waiting; answers that came are on disk by then. Prompts that the spending limit
        leaves no room for come back with `asked` False, later ones first.
        """
        waiting: dict[str, list[int]] = {}
        for index, prompt in enumerate(prompts):
            hashed = self._hash(prompt)
            known = self._answers.get(hashed)
            if known is None:
                waiting.setdefault(hashed, []).append(index)
            else:
                self._count(hashed, known)
                yield index, known
        work: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()
        for hashed, indices in waiting.items():
            work.put((hashed, indices[0]))
        done: queue.SimpleQueue[tuple[str, Reply | EndpointError]] = queue.SimpleQueue()
        stop = threading.Event()
        second: set[str] = set()

        def run() -> None:
            while not stop.is_set():
                try:
                    hashed, index = work.get_nowait()
                except queue.Empty:
                    return
                try:
                    reply = self._within_budget(hashed, prompts[index], stop)
                    if reply.passing and hashed not in second:
                        second.add(hashed)  # when all others have had their turn, what ailed it may be over
                        work.put((hashed, index))
                        continue
                    done.put((hashed, reply))
                except EndpointError as error:
                    stop.set()  # none of the threads shall begin another request
                    done.put((hashed, error))
                except Exception as error:  # a bug in one request must end the wait for it
                    log.exception("a request to the LLM endpoint failed")
                    done.put((hashed, Reply("", f"{type(error).__name__}")))

        # Daemon threads: what is under way when time is up cannot hold the program.
        most = self._endpoint.most_at_once or self._settings.concurrency
        threads = [threading.Thread(target=run, daemon=True) for _ in range(min(most, len(waiting)))]
        for thread in threads:
            thread.start()
        try:
            for _ in range(len(waiting)):
                hashed, reply = done.get()
                if isinstance(reply, EndpointError):
                    raise reply
                self._count(hashed, reply)
                for index in waiting[hashed]:
                    yield index, reply
        finally:
            stop.set()
            end = time.monotonic() + _LAST_WAIT
            for thread in threads:
                thread.join(max(0.0, end - time.monotonic()))

    def known(self, prompt: Prompt) -> Reply | None:
        """The answer that is on disk, if there is one; asks nobody."""
        return self._answers.get(self._hash(prompt))

    def _count(self, hashed: str, reply: Reply) -> None:
        if hashed not in self._counted:
            self._counted.add(hashed)
            self.used += Tokens(reply.prompt_tokens, reply.completion_tokens)

    def _hash(self, prompt: Prompt) -> str:
        asked = [self._endpoint.identity, self._endpoint.model, self._settings.temperature]
        return digest([*asked, prompt.messages, prompt.schema])

    def _within_budget(self, hashed: str, prompt: Prompt, stop: threading.Event) -> Reply:
        estimate, ticket = prompt_tokens(prompt), threading.get_ident()
        with self._room:
            while (fits := self.budget.reserve(ticket, estimate)) is None and not stop.is_set():
                self._room.wait(0.5)
        if not fits:
            return Reply("", "not asked: the spending limit was reached", asked=False)
        reply = None
        try:
            reply = self._once(hashed, prompt, stop)
        finally:
            self.budget.settle(ticket, estimate, reply)
            with self._room:
                self._room.notify_all()
        return reply

    def _once(self, hashed: str, prompt: Prompt, stop: threading.Event) -> Reply:
        """The answer to a prompt that another caller may be asking at this moment."""
        while True:
            with self._lock:
                known = self._answers.get(hashed)
                if known is not None:
                    return known
                under_way = self._flying.get(hashed)
                if under_way is None:
                    self._flying[hashed] = threading.Event()
                    break
            under_way.wait()
        try:
            return self._answer(hashed, prompt, stop)
        finally:
            with self._lock:
                self._flying.pop(hashed).set()

    def _answer(self, hashed: str, prompt: Prompt, stop: threading.Event) -> Reply:
        """One answer, with retries; kept on disk before it is returned."""
        from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError

        form, reply = self._form, Reply("", "stopped")
        tried, late, refused, before = 0, 0, False, self._health.answered
        tries = self._settings.max_retries + 1
        while tried < tries and not stop.is_set():
            self._pace.wait(stop)
            try:
                reply = self._send(prompt, form)
                self._health.reached = True
                self._answers.put(hashed, reply)
                if reply.error:
                    break  # success, though worth nothing: whoever counts calls has counted this one
                self._form = form
                self._health.good()
                return reply
            except APIStatusError as error:
                self._health.reached = True
                reply = Reply("", self._endpoint.told(error))
                other = plainer(form, error.status_code, reply.error)
                if other is not None:  # the same request in another form is no retry
                    form = other
                    continue
                where, answered = self._endpoint.address, self._health.answered > 0
                raise_if_final(error, reply.error, where, self.model, answered=answered)
                refused = error.status_code in (400, 403, 413, 422)
                if error.status_code not in (408, 409, 425, 429) and error.status_code < 500:
                    break
                self._pace.hold(tried, retry_after(error.response.headers), stop, common=error.status_code == 429)
                if error.status_code == 429 and self._health.answered > before:
                    tried, before = 0, self._health.answered  # slow, but going on: others were answered meanwhile
            except APIConnectionError as error:
                sent = was_sent(error)
                if sent and isinstance(error, APITimeoutError):
                    self._health.reached = True
                    late += 1
                    reply = self._late(prompt)
                    if late == _SENT_WHEN_LATE:
                        self._answers.put(hashed, reply)
                        break
                    continue
                reply = Reply("", self._endpoint.hide(str(error.__cause__ or error)))
                if not self._health.reached and tried + 1 >= (_TRIES_UNREACHED if not sent else tries):
                    raise EndpointError(
                        f"the LLM endpoint {self._endpoint.address} cannot be reached ({reply.error})",
                        "check llm.base_url, and that the server runs; answers so far are kept",
                    ) from None
                self._pace.hold(tried, None, stop)
            except (APIError, ValueError) as error:
                reply = Reply("", f"not a chat completion ({self._endpoint.hide(str(error))[:200]})")
                self._pace.hold(tried, None, stop)
            tried += 1
        if stop.is_set() or (refused and self._health.answered):
            return reply
        if count := self._health.bad(reply):
            raise EndpointError(
                f"{count} requests in a row failed at {self._endpoint.address}; the last: {reply.error}",
                f"when the endpoint works again, {AGAIN}",
            )
        return reply if reply.paid or refused else replace(reply, passing=True)

    def _late(self, prompt: Prompt) -> Reply:
        with self._lock:
            self.late += 1
        problem = f"no answer within {self._seconds:g} seconds (llm.timeout_seconds)"
        return Reply("", problem, paid=True, prompt_tokens=prompt_tokens(prompt), limit="timeout_seconds")

    def _send(self, prompt: Prompt, form: Form) -> Reply:
        options = form.options(prompt, self._settings.temperature, self._settings.answer_tokens)
        if self._endpoint.seed is not None:
            options["seed"] = self._endpoint.seed
        with self._lock:
            self.calls += 1
        messages: Any = [{"role": role, "content": text} for role, text in prompt.messages]
        completions = self._client.chat.completions.with_streaming_response
        with completions.create(model=self.model, messages=messages, **options) as response:
            # From here on the status was success: a body that breaks off was written, and paid for, all the same.
            body = b""
            try:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > _LONGEST_BODY:
                        return Reply("", "an answer without end", paid=True, prompt_tokens=prompt_tokens(prompt))
            except Exception as error:  # whatever the transport under the openai client raises
                problem = f"the answer broke off on the way ({type(error).__name__})"
                return Reply("", problem, paid=True, prompt_tokens=prompt_tokens(prompt))
        return read_body(body, prompt)


@contextlib.contextmanager
def open_client(settings: Llm, cache: Path) -> Iterator[LlmClient]:
    """A client for the endpoint of the config, or for its local model, whose server runs until the block ends.

    Raises ConfigError where neither is set, ModelError or MissingExtraError where the local model cannot be run.
    """
    if not settings.local:
        with ending_gently():
            yield LlmClient(settings, cache)
        return
    from fieldtune.llm.local import local_endpoint

    with local_endpoint(settings) as endpoint:
        yield LlmClient(settings, cache, endpoint)
