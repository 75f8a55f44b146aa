"""What goes wrong with a request, said in the shape that OpenAI's clients read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOST = "the index cannot be read at the moment; it is tried again every few seconds"


_FILTER = 'is no filter: a value, a list of values, or {"from": …, "to": …}'
_INPUT = "is neither a text, nor a list of texts, nor token ids (a list of them, or a list of such lists)"


class ApiError(Exception):
    """A refusal that the client is told: HTTP status, sentence, and the field that it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        return error_body(self.status, self.message, self.param, self.code)


_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


def error_body(status: int, message: str, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """`{"error": {...}}` as OpenAI writes it."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def overloaded(what: str, seconds: int = 1) -> ApiError:
    """The answer to one request too many: come again."""
    return ApiError(
        503, f"the server is busy: {what}; try again", code="overloaded", headers={"Retry-After": str(seconds)}
    )


def late() -> ApiError:
    """The answer to what was given up."""
    return ApiError(504, "the request took too long and was given up", code="timeout")


def stopping() -> ApiError:
    """The answer to what comes, or still waits, when the server ends."""
    return overloaded("it is stopping")


def unavailable(why: str) -> ApiError:
    """What the server needs is not there at the moment."""
    return ApiError(503, why, code="index_unavailable", headers={"Retry-After": "5"})


def field_of(location: tuple[Any, ...]) -> str:
    """`where.date.from`, `documents[3]`: a place in the request's body as a client's programmer would write it."""
    out = ""
    for part in location[1:]:  # the first says where it was sent: body, query, path, header
        if isinstance(part, int):
            out += f"[{part}]"
        else:
            out += f".{part}" if out else str(part)
    return out


def explain(errors: list[Any]) -> ApiError:
    """The first things that a request's body has wrong, each with its field."""
    lines = []
    first = None
    for error in errors:
        # Alternatives of one field (a string or a list) are tried in turn, and each says what it misses.
        place = () if error["type"] == "json_invalid" else error["loc"]
        said = _FILTER if _of_filter(place) else _INPUT if _of_input(place) else _sentence(error)
        place = tuple(place[:3]) if _of_filter(place) else place[:2] if _of_input(place) else place
        name = field_of(tuple(part for part in place if not _is_alternative(part)))
        first = first if first is not None else (name or None)
        line = f"{name or 'body'}: {said}"
        if line not in lines:
            lines.append(line)
    shown = "; ".join(lines[:4]) + (f" (and {len(lines) - 4} more)" if len(lines) > 4 else "")
    return ApiError(400, shown, param=first, code="invalid_request")


def _of_filter(place: tuple[Any, ...]) -> bool:
    """Whether it is about one column of `where`, whose three forms would each say what they miss."""
    return len(place) > 2 and place[1] == "where"


def _of_input(place: tuple[Any, ...]) -> bool:
    """The same of what is to be embedded, which has four forms."""
    return len(place) > 2 and place[1] == "input"


def _sentence(error: Mapping[str, Any]) -> str:
    if error["type"] == "extra_forbidden":
        return "is not a field of this request"
    if error["type"] == "missing":
        return "is missing"
    if error["type"] == "json_invalid":
        return f"not valid JSON ({error.get('ctx', {}).get('error', '')})".replace(" ()", "")
    message = str(error["msg"]).removeprefix("Value error, ")
    return message[:1].lower() + message[1:]


def _is_alternative(part: Any) -> bool:
    return isinstance(part, str) and ("[" in part or part in ("str", "int", "float", "bool"))
