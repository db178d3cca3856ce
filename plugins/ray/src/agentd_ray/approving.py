"""The driver's approver: asked here about what code on a host wants to do."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

from agentd_ray.wire import ApproverAsked

__all__ = ["ask_approver"]


async def ask_approver(approver: Any, item: ApproverAsked) -> Any:
    """Ask, and return the answer: what an approver may return, or, if it answers later, an `ApproverAnswer`."""
    from agentd_policy.questions import ApproverAnswer, Question

    loop = asyncio.get_running_loop()
    later: asyncio.Future[ApproverAnswer] = loop.create_future()

    def settle(answer: ApproverAnswer) -> None:
        if not later.done():
            later.set_result(answer)

    def done(_: Question, answer: ApproverAnswer) -> None:
        loop.call_soon_threadsafe(settle, answer)

    ask = approver.ask if hasattr(approver, "ask") else approver
    given = item.question
    question = Question(
        given["id"],
        given["request"],
        given["why"],
        getattr(approver, "__name__", "the driver"),
        Path("/nonexistent"),  # the workspace is on the host
        done,
        timeout_s=given["timeout_s"],
        rule=given["rule"],
    )
    value = (
        await ask(question) if inspect.iscoroutinefunction(ask) else await asyncio.to_thread(ask, question)
    )
    if inspect.isawaitable(value):
        value = await value
    return await later if value is None else value
