"""What a second session is made with that goes on from a checkpoint of the first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from agentd.errors import ConfigError
from agentd.protocols import is_tool_source

if TYPE_CHECKING:
    from agentd.session.resources import SessionResources

__all__ = ["forked_settings"]


def forked_settings(
    made_with: Mapping[str, Any], changes: Mapping[str, Any], resources: SessionResources, folder: Path
) -> dict[str, Any]:
    """Return the arguments for a second session, in `folder`, like the one that was made with `made_with`.

    :raises ConfigError: for an object among them that can belong to one session only.
    """
    settings = {**made_with, **changes, "cwd": folder}
    del settings["transcript"]
    if settings["store"] is not None and "conversation_id" not in changes:
        settings["conversation_id"] = f"{settings['conversation_id']}-fork-{token_hex(4)}"
    own = {name for name in ("model", "executor") if not isinstance(settings[name], str | tuple | None)}
    if any(is_tool_source(server) for server in settings["mcp_servers"]):
        own.add("mcp_servers")
    for name in sorted(own - changes.keys()):
        raise ConfigError(
            f"{name}: belongs to the first session; give the fork its own: fork(..., {name}=...)"
        )
    settings["sinks"] = [s for s in settings["sinks"] if isinstance(s, str | tuple) or "sinks" in changes]
    if settings["skills_dir"] is not None and "skills_dir" not in changes:
        if not resources.skills_dir.is_relative_to(resources.workspace):
            raise ConfigError("skills_dir: belongs to the first session; give the fork its own")
        settings["skills_dir"] = folder / resources.skills_dir.relative_to(resources.workspace)
    return settings
