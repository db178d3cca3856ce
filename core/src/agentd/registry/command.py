"""`agentd plugins` without agentd-cli: which plugins there are, in plain text."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

import attrs

from agentd.hookspecs import GROUPS
from agentd.registry import PluginRecord, Registry
from agentd.registry.exports import core_version
from agentd.registry.official import official_distribution

__all__ = ["COLUMNS", "is_broken", "kind_of", "plain_table", "run_command_line"]

COLUMNS = ("name", "kind", "distribution", "version", "state")


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 1 if `--check` finds a plugin that does not load, 2 for bad usage."""
    parser = argparse.ArgumentParser(
        prog="agentd",
        description="The core of agentd. `pip install agentd-cli` brings the whole command line.",
    )
    parser.add_argument("--version", action="version", version=f"agentd {core_version()}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    plugins = commands.add_parser("plugins", help="list the installed plugins")
    plugins.add_argument("--json", action="store_true", help="print a JSON array")
    plugins.add_argument("--check", action="store_true", help="load every plugin; exit 1 if one fails")
    plugins.add_argument("--kind", type=kind_of, choices=list(GROUPS), help="list only plugins of this kind")
    words = sys.argv[1:] if arguments is None else list(arguments)
    if not words:
        parser.print_help(sys.stderr)
        return 2
    if missing := _missing(next((word for word in words if not word.startswith("-")), "plugins")):
        print(f"agentd: error: {missing}", file=sys.stderr)
        return 2
    try:
        given = parser.parse_args(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    registry = Registry()
    with redirect_stdout(sys.stderr):  # what a plugin prints must not stand between the records
        records = registry.check(given.kind) if given.check else registry.records(given.kind)
    if given.json:
        print(json.dumps([attrs.asdict(record) for record in records], indent=2))
    else:
        print("\n".join(plain_table(records)))
    sys.stdout.flush()
    return 1 if given.check and any(map(is_broken, records)) else 0


def _missing(command: str) -> str:
    """Say what brings a command that the core does not have; nothing for its own."""
    name = "daemon" if command.lower().endswith((".yaml", ".yml")) else command
    brings = {"agentd-cli", official_distribution("command", name) or "agentd-cli"}
    what = f"agentd-core alone has the command `plugins`; for {command!r}: pip install {' '.join(sorted(brings))}"
    return "" if name == "plugins" else what


def kind_of(word: str) -> str:
    """Return a kind of plugin as `GROUPS` spells it, also for `tool-source`, `tool source` and `tool_sources`."""
    kind = word.lower().replace("-", "_").replace(" ", "_").removesuffix("s")
    return kind if kind in GROUPS else word


def is_broken(record: PluginRecord) -> bool:
    """Tell whether a plugin cannot be used though nobody blocks it."""
    return record.state in ("failed", "incompatible")


def plain_table(records: Sequence[PluginRecord]) -> list[str]:
    """Return the lines of a table for pipes and files, each error below its plugin."""
    if not records:
        return ["no plugins installed"]
    rows = [COLUMNS, *(tuple(str(getattr(record, column)) for column in COLUMNS) for record in records)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    heading, *lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    table = [heading]
    for line, record in zip(lines, records, strict=True):
        table.append(line)
        if record.error:
            table.append("    " + record.error.replace("\n", "\n    "))
    return table
