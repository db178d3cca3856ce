"""The tool source `python`, and the toolbox that holds the tools of every session. Nothing heavy at the top."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from agentd.hookspecs import hookimpl
from agentd.protocols import Toolbox, ToolEvents, ToolSource
from agentd.registry.options import check_options

__all__ = ["AGENTD_API", "agentd_create_tool_sources", "agentd_create_toolbox"]

AGENTD_API: Final = 1
SCHEME: Final = "python:"


@hookimpl
def agentd_create_tool_sources(spec: object, options: Mapping[str, Any]) -> Sequence[ToolSource] | None:
    """Take `python:FILE.py`: the `@tool` functions of that file, as the source of the file's name. No options."""
    if not isinstance(spec, str) or not spec.startswith(SCHEME):
        return None
    check_options("the tool source 'python'", options, {})
    from agentd_tools.functions import file_source

    return [file_source(spec.removeprefix(SCHEME))]


@hookimpl
def agentd_create_toolbox(
    tools: Sequence[object] | None,
    servers: Sequence[object],
    make_sources: Callable[[object], Sequence[ToolSource]],
    events: ToolEvents,
) -> Toolbox:
    """Make the toolbox of one session or client."""
    from agentd_tools.toolbox import SessionToolbox

    return SessionToolbox(tools, servers, make_sources, events)
