"""The person at the terminal, who is asked what a policy wants to be asked while nothing else is shown there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a distribution of its own
    from agentd_policy.questions import Question

__all__ = ["asked_person"]


def asked_person(apart: Callable[[], AbstractContextManager[None]]) -> object:
    """Return the approver that asks at the terminal.

    :param apart: while what it returns is entered, nothing else is shown: a line that is drawn anew, such as what a run
        waits for, would cover the question.
    :raises MissingPluginError: if `agentd-policy` is not installed.
    """
    from agentd.errors import MissingPluginError

    try:
        from agentd_policy.approvers import Approver
        from agentd_policy.terminal import TerminalApprover
    except ImportError as exc:
        raise MissingPluginError("--policy", "agentd-policy") from exc
    terminal, turn = TerminalApprover(), asyncio.Lock()

    async def ask(question: Question) -> object:
        async with turn:
            with apart():
                return await terminal.ask(question)

    return Approver(ask, "the terminal", in_session=True)
