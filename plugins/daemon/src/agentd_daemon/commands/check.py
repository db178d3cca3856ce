"""`agentd check`: read the daemon's configuration and say everything that is wrong, without starting anything."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
import click
from agentd_cli.exits import USAGE

from agentd_daemon.commands.clashes import clashing_triggers
from agentd_daemon.commands.fleet import check_fleet, check_usage, fleet_options, missing_problems

if TYPE_CHECKING:
    from agentd.registry import Registry
    from agentd.registry.config import PluginConfig

    from agentd_daemon.config.checks import Finding
    from agentd_daemon.config.loading import Examination
    from agentd_daemon.config.problems import Problem
    from agentd_daemon.config.structuring import DataPath
    from agentd_daemon.config.values import AgentConfig, Plugin
    from agentd_daemon.places import PlaceReport

__all__ = ["check", "unfit_plugins"]


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@fleet_options
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print an object with ok, agents, executors, errors and warnings; with --fleet, fleet, too.",
)
def check(*, files: tuple[str, ...], address: str | None, store: str | None, as_json: bool) -> int:
    """Read the daemon's configuration and say what is wrong with it.

    Several FILEs make one configuration. Starts nothing. Whether the plugins that agents name are installed is
    looked up in their metadata; those that are given options are imported and asked. With --fleet, the cluster is
    connected to, and each node asked whether it reaches the store and has what agents need; no agent starts. Exit
    code 2 if anything is wrong.
    """
    from agentd_daemon.config.loading import examine, unfit_for_places

    check_usage(address, store)
    found = examine(files)
    errors = found.with_problems(
        [*unfit_plugins(found, broken=True), *(() if address is None else unfit_for_places(found))]
    )
    report = None
    if address is not None and found.config is not None and not errors:
        report = check_fleet(found.config, address, store)
        errors = tuple(_told(report.faults))
        said = [*_told(report.warnings), *missing_problems(found, report)]
        found = attrs.evolve(found, warnings=(*found.warnings, *dict.fromkeys(said)))
    if as_json:
        _print_json(found, errors, report)
    else:
        _print_lines(found, errors, report)
    return USAGE if errors else 0


def _told(texts: Sequence[str]) -> Iterator[Problem]:
    """Yield what is told of a fleet: it stands in no file."""
    from agentd_daemon.config.problems import Problem

    return (Problem(file="", message=text) for text in texts)


def _print_lines(found: Examination, errors: Sequence[Problem], report: PlaceReport | None) -> None:
    from agentd_sink_console.neutral import one_line

    for error in errors:
        click.echo(one_line(str(error)), err=True)
    for warning in found.warnings:
        click.echo(f"{one_line(str(warning))} (warning)", err=True)
    if errors or found.config is None:
        many = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        click.echo(f"agentd: {many}", err=True)
        return
    names = one_line(", ".join(agent.name for agent in found.config.agents))
    count = len(found.config.agents)
    click.echo(f"ok: {count} {'agent' if count == 1 else 'agents'}: {names}")
    for agent, place in _places(found, placed=report is not None).items():
        click.echo(one_line(f"the code of {agent} runs in: {place}"))
    for line in report.found if report is not None else ():
        click.echo(one_line(line))


def _places(found: Examination, *, placed: bool) -> dict[str, str]:
    """Return the executor of each agent that writes code.

    :param placed: on a fleet, where nothing falls back to no sandbox.
    """
    from agentd_daemon.config.values import plugin_name

    registry = _registry(found.plugins)
    coders = [
        agent for agent in (found.config.agents if found.config is not None else ()) if agent.mode == "ptc"
    ]
    if placed:
        from agentd_daemon.sessions import placed_executor

        return {agent.name: plugin_name(placed_executor(agent)) for agent in coders}
    return {agent.name: plugin_name(_executor(agent, registry)) for agent in coders}


def _print_json(found: Examination, errors: Sequence[Problem], place: PlaceReport | None) -> None:
    import json

    agents = found.config.agents if found.config is not None else ()
    report = {
        "ok": not errors,
        "agents": [agent.name for agent in agents],
        "executors": {} if errors else _places(found, placed=place is not None),
        "errors": [_as_dict(error) for error in errors],
        "warnings": [_as_dict(warning) for warning in found.warnings],
    }
    if place is not None:
        report["fleet"] = list(place.found)
    click.echo(json.dumps(report, indent=2))


def _as_dict(problem: Problem) -> dict[str, Any]:
    where = problem.position
    return {
        "file": problem.file or None,
        "line": where.line if where is not None else None,
        "column": where.column if where is not None else None,
        "path": problem.path,
        "message": problem.message,
    }


_PTC_KEYS: Final = ("executor", "parsers", "renderer")


# --- plugins -----------------------------------------------------------------------------------


def unfit_plugins(found: Examination, *, broken: bool) -> Iterator[Problem]:
    """Yield a problem for each plugin that an agent names and that cannot be used, or does not take its options, or,
    of triggers, not beside another one.

    :param broken: also for one that fails when it is asked. (The daemon parks its agent, and the others work.)
    """
    registry = _registry(found.plugins)
    seen: set[Problem] = set()  # what stands in the defaults is one mistake, not one for each agent
    for agent, origin in zip(found.agents, found.origins, strict=True):
        own = {key for key in _PTC_KEYS if ("agents", origin.index, key) in origin.document.values}
        for finding in _plugin_findings(agent, own, registry, broken=broken):
            problem = origin.problem(finding)
            if problem not in seen:
                seen.add(problem)
                yield problem
    yield from clashing_triggers(found, registry)


def _registry(plugins: PluginConfig) -> Registry:
    from agentd.registry import Registry

    return Registry(config=plugins)


def _plugin_findings(
    agent: AgentConfig, own: Container[str], registry: Registry, *, broken: bool
) -> Iterator[Finding]:
    from agentd.errors import ConfigError

    from agentd_daemon.config.checks import Finding
    from agentd_daemon.config.values import plugin_name, plugin_options

    try:
        executor = _executor(agent, registry) if agent.mode == "ptc" or "executor" in own else ""
    except ConfigError as error:  # the default one
        executor = ""
        yield Finding(("executor",), str(error))
    for path, kind, plugin in _plugins(agent, own, executor):
        name, options = plugin_name(plugin), plugin_options(plugin)
        if kind != "model" and (objection := _objection(registry, kind, name)):
            yield Finding(path, objection, f"the {kind.replace('_', ' ')} cannot be used")
            continue
        places = {option: (*path, 1, option) for option in options}
        if kind == "executor":
            options = {**options, **agent.executor_options}
            places |= {option: ("executor_options", option) for option in agent.executor_options}
        if options:
            settings = _model_settings(agent) if kind == "model" else {}
            if kind == "model" and agent.provider:
                name = f"{agent.provider}/{name}"
            for text in _option_faults(registry, kind, (name, options), settings, broken=broken):
                named = _OPTION.match(text)
                yield Finding(places.get(named[1], path) if named else path, text)
    if agent.mode == "ptc" and agent.skills:
        yield from _skill_findings(agent, registry)
    yield from _tool_findings(agent, registry, broken=broken)
    yield from _trigger_findings(agent, registry, broken=broken)
    # Those two serve functions, and what code asks models.
    sources = [r for r in registry.records("tool_source") if r.name not in ("python", "models")]
    if agent.mcp_servers and not any(r.state == "available" for r in sources):
        yield Finding(("mcp_servers",), _objection(registry, "tool_source", "mcp"))


def _executor(agent: AgentConfig, registry: Registry) -> Plugin:
    """Return where an agent's code runs. Raises `ConfigError` if that is a default which is not there."""
    from agentd.registry.defaults import default_executor

    found: Plugin = agent.executor or default_executor(registry, sandboxed=True)  # type: ignore[assignment]
    return found


