"""The five hooks of a plugin, and what a plugin must have.

A plugin is whatever its entry point names: usually a module `plugin.py` with a constant `AGENTD_API` and
one function marked with `hookimpl`. The entry point's group says the kind, its name the plugin's name:

    [project.entry-points."agentd.executors"]
    subprocess = "agentd_executor_subprocess.plugin"

Listing plugins reads only metadata. A plugin is imported when it is first asked for; an exception while
importing, a wrong `AGENTD_API`, an unknown hook or a signature that does not fit marks that one plugin as
failed or incompatible and touches no other. Hooks are synchronous factories: they import what is heavy
inside, start nothing, and return an object; whatever takes time happens in that object's async methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pluggy

from agentd.protocols import EventSink, Executor, Parser, SkillRenderer, ToolSource

__all__ = [
    "AGENTD_API",
    "GROUPS",
    "HOOKS",
    "agentd_create_event_sink",
    "agentd_create_executor",
    "agentd_create_parser",
    "agentd_create_skill_renderer",
    "agentd_create_tool_sources",
    "hookimpl",
    "hookspec",
]

AGENTD_API: Final = 1
"""The version of this interface. A plugin's `AGENTD_API` must be the same number."""

hookspec = pluggy.HookspecMarker("agentd")
hookimpl = pluggy.HookimplMarker("agentd")


@hookspec
def agentd_create_executor(workspace_dir: Path, options: Mapping[str, Any]) -> Executor:
    """Make an executor for one session.

    Called once for each session that names this plugin (`executor="subprocess"`), never at import. The
    executor starts lazily, when its `start()` or first `run()` is awaited.

    :param workspace_dir: an existing directory, resolved; the only place that code may write to.
    :param options: what the user gave beside the name; refuse an unknown key with `ConfigError`.
    :raises SandboxUnavailableError: if what this executor needs is missing. There is no fallback.

    An exception ends the session's start with `PluginLoadError`, except for agentd's own errors, which
    pass unchanged. Since API 1.
    """
    raise AssertionError("a specification, never called")


@hookspec
def agentd_create_parser(options: Mapping[str, Any]) -> Parser:
    """Make a parser for one answer of the model.

    Called once for every answer and again after each block found by another parser (so make it cheap).
    All enabled parsers read the same text; the block that opens first wins.

    An exception ends the turn with `PluginLoadError`. Since API 1.
    """
    raise AssertionError("a specification, never called")


@hookspec
def agentd_create_tool_sources(spec: object, options: Mapping[str, Any]) -> Sequence[ToolSource] | None:
    """Make tool sources from something that a user passed as `mcp_servers=[...]` or `tools=[...]`.

    Called for every such object that is no plain function, one plugin after the other in the order of
    their names, until one returns something other than None. Return None for what is not yours.

    An exception ends the session's start with `PluginLoadError` and names `spec`. Since API 1.
    """
    raise AssertionError("a specification, never called")


@hookspec
def agentd_create_skill_renderer(options: Mapping[str, Any]) -> SkillRenderer:
    """Make the renderer that turns tools into files. Called once for each session. Since API 1."""
    raise AssertionError("a specification, never called")


@hookspec
def agentd_create_event_sink(options: Mapping[str, Any]) -> EventSink:
    """Make a sink that receives every event of a session. Called once for each session that names it.

    An exception ends the session's start with `PluginLoadError`; one in the sink's `emit` does not end
    the run. Since API 1.
    """
    raise AssertionError("a specification, never called")


GROUPS: Final = {
    "executor": "agentd.executors",
    "parser": "agentd.parsers",
    "tool_source": "agentd.tool_sources",
    "skill_renderer": "agentd.skill_renderers",
    "event_sink": "agentd.event_sinks",
}
"""Entry-point group by kind. `agentd.exports` is a sixth group: public names, no plugins."""

HOOKS: Final = {
    "executor": "agentd_create_executor",
    "parser": "agentd_create_parser",
    "tool_source": "agentd_create_tool_sources",
    "skill_renderer": "agentd_create_skill_renderer",
    "event_sink": "agentd_create_event_sink",
}
"""The one hook that a plugin of each kind implements."""
