"""`--fleet` and `--store`: agents on many machines. `agentd daemon` opens them, `agentd check` looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agentd_daemon.config.loading import Examination
    from agentd_daemon.config.problems import Problem
    from agentd_daemon.config.values import DaemonConfig
    from agentd_daemon.places import AgentPlace, PlaceNeeds, PlaceReport

__all__ = ["check_fleet", "check_usage", "fleet_options", "make_fleet", "missing_problems"]


def fleet_options(command: Any) -> Any:
    """Give a command the two options, as `address` and `store`."""
    for option in (
        click.option(
            "--store",
            metavar="URL",
            help="Where the agents of a fleet are kept, such as s3://BUCKET/FOLDER (default: `store` of the "
            "configuration).",
        ),
        click.option(
            "--fleet",
            "address",
            metavar="ADDRESS",
            help="Have the agents work on a Ray cluster, as sessions of a fleet: `auto` for the running one, "
            "HOST:PORT, or `local` for one on this machine. Needs a store.",
        ),
    ):
        command = option(command)
    return command


def check_usage(address: str | None, store: str | None) -> None:
    """Raise `click.UsageError` for options that do not go together."""
    if store is not None and address is None:
        raise click.UsageError(
            "--store goes with --fleet: without a fleet, agents are kept in the state folder"
        )


def make_fleet(config: DaemonConfig, address: str, store: str | None) -> AgentPlace:
    """Return the fleet that agents work on. Raises `ConfigError`, `MissingPluginError`."""
    from agentd.errors import ConfigError
    from agentd.registry.config import PluginConfig

    from agentd_daemon.places import open_place
    from agentd_daemon.sessions import placed_executor

    store = store or config.store
    if not store:
        raise ConfigError(
            "--fleet: there is no store, where agents are kept and all nodes find them; give --store URL, or write "
            "`store: URL` into the file"
        )
    executors = [placed_executor(agent) for agent in config.agents if agent.mode == "ptc"]
    same = executors[0] if executors and all(one == executors[0] for one in executors) else None
    plugins = None if config.plugins == PluginConfig() else config.plugins
    return open_place("fleet", address, store=store, executor=same, plugins=plugins)


def check_fleet(config: DaemonConfig, address: str, store: str | None) -> PlaceReport:
    """Look what would go wrong with the fleet. No agent is started. Blocking, for some seconds."""
    from agentd.errors import AgentdError

    from agentd_daemon.places import CheckablePlace, PlaceReport

    try:
        place = make_fleet(config, address, store)
    except AgentdError as error:
        return PlaceReport(faults=[str(error)])
    if not isinstance(place, CheckablePlace):
        return PlaceReport(warnings=["--fleet: this place of agents cannot be looked at before they start"])
    return place.check(_needs(config))


def _needs(config: DaemonConfig) -> PlaceNeeds:
    from agentd_daemon.places import PlaceNeeds
    from agentd_daemon.sessions import placed_executor

    servers = [server for agent in config.agents for server in agent.mcp_servers]
    coders = [agent for agent in config.agents if agent.mode == "ptc"]
    return PlaceNeeds(
        executors={agent.name: placed_executor(agent) for agent in coders},
        commands=sorted({server.command for server in servers if server.command}),
        folders=sorted({_absolute(folder) for agent in coders for folder in agent.skills}),
    )


def _absolute(folder: str) -> str:
    return str(Path(folder).expanduser().absolute())


def missing_problems(found: Examination, report: PlaceReport) -> Iterator[Problem]:
    """Yield a warning for each command or folder that is not on a node, with its place in the file."""
    from agentd_daemon.config.checks import Finding

    where: dict[tuple[str, str], list[str]] = {}
    for missing in report.missing:
        where.setdefault((missing.kind, missing.name), []).append(missing.where)
    for agent, origin in zip(found.agents, found.origins, strict=True):
        for index, server in enumerate(agent.mcp_servers):
            if server.command and (on := where.get(("command", server.command))):
                text = f"is not on {', '.join(on)}: install it there; a relative path counts from the host's folder"
                yield origin.problem(Finding(("mcp_servers", index, "command"), text))
        for index, folder in enumerate(agent.skills if agent.mode == "ptc" else ()):
            if on := where.get(("folder", _absolute(folder))):
                yield origin.problem(Finding(("skills", index), f"is not on {', '.join(on)}: copy it there"))
