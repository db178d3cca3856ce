"""The plugin `mcp-events`: wakes an agent by MCP Events (SEP-3415) of one of its servers. Experimental."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_trigger_mcp_events.trigger import McpEventsTrigger

AGENTD_API = 1

_WHAT: Final = "the trigger 'mcp-events'"
_KNOWN: Final = {"event": str, "arguments": dict, "server": str, "poll_s": float}


@hookimpl
def agentd_create_trigger(options: Mapping[str, Any]) -> McpEventsTrigger:
    """Make the trigger.

    Options: `event`, required: the event type. `arguments` of the subscription. `server`: the `name` of the agent's
    server, where it has several. `poll_s` (30): seconds between two questions, if the server does not say.
    """
    from agentd_trigger_mcp_events.trigger import McpEventsTrigger

    check_options(_WHAT, options, _KNOWN)
    if not options.get("event"):
        raise ConfigError(
            f"option 'event' of {_WHAT} is missing: the name of an event type, as `events/list` has it"
        )
    poll_s = float(options.get("poll_s", 30.0))
    if not 1 <= poll_s <= 86_400:
        raise ConfigError(f"option 'poll_s' of {_WHAT}: must be from 1 to 86400, got {poll_s:g}")
    return McpEventsTrigger(
        options["event"], options.get("arguments", {}), server=options.get("server"), poll_s=poll_s
    )
