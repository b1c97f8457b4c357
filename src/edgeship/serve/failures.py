"""What went wrong, in the form of the API that was asked. A client is told what it can mend, and no path, ever."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from edgeship.errors import EdgeshipError, NotFound, OriginRefused, TemplateInvalid, TemplateMissing, UsageError
from edgeship.serve.exchange import current_id
from edgeship.system.child import Died

_log = logging.getLogger("edgeship.serve")

_OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "invalid_request_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
_ANTHROPIC_TYPES = {
    **_OPENAI_TYPES,
    413: "request_too_large",
    503: "overloaded_error",
    504: "timeout_error",
}
_NO_FAULT = (503, 504)
"""Statuses from 500 on that say what the server has no room or no time for: no fault, and nothing to hide."""
_MESSAGES = "/v1/messages"
_SENTENCE_END = re.compile(r"(?<=[.?!]) ")
_TYPED = re.compile(r"(?<![\w-])--[a-z]|`edgeship |\bpip install\b|\bin Python\b")
"""What only somebody at the server's command line can type."""
_INSTEAD: Mapping[type[EdgeshipError], str] = {
    TemplateMissing: "Ask /v1/completions, which needs none.",
    TemplateInvalid: "Send messages as the model's template takes them.",
    NotFound: "/v1/models lists the models.",
}
"""What a client can do where a hint holds nothing else."""
_FOR_THE_OPERATOR = (OriginRefused,)
"""Errors that only those meet who set a server up, or who were not meant to reach it."""
RETRY_AFTER_S = 1
"""What a client is told to wait where the server is full."""


class OpenAIFault(BaseModel):
    """What went wrong. param: the field that is to blame."""

    message: str
    type: str
    param: str | None
    code: str


class AnthropicFault(BaseModel):
    """What went wrong."""

    type: str
    message: str


class OpenAIFailure(BaseModel):
    """As OpenAI's APIs tell it."""

    error: OpenAIFault


class AnthropicFailure(BaseModel):
    """As Anthropic's API tells it."""

    type: Literal["error"]
    error: AnthropicFault
    request_id: str | None


class OllamaFailure(BaseModel):
    """As Ollama's API tells it."""

    error: str


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "model": OpenAIFailure | AnthropicFailure | OllamaFailure}
    for status, what in {"4XX": "The request is wrong, or comes too early.", "5XX": "The server failed."}.items()
}
"""The errors of all routes, as the application's OpenAPI document has them."""


def as_ours(error: BaseException) -> EdgeshipError:
    """An error of ours as it is; any other is a fault of ours, and is logged with its traceback."""
    if isinstance(error, EdgeshipError):
        if _is_fault(error):
            # Of a process that died every answer it was making ends so, and where that was noticed says nothing.
            trace = None if isinstance(error.__cause__, Died) else error
            _log.error("request %s failed: %s", current_id(), error, exc_info=trace)
        return error
    _log.error("request %s failed with an error that nobody foresaw", current_id(), exc_info=error)
    return EdgeshipError("the server failed; its log says more")


def _is_fault(error: EdgeshipError) -> bool:
    """Whether something broke here. What a model's process that died said last is for the log: it may name paths."""
    return error.http_status >= 500 and (error.http_status not in _NO_FAULT or isinstance(error.__cause__, Died))


def told(error: EdgeshipError) -> str:
    """What a client is told: what it sent wrong and how to mend it; of the server's own troubles only the kind."""
    if isinstance(error, UsageError) or error.http_status < 500:
        hint = _hint(error)
        return f"{error.what}. {hint}" if hint else error.what
    if not _is_fault(error):
        return error.what
    return f"the server could not answer ({error.code}); its log says more"


def _hint(error: EdgeshipError) -> str:
    """What a client can do about it. Commands and options are for whoever runs the server, and are left out."""
    if not error.hint or isinstance(error, _FOR_THE_OPERATOR):
        return error.hint or ""
    sentences = _SENTENCE_END.split(error.hint)
    kept = [sentence for sentence in sentences if not _TYPED.search(sentence)]
    instead = next((hint for kind, hint in _INSTEAD.items() if isinstance(error, kind)), "")
    return " ".join(kept) or instead


def api_path(scope: Mapping[str, Any]) -> str:
    """The path of a request, or of the API that it speaks by its headers: Anthropic has its own list of models."""
    return _MESSAGES if is_anthropic(scope) else scope["path"]


def is_anthropic(scope: Mapping[str, Any]) -> bool:
    """Whether a request speaks Anthropic's API."""
    path: str = scope["path"]
    by_header = any(name == b"anthropic-version" for name, _ in scope["headers"])
    return path.startswith(_MESSAGES) or (by_header and path.startswith("/v1/"))


def document(path: str, error: EdgeshipError) -> dict[str, Any]:
    """The body of an error's answer, in the form of the API that lies at `path`."""
    param = error.param if isinstance(error, UsageError) else None
    message, status = told(error), error.http_status
    if path.startswith("/api/"):
        return {"error": message}
    if path.startswith(_MESSAGES):
        told_as = {"type": _ANTHROPIC_TYPES.get(status, "api_error"), "message": message}
        return {"type": "error", "error": told_as, "request_id": current_id()}
    kind = _OPENAI_TYPES.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": error.code.replace("-", "_")}}


def headers(error: EdgeshipError) -> Mapping[str, str]:
    """What is said beside the body."""
    if error.http_status in (429, 503):
        return {"retry-after": str(getattr(error, "retry_after_s", RETRY_AFTER_S))}
    if error.http_status == 401:
        return {"www-authenticate": "Bearer"}
    return {}