def _plugins(
    agent: AgentConfig, own: Container[str], executor: Plugin
) -> Iterator[tuple[DataPath, str, Plugin]]:
    """Yield the plugins that an agent names, with their places. What is only a default need not be installed.

    :param own: keys that go with `mode: ptc` alone and stand in the agent's own entry: they are looked at in any mode.
    :param executor: where its code runs; empty if it has none.
    """
    yield ("model",), "model", agent.model
    if executor:
        yield ("executor",), "executor", executor
    if agent.mode == "ptc" or "parsers" in own:
        for index, parser in enumerate(agent.parsers or ()):
            yield ("parsers", index), "parser", parser
    if (agent.mode == "ptc" or "renderer" in own) and agent.renderer != "agentskills":
        yield ("renderer",), "skill_renderer", agent.renderer
    if agent.snapshots != "packs":
        yield ("snapshots",), "snapshot_store", agent.snapshots
    for index, sink in enumerate(agent.event_sinks):
        yield ("event_sinks", index), "event_sink", sink


def _objection(registry: Registry, kind: str, name: str) -> str:
    """Return why a plugin cannot be used, or an empty string."""
    from agentd.errors import PluginError

    try:
        registry.find(kind, name)
    except PluginError as error:
        return str(error)
    return ""


def _tool_findings(agent: AgentConfig, registry: Registry, *, broken: bool) -> Iterator[Finding]:
    """Yield what tool source plugins say of the texts of `tools`. A file of functions is not imported for that."""
    from agentd.errors import AgentdError, ConfigError

    from agentd_daemon.config.checks import Finding
    from agentd_daemon.config.values import plugin_name, plugin_options

    for index, plugin in enumerate(agent.tools):
        text, options = plugin_name(plugin), plugin_options(plugin)
        name, colon, _ = text.partition(":")
        path = ("tools", index)
        if not colon:
            said = "must begin with the name of a tool source and a colon, as `models:NAME` does"
            yield Finding(path, f"{said}, got {text!r}", said)
        elif objection := _objection(registry, "tool_source", name):
            yield Finding(path, objection, "the tool source cannot be used")
        elif name != "python":
            try:
                registry.create_tool_sources(text, options)
            except ConfigError as error:
                for line in str(error).splitlines():
                    yield Finding(path, _without_values(line, "tool_source", name, options))
            except AgentdError as error:
                if broken:
                    yield Finding(path, _without_values(str(error), "tool_source", name, options))


