"""What can go wrong with a fleet."""

from __future__ import annotations

from agentd.errors import AgentdError, ConfigError

__all__ = [
    "FleetError",
    "FleetFullError",
    "HostLostError",
    "NotSendableError",
    "SessionLeftError",
    "not_opened",
]


class FleetError(AgentdError):
    """A fleet cannot be opened, or cannot do what was asked of it."""


class FleetFullError(FleetError):
    """No host has a place, and too many sessions wait for one."""


class HostLostError(FleetError):
    """A host is gone, or has said nothing for too long. Its sessions go on elsewhere.

    :ivar node: the id of its node.
    """

    def __init__(self, node: str, why: str) -> None:
        super().__init__(f"the host on node {node[:12]} is lost: {why}")
        self.node = node


class NotSendableError(ConfigError):
    """Something cannot be sent to another machine: it does not pickle."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(
            f"{what}: cannot be sent to a host: {why}; give a function that makes it there (model=lambda: ...), or "
            'mark a tool with @tool(where="driver"): it is called here then'
        )
        self.what = what


class SessionLeftError(AgentdError):
    """A session leaves its host at a turn's border, with a checkpoint in the store. Its run goes on elsewhere."""

    def __init__(self, conversation: str) -> None:
        super().__init__(
            f"the conversation {conversation!r} leaves this host at a turn's border; it goes on elsewhere"
        )
        self.conversation = conversation


def not_opened(node: object, conversation: str, why: object) -> str:
    """Return what is told of a node that has not what a session needs."""
    return (
        f"the node {node} cannot open the session {conversation!r}: {why}; have the same distributions on all nodes, "
        "or give Fleet(host_options={'runtime_env': {'pip': [...]}})"
    )
