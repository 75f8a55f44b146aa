"""What an endpoint's refusals mean: wait how long, or give up with which cure."""

from __future__ import annotations

import contextlib
import email.utils
import time
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from fieldtune.errors import EndpointError
from fieldtune.llm.endpoint import KEY_VARIABLE

AGAIN = "start again: answers so far are kept and not asked twice"


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait: `Retry-After` as a number or a date (RFC 9110), or `retry-after-ms`."""
    with contextlib.suppress(KeyError, ValueError):
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    text = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        date = email.utils.parsedate_to_datetime(text)
        # An HTTP date is in GMT, also where it does not say so.
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time())
    return None


def was_sent(error: Any) -> bool:
    """Whether a request without an answer may have reached the endpoint; `error` is an openai.APIConnectionError.

    The transport under the openai client is one of two packages, whose errors have the same names.
    """
    return type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout", "PoolTimeout")


def raise_if_final(error: Any, problem: str, where: str, model: str, *, answered: bool) -> None:
    """Raise EndpointError where trying again, or another prompt, cannot help.

    `error` is an openai.APIStatusError, `problem` what it says, `answered` whether the endpoint ever gave an answer.
    """
    status = error.status_code
    if status == 401 or (status == 403 and not answered):
        raise EndpointError(
            f"the LLM endpoint {where} refuses the key ({problem})",
            f"put a valid key into the environment variable {KEY_VARIABLE}",
        ) from None
    if status == 404:
        raise EndpointError(
            f"the LLM endpoint {where} does not know {model!r} ({problem})",
            "check llm.base_url (most end in /v1) and llm.model",
        ) from None
    if status == 402 or "insufficient_quota" in (str(error.code), str(error.type)):
        raise EndpointError(
            f"the account at {where} is used up ({problem})",
            f"top up the account and {AGAIN}",
        ) from None
