"""A server asks for a model's answer: the session whose code has called it is asked for leave, and pays.

A server asks while it works on a call, but does not say on which. So the newest call under way counts, and between two
calls the last one: nothing that a session has started asks a model past its policy. Where no session has called (a
program calls the source itself), it is answered without either.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from functools import partial
from typing import Any

from agentd.errors import ConfigError, ToolDeniedError, ToolError
from agentd.registry.options import check_options
from agentd.turn.spending import Spending, around
from agentd.types import Usage
from agentd_tools.calling import current_call, know_loop
from agentd_tools.policy import PolicyRequest

from agentd_mcp_bridge.callbacks import call_function, is_async
from agentd_mcp_bridge.config import Callback

__all__ = ["NAME", "PaidSampling"]

NAME = "sampling"
"""What a policy is asked about: a tool of this name, with the server as its source and the request as its arguments."""

_USAGE = {"input_tokens": int, "output_tokens": int, "cost_usd": float | None}


class PaidSampling:
    """Answers a server by the user's function, which runs in the context of the call: what it spends counts there.

    The function may return a dict with `usage`: `input_tokens`, `output_tokens`, `cost_usd`. If it neither says that
    nor asks a model through agentd, tokens are guessed; under a money budget that is refused: nobody knows the cost.
    """

    def __init__(self, server: str, complete: Callback) -> None:
        self._server = server
        self._complete = complete
        self._calls: dict[object, Context] = {}  # in the order in which they began
        self._last: Context | None = None

    def begin_call(self) -> Callable[[], None]:
        """Note the current context as that of a call under way; return what ends it. From any thread."""
        if current_call.get() is None:
            return _nothing
        key = object()
        self._calls[key] = self._last = copy_context()

        def end() -> None:
            self._calls.pop(key, None)

        return end

    async def __call__(self, request: dict[str, Any]) -> Any:
        """Answer a request. Raises `ToolDeniedError` if the policy does not allow it."""
        calls = list(self._calls.values())
        context = calls[-1] if calls else self._last
        if context is None:
            return _without_usage(await call_function(self._complete, request))[0]
        work = self._answer(request)
        return await asyncio.get_running_loop().create_task(work, context=context.copy())

    async def _answer(self, request: dict[str, Any]) -> Any:
        blocking = copy_context()  # for a function that has a thread, and no loop
        know_loop()
        await self._ask_leave(request)
        spending = Spending(run=None)
        left = spending.left_usd()
        if left is not None and left <= 0:
            raise ToolError(f"{self._server!r} gets no answer of a model: the run's money is spent")
        around.set(spending)
        blocking.run(around.set, spending)
        complete: Any = self._complete
        if not is_async(complete):
            complete = partial(blocking.run, complete)
        answer, usage = _without_usage(await call_function(complete, request))
        if usage is None and not spending.requests:
            said = len(json.dumps(answer, default=str)) // 4
            usage = Usage(input_tokens=len(json.dumps(request)) // 4, output_tokens=said, requests=1)
        if usage is not None:
            spending.add(usage)
            if left is not None and usage.cost_usd is None:
                raise ToolError(
                    "the run has a money budget, and the sampling function does not say what its answer has cost: "
                    "return a dict with `usage`, or use `models_from_code(...).sampling`"
                )
        return answer

    async def _ask_leave(self, request: dict[str, Any]) -> None:
        call = current_call.get()
        policy = None if call is None else getattr(call.session, "policy", None)
        if call is None or policy is None:
            return
        decision = await policy.decide(
            PolicyRequest(
                kind="tool",
                name=NAME,
                content=json.dumps(request).encode(),
                source=self._server,
                action_id=call.action_id,
            )
        )
        if not decision.allowed:
            raise ToolDeniedError(f"asking a model was denied: {decision.reason}")


def _nothing() -> None:
    """Nobody is noted."""


def _without_usage(answer: Any) -> tuple[Any, Usage | None]:
    """Take what an answer has cost out of it. Raises `ConfigError`."""
    if not isinstance(answer, Mapping) or answer.get("usage") is None:
        return answer, None
    rest = {key: value for key, value in answer.items() if key != "usage"}
    usage = answer["usage"]
    if isinstance(usage, Usage):
        return rest, usage
    if not isinstance(usage, Mapping):
        raise ConfigError(f"sampling: usage must be a mapping or a Usage, got {type(usage).__name__}")
    check_options("the usage of a sampling function's answer", usage, _USAGE)
    return rest, Usage(**usage, requests=1)
