"""What a client is told when it gets no answer: OpenAI's error object, its status, and when to come again.

Format: OpenAI API reference, "Error codes": `{"error": {"message", "type", "param", "code"}}`.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, Final

from agentd.errors import (
    AgentdError,
    ConfigError,
    ContextLengthError,
    ModelError,
    ModelStreamError,
    PluginError,
)
from agentd_openai.calls import OVER_BUDGET

__all__ = ["RefusedRequestError", "refusal_of"]

_log: Final = logging.getLogger("agentd.serve")
_AS_THE_MODELS_SERVER: Final = (400, 404, 409, 413, 415, 422)
"""What a model's server says about the request itself."""


class RefusedRequestError(AgentdError):
    """A request gets no answer.

    :param param: the argument that it is about; `code`: a word for programs.
    :param retry_after_s: when it may be worth asking again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        self.type = type or ("server_error" if status >= 500 else "invalid_request_error")
        self.retry_after_s = retry_after_s

    @property
    def error(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"message": str(self), "type": self.type, "param": self.param, "code": self.code}

    @property
    def body(self) -> bytes:
        """The body of the response."""
        return json.dumps({"error": self.error}).encode()

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The response's headers."""
        length = str(len(self.body)).encode()
        found = [(b"content-type", b"application/json"), (b"content-length", length)]
        if self.status == 401:
            found.append((b"www-authenticate", b"Bearer"))
        if self.retry_after_s is not None:
            found.append((b"retry-after", str(max(1, math.ceil(self.retry_after_s))).encode()))
        return found

    def event(self, api: str, number: int) -> bytes:
        """Return what a stream that has begun ends with. `number` is that of the event (responses)."""
        if api == "chat":
            return b"data: %b\n\n" % self.body
        # The SDK reads `error`, as of chat; others read an event of the type `error`.
        said = {"type": "error", "sequence_number": number, **self.error, "error": self.error}
        said["type"] = "error"
        return b"event: error\ndata: %b\n\n" % json.dumps(said).encode()


def refusal_of(error: BaseException) -> RefusedRequestError:
    """Return what a client is told of an error. What is the server's own business is logged, and not told."""
    if isinstance(error, RefusedRequestError):
        return error
    if isinstance(error, ContextLengthError):
        return RefusedRequestError(400, str(error), code="context_length_exceeded")
    if isinstance(error, ModelStreamError):
        return RefusedRequestError(502, str(error), code="upstream_broke")
    if isinstance(error, ModelError):
        return _of_model(error)
    if isinstance(error, ConfigError) and not isinstance(error, PluginError):
        return RefusedRequestError(400, str(error), param=_param_in(str(error)))
    _log.error("a request failed: %s: %s", type(error).__name__, error, exc_info=error)
    what = "the code could not be run" if isinstance(error, AgentdError) else "this is a defect in agentd"
    return RefusedRequestError(
        500, f"{what} ({type(error).__name__}); the server's log has more", code="internal_error"
    )


def _of_model(error: ModelError) -> RefusedRequestError:
    status, told = error.status, str(error)
    if OVER_BUDGET in told:
        return RefusedRequestError(429, told, code="insufficient_quota", type="insufficient_quota")
    if status in (
        401,
        402,
        403,
    ):  # of the server's own key: not the client's business, which would take it for its own
        _log.error("the model's server refuses this server: %s", told)
        return RefusedRequestError(
            502,
            f"the model's server refuses this server (status {status}); whoever runs it must look at its key",
            code="upstream_refused",
        )
    if status == 429:
        return RefusedRequestError(
            429,
            told,
            code="upstream_rate_limit",
            type="rate_limit_error",
            retry_after_s=error.retry_after_s or 1,
        )
    if status in _AS_THE_MODELS_SERVER:
        return RefusedRequestError(status, told, code="model_not_found" if status == 404 else None)
    late = "Timeout" in told or "wall_time_s" in told
    return RefusedRequestError(
        504 if late else 502,
        told,
        code="upstream_timeout" if late else "upstream_failed",
        retry_after_s=error.retry_after_s,
    )


def _param_in(told: str) -> str | None:
    """Return the argument that an error names before its first colon, as agentd's do."""
    name, colon, _ = told.partition(": ")
    return name if colon and name.replace("[", "").replace("]", "").replace(".", "").isidentifier() else None
