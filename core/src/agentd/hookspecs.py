"""The hooks of a plugin, and what a plugin must have.

A plugin is whatever its entry point names: usually a module `plugin.py` with a constant `AGENTD_API` and
the function of its kind, marked with `hookimpl`; some kinds have a second function that a plugin may leave out.
The entry point's group says the kind, its name the plugin's name:

    [project.entry-points."agentd.executors"]
    subprocess = "agentd_executor_subprocess.plugin"

Listing plugins reads only metadata. A plugin is imported when it is first asked for; an exception while
importing, a wrong `AGENTD_API`, an unknown hook or a signature that does not fit marks that one plugin as
failed or incompatible and touches no other. Hooks are synchronous factories: they import what is heavy
inside, start nothing, and return an object; whatever takes time happens in that object's async methods.
"""

# mypy: disable-error-code="empty-body"
# A specification is never called: it has a signature and a text.

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pluggy

from agentd import protocols
from agentd.notation import Notation

__all__ = [
    "AGENTD_API", "GROUPS", "HOOKS", "HOOKS_OF_ALL", "OPTIONAL_HOOKS", "agentd_create_event_sink",
    "agentd_create_executor", "agentd_create_parser", "agentd_create_skill_renderer",
    "agentd_create_snapshot_store", "agentd_create_timeline", "agentd_create_tool_sources", "agentd_create_toolbox",
    "agentd_create_trigger", "agentd_list_requirements", "agentd_open_model", "agentd_serve_requests",
    "agentd_settle_workspace", "hookimpl", "hookspec",
]  # fmt: skip

AGENTD_API: Final = 1
"""The version of this interface. A plugin's `AGENTD_API` must be the same number."""

hookspec = pluggy.HookspecMarker("agentd")
hookimpl = pluggy.HookimplMarker("agentd")


@hookspec
def agentd_create_executor(
    workspace_dir: Path, options: Mapping[str, Any], make_executor: Callable[..., protocols.Executor]
) -> protocols.Executor:
    """Make an executor for one session.

    Called once for each session that names this plugin (`executor="subprocess"`), never at import. The
    executor starts lazily, when its `start()` or first `run()` is awaited.

    :param workspace_dir: an existing directory, resolved; the only place that code may write to.
    :param options: what the user gave beside the name; refuse an unknown key with `ConfigError`.
    :param make_executor: `Registry.create_executor`, for a plugin that chooses among others, as `auto` does.
    :raises SandboxUnavailableError: if what this executor needs is missing. There is no fallback.

    An exception ends the session's start with `PluginLoadError`, except for agentd's own errors, which
    pass unchanged. Since API 1.
    """


@hookspec
def agentd_create_parser(options: Mapping[str, Any]) -> Notation:
    """Return the notation of this parser: what the model is told of it, and what makes a parser for each answer.

    Called once for each session. A session teaches the model the notation of its first parser; all of them read the
    same text, and the block that opens first wins.

    An exception ends the session's start with `PluginLoadError`. Since API 1.
    """


@hookspec
def agentd_create_tool_sources(
    spec: object, options: Mapping[str, Any]
) -> Sequence[protocols.ToolSource] | None:
    """Make tool sources from something that a user passed as `mcp_servers=[...]` or `tools=[...]`.

    Called for every such object that is no plain function, one plugin after the other in the order of
    their names, until one returns something other than None. A text that begins with the plugin's name and a colon
    (`rates:EUR`) comes to that plugin alone, whole. Return None for what is not yours.

    :param options: what the user gave beside the text, as in `("rates:EUR", {"ttl_s": 60})`.

    An exception ends the session's start with `PluginLoadError` and names `spec`. Since API 1.
    """


@hookspec
def agentd_create_toolbox(
    tools: Sequence[object] | None,
    servers: Sequence[object],
    make_sources: Callable[[object], Sequence[protocols.ToolSource]],
    events: protocols.ToolEvents,
) -> protocols.Toolbox:
    """Make what holds the tools of one session or client and answers calls. A second hook of tool sources.

    agentd-tools has it, under the tool source's name `python`. Called when there is a tool for the first time.

    :param tools: functions and descriptions of tool sources; None for all functions marked with `@tool`.
    :param servers: descriptions of tool sources, and `ToolSource` objects.
    :param make_sources: turns a description into sources (`Registry.create_tool_sources`).
    :param events: who is told of calls and changes.

    Since API 1.
    """


@hookspec
def agentd_create_skill_renderer(options: Mapping[str, Any]) -> protocols.SkillRenderer:
    """Make the renderer that turns tools into files. Called once for each session. Since API 1."""


@hookspec
def agentd_create_event_sink(options: Mapping[str, Any]) -> protocols.EventSink:
    """Make a sink that receives every event of a session. Called once for each session that names it.

    An exception ends the session's start with `PluginLoadError`; one in the sink's `emit` does not end
    the run. Since API 1.
    """


