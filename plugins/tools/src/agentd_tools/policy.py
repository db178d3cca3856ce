"""What may be done: a session's one policy, asked on the host before a wish of code or model is carried out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

import attrs
from agentd.types import ToolSpec

__all__ = ["Decision", "PolicyRequest", "SessionPolicy", "ToolJudge"]

ToolJudge = Callable[[bytes, str], "Decision | None"]
"""Decides about a call of one tool by its arguments and action id; None if somebody may have to be asked."""


@attrs.frozen(kw_only=True)
class PolicyRequest:
    """A tool by its Python name, the path of a `create` block, or `HOST:PORT`. `content` are the arguments as JSON,
    unchecked, or the file's text; `source` is the tool's, or `allowed_hosts` if the executor allows the host by itself.
    """

    kind: Literal["tool", "create", "host"]
    name: str
    content: bytes = b""
    source: str = ""
    spec: ToolSpec | None = None
    action_id: str = ""


@attrs.frozen
class Decision:
    """Whether it may be done; for the record, what decided (`allowed by rule 2`); what the code reads if denied.

    :ivar is_fixed: it holds for every call of that tool, whatever the arguments: the policy is not asked again.
    """

    allowed: bool
    told: str = ""
    reason: str = ""
    is_fixed: bool = False


class SessionPolicy(Protocol):
    """Decides about tool calls, created files and hosts, each once, where it is carried out.

    One that has `for_tool(request) -> ToolJudge | None` is asked for that with the first call of a tool, without its
    arguments. Then `check` is called only where the function returns None.
    """

    def check(
        self, request: PolicyRequest, go_on: Callable[[Decision], None]
    ) -> Decision | Callable[[], None]:
        """Decide, or ask and return what gives the question up: unless that is called, `go_on` gets the decision,
        once, from any thread. In an I/O thread: must neither block nor raise."""
        ...

    async def decide(self, request: PolicyRequest) -> Decision:
        """The same, and wait for it, on any event loop. Cancelling gives the question up."""

    def guard(self, executor: Any) -> Any:
        """Return what runs an executor's actions, and asks about created files. An executor that decides about hosts
        while code runs has `attach_policy(may_reach)`, which is called here: an async function of `HOST:PORT` and of
        whether its own settings allow the host, on any event loop, that tells whether it may be reached."""

    def close(self) -> None:
        """Deny what is still asked. From any thread."""
