"""The plugins that `agentd run` was told to use: found, and tried with their options, before anything runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Final

import click
from agentd.errors import ConfigError, suggest
from agentd.registry import Registry
from agentd.registry.defaults import default_executor
from agentd.registry.official import OFFICIAL_PLUGINS
from agentd.registry.options import split_spec
from agentd_sink_console.neutral import one_line

from agentd_cli.plugin_options import KINDS, PluginOptions, read_plugin_options
from agentd_cli.trial import try_plugin

__all__ = ["choose_plugins"]

_TAUGHT: Final = "fence"


def choose_plugins(
    *,
    has_code: bool,
    timeout_s: float | None,
    model: str | None,
    base_url: str | None,
    api: str,
    executor: str | None,
    parsers: tuple[str, ...],
    renderer: str | None,
    skills: tuple[Path, ...],
    snapshots: str | None,
    sink_names: tuple[str, ...],
    log_dir: Path | None,
    tools: tuple[str, ...],
    mcp_targets: tuple[str, ...],
    mcp_files: tuple[Path, ...],
    plugin_options: tuple[str, ...],
    bare_fences: str | None = None,
) -> dict[str, Any]:
    """Find the plugins that the command line names, try those that have options, and return what `Session` is told.

    :param has_code: the model writes code; without it there are neither executor, parsers nor renderer.
    :param timeout_s: an option of the executor.
    :raises AgentdError: for a plugin that cannot be used, and for options that one does not take.
    :raises click.BadParameter: for an option of a plugin that this run does not use.
    """
    if bare_fences is not None:
        plugin_options = (*plugin_options, f"parser.fence.bare_fences={bare_fences}")
    registry = Registry()
    name = model or os.environ.get("AGENTD_MODEL") or os.environ.get("OPENAI_MODEL") or ""
    specs = [_tool_spec(text, registry) for text in tools]
    servers = [*mcp_targets, *mcp_files]
    place, place_options = _executor(executor, registry) if has_code else ("", {})
    in_use = {
        "executor": [place] if has_code else [],
        "parser": list(parsers or _all_parsers(registry)) if has_code else [],
        "renderer": [renderer or "agentskills"] if has_code else [],
        "snapshots": [snapshots or "packs"],
        "sink": [*sink_names, *(["jsonl"] if log_dir is not None else [])],
        "tool": [*(spec.partition(":")[0] for spec in specs), *(["mcp"] if servers else [])],
        "model": [name, *_providers(name, registry)],
    }
    options = _read_options(plugin_options, in_use)
    if timeout_s is not None and has_code:
        options.values.setdefault(("executor", place), {}).setdefault("timeout", timeout_s)
    if place_options:
        options.values["executor", place] = {**place_options, **options.of("executor", place)}
    named = {
        "executor": [place] if has_code else [],
        "parser": parsers if has_code else (),
        "renderer": [renderer] if renderer and has_code else (),
        "snapshots": [snapshots] if snapshots else (),
        "sink": sink_names,
    }
    for kind, names in named.items():
        for wanted in names:
            registry.find(KINDS[kind], wanted)
    for kind in ("parser", "renderer", "snapshots"):
        for wanted in in_use[kind]:
            if options.of(kind, wanted):
                try_plugin(registry, KINDS[kind], options.spec(kind, wanted))
    sinks = [options.spec("sink", sink) for sink in sink_names]
    if log_dir is not None:
        sinks.append(("jsonl", {**options.of("sink", "jsonl"), "path": log_dir}))
    return {
        "registry": registry,
        **_code(options, in_use, has_code=has_code, chosen=bool(parsers), skills=skills),
        "snapshots": options.spec("snapshots", in_use["snapshots"][0]),
        "sinks": sinks,
        "tools": [_with_options(spec, options.of("tool", spec.partition(":")[0])) for spec in specs],
        "mcp_servers": [
            _with_options(server, {**options.of("tool", "mcp"), **_person(server)}) for server in servers
        ],
        **_model(registry, name, options.of("model", name), base_url=base_url, api=api),
    }


def _executor(named: str | None, registry: Registry) -> tuple[str, dict[str, Any]]:
    """Return the executor of this run, with options if `agentd.defaults` has chosen it with some."""
    return split_spec(named or default_executor(registry, sandboxed=True), where="executor")


def _read_options(pairs: tuple[str, ...], in_use: dict[str, list[str]]) -> PluginOptions:
    """Read `-o`. What is for `native` is handed on by `auto`, which takes that executor or none with such options."""
    if in_use["executor"] != ["auto"]:
        return read_plugin_options(pairs, in_use)
    options = read_plugin_options(pairs, {**in_use, "executor": ["auto", "native"]})
    if native := options.values.pop(("executor", "native"), {}):
        options.values.setdefault(("executor", "auto"), {})["native"] = native
    return options


def _person(server: object) -> dict[str, Any]:
    """Return the options by which the inputs of a file of servers are asked for, if a person is at the terminal."""
    if not isinstance(server, Path) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return {}
    return {"ask_input": _ask}


def _ask(purpose: str, is_secret: bool) -> str:
    answer: str = click.prompt(
        one_line(purpose), default="", show_default=False, hide_input=is_secret, err=True
    )
    return answer


def _all_parsers(registry: Registry) -> list[str]:
    """Return the parsers that a session takes if none is named, in its order."""
    usable = [record.name for record in registry.records("parser") if record.state == "available"]
    return sorted(usable, key=lambda name: name != _TAUGHT)


def _providers(name: str, registry: Registry) -> list[str]:
    """Return other names by which `-o model.NAME...` may mean the model: its prefix, and installed providers."""
    prefix, slash, _ = name.partition("/")
    return [*([prefix] if slash else []), *(record.name for record in registry.records("model"))]


def _tool_spec(text: str, registry: Registry) -> str:
    """Return what a tool source plugin takes: `python:FILE`, or the text as it is if it names its source."""
    sources = {record.name for record in registry.records("tool_source")}
    sources |= {name for kind, name in OFFICIAL_PLUGINS if kind == "tool_source"}
    scheme, colon, _ = text.partition(":")
    if colon and scheme in sources:
        return text
    if Path(text).is_file():
        return f"python:{text}"
    problem = f"there is no file {text!r}"
    if colon:
        listed = ", ".join(map(repr, sorted(sources)))
        problem = (
            f"{text!r} is neither a file nor the text of a tool source (NAME:...); there are: {listed}"
            f"{suggest(scheme, sources)}"
        )
    raise click.BadParameter(problem, param_hint="--tool")


def _with_options(spec: object, options: dict[str, Any]) -> object:
    return (spec, options) if options else spec


def _code(
    options: PluginOptions,
    in_use: dict[str, list[str]],
    *,
    has_code: bool,
    chosen: bool,
    skills: tuple[Path, ...],
) -> dict[str, Any]:
    """Return what only a session with code is told."""
    if not has_code:
        return {}
    parsers = in_use["parser"]
    # left to the session, one that does not load is passed over
    wanted = chosen or any(options.of("parser", name) for name in parsers)
    return {
        "executor": options.spec("executor", in_use["executor"][0]),
        "parsers": [options.spec("parser", name) for name in parsers] if wanted else None,
        "renderer": options.spec("renderer", in_use["renderer"][0]),
        "skills": skills,
    }


def _model(
    registry: Registry, name: str, options: dict[str, Any], *, base_url: str | None, api: str
) -> dict[str, Any]:
    """Return what `Session` is told about the model. Raises `ConfigError` that names what is missing."""
    if not name:
        raise ConfigError(
            "no model: name one with --model NAME, in agentd.toml or by AGENTD_MODEL; `agentd demo` works without one, "
            "and `agentd --help` lists the commands"
        )
    given = {"base_url": base_url, "api": api, **options}
    settings = {key: given.pop(key) for key in ("base_url", "api")}
    if options:
        known: dict[str, Any] = {key: value for key, value in settings.items() if value is not None}
        try_plugin(registry, "model", (name, given), settings=known)
    return {"model": (name, given) if given else name, **settings}
