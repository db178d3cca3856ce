"""Asking a model again: what may be repeated, how often, and how long to wait before.

A request is repeated only while nothing of its answer was passed on: it failed before its first event, or
its stream broke before its first text or item. Then no block of that answer can have been started, and what
earlier answers have executed is part of the request, so nothing is executed twice. An answer of which
something was passed on is never asked for again.

Waits are twice as long each time, unless the provider says how long to wait.
"""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC
from typing import Any, TypeVar

import anyio
import attrs
from agentd.errors import ConfigError

from agentd_model_openai.reasoning import field_of

__all__ = ["Repeatable", "Retries"]

T = TypeVar("T")
log = logging.getLogger("agentd.models")

PREAMBLE = ("response.created", "response.queued", "response.in_progress")
HEAD = 64
"""So many items without content are held back; a provider that sends more of them is taken at its word."""
TRANSIENT_CODES = ("server_error", "rate_limit_exceeded", "overloaded_error", "api_error")
FINAL_CODES = ("insufficient_quota", "billing_hard_limit_reached", "context_length_exceeded")
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 8.0
LONGEST_ASKED_S = 60.0
"""A provider that asks for more patience than this (`Retry-After`) is not asked again."""


def _a_count(instance: object, attribute: object, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigError(f"max_retries: must be a whole number from 0 on, got {value!r}")


@attrs.frozen(kw_only=True)
class Retries:
    """How often and for how long a model is asked again.

    :param count: how often at most; 0 for never.
    :param total_s: no attempt begins later than this many seconds after the first failure.
    :param requests: False if the client repeats failed requests itself; then only streams that break
        before their first content are repeated here.
    """

    count: int = attrs.field(default=2, validator=_a_count)
    total_s: float = 120.0
    requests: bool = True


@attrs.frozen
class Repeatable:
    """A method like `chat.completions.create` that repeats nothing itself, and how often it may be asked
    again; `max_retries=` of a call comes before that."""

    create: Callable[..., Any]
    retries: Retries

    def __call__(self, *, max_retries: int | None = None, **kwargs: Any) -> Any:
        return self.create(**kwargs)


def retries_for(create: Callable[..., Any], kwargs: Mapping[str, Any]) -> Retries:
    """Return what holds for this call of `create`.

    The method of an SDK client repeats failed requests itself: there broken streams are repeated, as often
    as the client says. Any other function is asked once.
    """
    if isinstance(create, Repeatable):
        count = kwargs.get("max_retries")
        return create.retries if count is None else attrs.evolve(create.retries, count=count)
    return Retries(count=client_count(create, default=0), requests=False)


def client_count(create: Callable[..., Any], *, default: int = 2) -> int:
    """Return `max_retries` of the SDK client that this method belongs to."""
    resource = getattr(create, "__self__", None) or getattr(inspect.unwrap(create), "__self__", None)
    count = getattr(getattr(resource, "_client", None), "max_retries", None)
    return count if isinstance(count, int) else default


class BrokenBeginning(Exception):
    """A stream ended or broke before its first content: what had come, and the error if there was one."""

    def __init__(self, head: Sequence[Any], error: Exception | None) -> None:
        self.head = head
        self.error = error
        super().__init__(str(error) if error else "the stream ended before its first content")


# --- what is worth asking again -------------------------------------------------------------------


def is_preamble(item: Any) -> bool:
    """Tell whether a stream's item announces an answer without showing any of it."""
    kind = field_of(item, "type")
    if isinstance(kind, str):
        return kind in PREAMBLE
    choices = getattr(item, "choices", None)
    if choices is None:
        return False
    return not any(choice.finish_reason or _says_something(choice.delta) for choice in choices)


def _says_something(delta: Any) -> bool:
    if delta is None:
        return False
    if getattr(delta, "content", None):
        return True
    try:
        return any(value for name, value in delta if name != "role")
    except TypeError:  # not a model of pydantic's: who knows
        return True


def is_transient_event(item: Any) -> bool:
    """Tell whether a stream's first content is the news that the provider failed and may not next time."""
    kind = field_of(item, "type")
    if kind == "response.failed":
        item = getattr(item.response, "error", None)
    elif kind != "error":
        return False
    return getattr(item, "code", None) in TRANSIENT_CODES


def is_transient(exc: BaseException) -> bool:
    """Tell whether the same request may succeed a little later."""
    if isinstance(exc, BrokenBeginning):
        return exc.error is None or _broke_by_accident(exc.error)
    if _code(exc) in FINAL_CODES or (asked_wait(exc) or 0) > LONGEST_ASKED_S:
        return False
    told = _header(exc, "x-should-retry")
    if told in ("true", "false"):
        return told == "true"
    status = status_of(exc)
    if status is not None:
        return status in (408, 409, 429) or status >= 500
    name = type(exc).__name__
    return isinstance(exc, OSError) or any(part in name for part in ("Connection", "Timeout", "Protocol"))


def _broke_by_accident(exc: Exception) -> bool:
    if isinstance(exc, (TypeError, AttributeError, NameError, AssertionError)):
        return False  # a mistake in a program
    if status_of(exc) is not None:
        return is_transient(exc)
    code = _code(exc)  # an error that came as an event of the stream has no status
    return code is None or code in TRANSIENT_CODES


def status_of(exc: BaseException) -> int | None:
    """Return the status of the provider's reply. The innermost error knows it: LiteLLM says 500 for several."""
    found = None
    for link in _chain(exc):
        for holder in (link, getattr(link, "response", None)):
            status = getattr(holder, "status_code", None)
            found = status if isinstance(status, int) else found
    return found


def _code(exc: BaseException) -> str | None:
    code = getattr(exc, "code", None)
    return code if isinstance(code, str) and not code.isdigit() else None


# --- how long to wait -----------------------------------------------------------------------------


def asked_wait(exc: BaseException) -> float | None:
    """Return how many seconds the provider asks to wait (`retry-after-ms`, `retry-after` in seconds or as a
    date)."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        with suppress(TypeError, ValueError):
            return max(0.0, float(_header(exc, name) or "") / scale)
    date = _header(exc, "retry-after")
    if not date:
        return None
    from datetime import datetime
    from email.utils import parsedate_to_datetime

    with suppress(TypeError, ValueError):
        when = parsedate_to_datetime(date)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    return None


def _header(exc: BaseException, name: str) -> str | None:
    """Return a header of the provider's reply: LiteLLM's own errors have it only somewhere in their chain."""
    for link in _chain(exc):
        for holder in (link, getattr(link, "response", None)):
            for attribute in ("litellm_response_headers", "headers"):
                headers = getattr(holder, attribute, None)
                value = headers.get(name) if headers is not None and hasattr(headers, "get") else None
                if isinstance(value, str):
                    return value
    return None


def _chain(exc: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    link: BaseException | None = exc.error if isinstance(exc, BrokenBeginning) else exc
    while link is not None and link not in seen:
        seen.append(link)
        yield link
        link = link.__cause__ or link.__context__


# --- asking ---------------------------------------------------------------------------------------


async def repeated(ask: Callable[[], Awaitable[T]], retries: Retries, model: str) -> T:
    """Return what `ask` gives, asking again after failures that may pass. On asyncio and trio; cancelling
    ends the waiting at once.

    Raises what `ask` raised last.
    """
    failures: _Failures | None = None
    while True:
        try:
            return await ask()
        except Exception as exc:
            failures = failures or _Failures(retries, model)
            wait_s = failures.wait_s(exc)
            if wait_s is None:
                raise
        await anyio.sleep(wait_s)


def repeated_sync(ask: Callable[[], T], retries: Retries, model: str) -> T:
    """The same for a plain thread."""
    failures: _Failures | None = None
    while True:
        try:
            return ask()
        except Exception as exc:
            failures = failures or _Failures(retries, model)
            wait_s = failures.wait_s(exc)
            if wait_s is None:
                raise
        time.sleep(wait_s)


class _Failures:
    """What failed of one request so far."""

    def __init__(self, retries: Retries, model: str) -> None:
        self._retries = retries
        self._model = model
        self._tries = 0
        self._since = 0.0

    def wait_s(self, exc: Exception) -> float | None:
        """Return how many seconds to wait before it is asked again; None: it is not."""
        if self._tries >= self._retries.count or not _may_repeat(exc, self._retries):
            return None
        if not self._tries:
            self._since = time.monotonic()
        asked = asked_wait(exc)
        # Twice as long each time. Half is left to chance: who failed together is not to come back together.
        wait_s = min(FIRST_WAIT_S * 2.0 ** min(self._tries, 60), LONGEST_WAIT_S) * random.uniform(0.5, 1.0)
        self._tries += 1
        if asked is not None:  # and a little more, by chance again
            wait_s = asked + random.uniform(0, 0.25) * wait_s
        if time.monotonic() - self._since + wait_s >= self._retries.total_s:
            return None
        self._tell(exc, wait_s)
        return wait_s

    def _tell(self, exc: Exception, wait_s: float) -> None:
        error = exc.error if isinstance(exc, BrokenBeginning) else exc
        what = type(error).__name__ if error else "an empty stream"
        status = getattr(error, "status_code", None)
        # Neither the message nor the headers: providers quote parts of keys there.
        log.warning(
            "model %r: %s%s; asking again in %.1f s (%d of at most %d)",
            self._model,
            what,
            f" ({status})" if status else "",
            wait_s,
            self._tries,
            self._retries.count,
        )


def _may_repeat(exc: Exception, retries: Retries) -> bool:
    return is_transient(exc) and (retries.requests or isinstance(exc, BrokenBeginning))