@hookspec
def agentd_open_model(name: str, options: Mapping[str, Any]) -> protocols.Model | None:
    """Open a conversation with the model `name`, or return None if it is not this provider's.

    Called once for each session, one plugin after the other in the order of their names, `openai` last, until one
    answers. A name that begins with the plugin's name and a slash (`acme/large-1`) comes to that plugin first. Opens
    no connection: that is for the first request.

    :param options: what the user gave: `base_url`, `api_key`, `api` (`chat` or `responses`), `prices` and
        `request` (further arguments of every request). Absent ones are not set. Refuse with `ConfigError` what this
        provider cannot do.

    An exception ends the session's start with `PluginLoadError`, except for agentd's own errors. Since API 1.
    """


@hookspec
def agentd_serve_requests(name: str, base_url: str, method: str) -> Callable[..., Any] | None:
    """Serve requests of a patched client for the model `name`, or return None. A model provider's second hook.

    A provider without it is used through `agentd_open_model`, also behind a patched client.

    :param base_url: the client's address.
    :param method: `chat`, `responses` or `embeddings`.
    :return: a blocking function that takes the arguments of the SDK's method of that kind and returns the SDK's
        types; with `stream=True`, an iterator over them.

    Since API 1.
    """


@hookspec
def agentd_create_snapshot_store(
    workspace_dir: Path,
    base_dir: Path | None,
    exclude: Callable[[], Sequence[str]],
    options: Mapping[str, Any],
) -> protocols.SnapshotStore:
    """Open the store of a workspace's snapshots.

    Called when a session or an executor wants one for the first time, in a worker thread: it may read the disk.

    :param base_dir: where the user wants snapshots to lie, outside the workspace; None for the plugin's own choice
        (in the user's state folder).
    :param exclude: returns paths relative to the workspace that are no part of snapshots; ask again for each one.

    Since API 1.
    """


@hookspec
def agentd_create_timeline(
    resources: Any, transcript: Any, store: Any, base_dir: str | Path | None, has_code: bool
) -> protocols.Timeline:
    """Make the checkpoints of a session, over any snapshot store. A second hook of snapshot stores.

    agentd-snapshots has it, under the store's name `packs`. Called when a session first has to do with checkpoints.

    :param resources: the session's workspace, executor and skills: a `SessionResources`.
    :param transcript: its `Transcript`; going back changes it in place.
    :param store, base_dir: the snapshot store's name, with options perhaps, and where the user wants it to lie.
    :param has_code: False for a session that runs no code, and so has no shell.

    Since API 1.
    """


@hookspec
def agentd_create_trigger(options: Mapping[str, Any]) -> Any:
    """Make what wakes an agent of the daemon, a `TriggerSource` of `agentd_daemon.triggers`; see there. Since API 1."""


@hookspec
def agentd_list_requirements(options: Mapping[str, Any]) -> Sequence[protocols.Requirement]:
    """Say what this plugin needs of the machine, and whether it is there. Any plugin may have this hook.

    Called by `agentd doctor` for every installed plugin; may run short commands, must change nothing. Since API 1.
    """


@hookspec
def agentd_settle_workspace(workspace_dir: Path) -> Sequence[str]:
    """Finish what this plugin was killed in, and return a sentence for each thing done. Any plugin may have this hook.

    Called, in a worker thread, before code runs in a workspace for which the plugin has left a mark: a file
    `KIND.NAME` in `agentd.workspace.unfinished_dir(workspace_dir)`, with a content of its own, which it removes when
    that is done. An error of agentd's says that a person has to decide first: no code runs then. Since API 1.
    """


GROUPS: Final = {
    "executor": "agentd.executors",
    "parser": "agentd.parsers",
    "tool_source": "agentd.tool_sources",
    "skill_renderer": "agentd.skill_renderers",
    "event_sink": "agentd.event_sinks",
    "model": "agentd.models",
    "snapshot_store": "agentd.snapshots",
    "trigger": "agentd.triggers",
    "command": "agentd.commands",
}
"""Entry-point group by kind. `agentd.exports` is one more group: public names, no plugins."""

HOOKS: Final = {
    "executor": "agentd_create_executor",
    "parser": "agentd_create_parser",
    "tool_source": "agentd_create_tool_sources",
    "skill_renderer": "agentd_create_skill_renderer",
    "event_sink": "agentd_create_event_sink",
    "model": "agentd_open_model",
    "snapshot_store": "agentd_create_snapshot_store",
    "trigger": "agentd_create_trigger",
}
"""The hook that every plugin of a kind implements. A command has none: its entry point is the click command."""

OPTIONAL_HOOKS: Final = {
    "tool_source": ("agentd_create_toolbox",),
    "model": ("agentd_serve_requests",),
    "snapshot_store": ("agentd_create_timeline",),
}
"""What a plugin of a kind may implement besides."""

HOOKS_OF_ALL: Final = ("agentd_list_requirements", "agentd_settle_workspace")
"""What a plugin of any kind may implement."""
