"""`agentd check`: read the daemon's configuration and say everything that is wrong, without starting anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from agentd_cli.exits import USAGE

if TYPE_CHECKING:
    from agentd.registry import Registry

    from agentd_daemon.config.checks import Finding
    from agentd_daemon.config.loading import Examination
    from agentd_daemon.config.problems import Problem
    from agentd_daemon.config.values import AgentConfig, DaemonConfig

__all__ = ["absent_plugins", "check"]


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print an object with ok, agents, errors and warnings.")
def check(*, files: tuple[str, ...], as_json: bool) -> int:
    """Read the daemon's configuration and say what is wrong with it.

    Several FILEs make one configuration. Starts nothing and imports no plugin; whether the executors and
    sinks that agents name are installed is looked up in their metadata. Exit code 2 if anything is wrong.
    """
    from agentd_daemon.config.loading import examine

    found = examine(files)
    errors = [*found.problems, *absent_plugins(found)]
    if as_json:
        _print_json(found, errors)
    else:
        _print_lines(found, errors)
    return USAGE if errors else 0


def _print_lines(found: Examination, errors: list[Problem]) -> None:
    for error in errors:
        click.echo(str(error), err=True)
    for warning in found.warnings:
        click.echo(f"{warning} (warning)", err=True)
    if errors or found.config is None:
        many = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        click.echo(f"agentd: {many}", err=True)
        return
    names = ", ".join(agent.name for agent in found.config.agents)
    count = len(found.config.agents)
    click.echo(f"ok: {count} {'agent' if count == 1 else 'agents'}: {names}")


def _print_json(found: Examination, errors: list[Problem]) -> None:
    import json

    agents = found.config.agents if found.config is not None else ()
    report = {
        "ok": not errors,
        "agents": [agent.name for agent in agents],
        "errors": [_as_dict(error) for error in errors],
        "warnings": [_as_dict(warning) for warning in found.warnings],
    }
    click.echo(json.dumps(report, indent=2))


def _as_dict(problem: Problem) -> dict[str, Any]:
    where = problem.position
    return {
        "file": problem.file,
        "line": where.line if where is not None else None,
        "column": where.column if where is not None else None,
        "path": problem.path,
        "message": problem.message,
    }


# --- plugins -----------------------------------------------------------------------------------


def absent_plugins(found: Examination) -> Iterator[Problem]:
    """Yield a problem for each plugin that an agent names and that cannot be used, without importing one."""
    if found.config is None:
        return
    registry = _registry(found.config)
    seen: set[Problem] = set()  # what stands in the defaults is one mistake, not one for each agent
    for agent, origin in zip(found.config.agents, found.origins, strict=True):
        for finding in _plugin_findings(agent, registry):
            problem = origin.problem(finding)
            if problem not in seen:
                seen.add(problem)
                yield problem


def _registry(config: DaemonConfig) -> Registry:
    from agentd.registry import Registry

    return Registry(config=config.plugins)


def _plugin_findings(agent: AgentConfig, registry: Registry) -> Iterator[Finding]:
    from agentd_daemon.config.checks import Finding

    wanted: list[tuple[tuple[str | int, ...], str, str]] = []
    if agent.mode == "ptc":
        wanted.append((("executor",), "executor", agent.executor))
    wanted += [(("event_sinks", i), "event_sink", name) for i, name in enumerate(agent.event_sinks)]
    for path, kind, name in wanted:
        if objection := _objection(registry, kind, name):
            yield Finding(path, objection, f"the {kind} cannot be used")
    sources = [r for r in registry.records("tool_source") if r.name != "python"]  # that one serves functions
    if agent.mcp_servers and not any(r.state == "available" for r in sources):
        yield Finding(("mcp_servers",), _objection(registry, "tool_source", "mcp"))


def _objection(registry: Registry, kind: str, name: str) -> str:
    """Return why a plugin cannot be used, or an empty string."""
    from agentd.errors import PluginError

    try:
        registry.find(kind, name)
    except PluginError as error:
        return str(error)
    return ""
