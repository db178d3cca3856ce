"""Tools of a session that an agent may call: they stay where they are, and the session's policy is asked there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from agentd.errors import ToolDeniedError, ToolError, ToolInputError, ToolTimeoutError, UnknownToolError
from agentd.protocols import OnProgress, SourceHost, Tools
from agentd.types import Binding, ToolSpec
from agentd_tools.blobs import decode_json
from agentd_tools.policy import Decision, PolicyRequest, SessionPolicy

__all__ = ["LENT", "BorrowedTools", "InheritedPolicy"]

LENT = "tools"
"""The source's name, as the agent knows it."""


class BorrowedTools:
    """A `ToolSource` of an agent: some tools of the session above, under the names that they have there.

    :param action_id: the block above, below which their calls are told and counted.
    """

    name = LENT

    def __init__(self, tools: Tools, bindings: Sequence[Binding], action_id: str) -> None:
        self._tools = tools
        self._bindings = tuple(bindings)
        self._action_id = action_id

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        """Return their descriptions."""
        return [attrs.evolve(b.spec, name=b.python_name, source=LENT) for b in self._bindings]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        """Have the session above carry the call out. Raises `ToolError`."""
        if name not in [b.python_name for b in self._bindings]:
            raise UnknownToolError(name, [b.python_name for b in self._bindings])
        reply = await self._tools.call_json(name, json.dumps(arguments).encode(), action_id=self._action_id)
        if reply.ok:
            return decode_json(reply.payload)
        told = json.loads(reply.payload)
        kinds = (ToolDeniedError, ToolInputError, ToolTimeoutError)
        kind: type[ToolError] = next((k for k in kinds if k.__name__ == told["type"]), ToolError)
        raise kind(told["message"], data=told.get("data"))

    async def aclose(self) -> None:
        """They belong to the session above."""


@attrs.frozen(eq=False)
class InheritedPolicy:
    """The policy of an agent: that of the session above, but for tools about which that session is asked itself.

    `create_policy` of agentd-policy takes it, and asks `below` for the policy of the agent's session.
    """

    _above: SessionPolicy
    _made: SessionPolicy | None = None

    def below(self, host: Any) -> SessionPolicy:
        """Return the policy of the agent's session."""
        make = getattr(self._above, "below", None)
        return InheritedPolicy(self._above, make(host) if callable(make) else None)

    @property
    def _policy(self) -> SessionPolicy:
        return self._above if self._made is None else self._made

    def check(
        self, request: PolicyRequest, go_on: Callable[[Decision], None]
    ) -> Decision | Callable[[], None]:
        """Decide, or ask; see `agentd_tools.policy.SessionPolicy`."""
        if request.kind == "tool" and request.source == LENT:
            return Decision(True, is_fixed=True)
        return self._policy.check(request, go_on)

    async def decide(self, request: PolicyRequest) -> Decision:
        """The same, and wait for it."""
        return await self._policy.decide(request)

    def guard(self, executor: Any) -> Any:
        """Return what runs an executor's actions."""
        return self._policy.guard(executor)

    def close(self) -> None:
        """Deny what the agent still asks. A policy object of the user's own stays the session's above."""
        if self._made is not None:
            self._made.close()