def _trigger_findings(agent: AgentConfig, registry: Registry, *, broken: bool) -> Iterator[Finding]:
    """Yield what trigger plugins say of their options. Nothing is started for that."""
    from agentd_daemon.config.checks import Finding

    for index, trigger in enumerate(agent.triggers):
        path: DataPath = ("triggers", index)
        if objection := _objection(registry, "trigger", trigger.kind):
            yield Finding((*path, "kind"), objection, "the trigger cannot be used")
            continue
        for text in _option_faults(registry, "trigger", (trigger.kind, trigger.options), {}, broken=broken):
            named = _OPTION.match(text)
            place = (*path, "options", named[1]) if named and named[1] in trigger.options else path
            yield Finding(place, text)


def _skill_findings(agent: AgentConfig, registry: Registry) -> Iterator[Finding]:
    """Yield what the skill renderer says of the folders of skills: of each, or, if each is right, of all together."""
    from agentd_daemon.config.checks import Finding
    from agentd_daemon.config.values import plugin_name

    if objection := _objection(registry, "skill_renderer", plugin_name(agent.renderer)):
        if agent.renderer == "agentskills":  # the default; another one is told of where it is named
            yield Finding(("skills",), objection)
        return
    faults: list[tuple[DataPath, str]] = [
        (("skills", index), _skill_fault(agent, registry, [folder]))
        for index, folder in enumerate(agent.skills)
    ]
    if not any(text for _, text in faults):
        faults.append((("skills",), _skill_fault(agent, registry, agent.skills)))
    for path, text in faults:
        if text.startswith("skills: "):
            yield Finding(path, text.removeprefix("skills: "), "the skill renderer cannot use this")


def _skill_fault(agent: AgentConfig, registry: Registry, folders: Sequence[str]) -> str:
    from agentd.errors import AgentdError, ConfigError
    from agentd_cli.trial import try_plugin

    from agentd_daemon.config.values import plugin_name, plugin_options

    options = {**plugin_options(agent.renderer), "skills": list(folders)}
    try:
        try_plugin(registry, "skill_renderer", (plugin_name(agent.renderer), options))
    except ConfigError as error:
        return str(error)
    except AgentdError:  # the plugin does not work; that is told where it is asked for its options
        pass
    return ""


# --- options of plugins ------------------------------------------------------------------------

_OPTION = re.compile(r"^(?:unknown )?option '([^']+)'")


def _model_settings(agent: AgentConfig) -> dict[str, Any]:
    settings = {"api": agent.api, "api_key": "none"}  # whether there is a key is not the question here
    return settings | ({"base_url": agent.base_url} if agent.base_url else {})


def _option_faults(
    registry: Registry,
    kind: str,
    spec: tuple[str, dict[str, Any]],
    settings: Mapping[str, Any],
    *,
    broken: bool,
) -> Iterator[str]:
    """Yield what a plugin says about its options. It is imported for that, and makes what a session would use."""
    from agentd.errors import AgentdError, ConfigError, PluginError
    from agentd_cli.trial import try_plugin

    try:
        try_plugin(registry, kind, spec, settings=settings)
    except ConfigError as error:
        for line in str(error).splitlines():
            yield _without_values(line, kind, *spec)
    except PluginError as error:
        if broken:
            yield _without_values(str(error), kind, *spec)
    except AgentdError:
        pass  # this machine cannot run it; whether another can is not the question here


def _without_values(line: str, kind: str, name: str, options: Mapping[str, Any]) -> str:
    """Return a plugin's sentence without what was given: options may be secrets."""
    text = re.sub(r", got .*", "", line)
    if any(value in text for value in _texts(options)):
        return f"the {kind.replace('_', ' ')} {name!r} does not take these options"
    return text


def _texts(value: object) -> Iterator[str]:
    """Yield the texts among some values that are long enough to be secrets."""
    if isinstance(value, str) and len(value) > 3:
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
