"""The options that `agentd run` and `agentd chat` share, and other commands in part: a session's plugins and budgets,
what its model is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from agentd_cli.history_rule import HistoryRule
from agentd_cli.options import EXECUTOR_HELP, names_or_files, plugin_names

__all__ = ["session_options", "some_session_options"]

F = TypeVar("F", bound=Callable[..., Any])

_ABOVE_ZERO: Final = click.FloatRange(min=0, min_open=True)

_OPTIONS: Final = {
    "model": click.option(
        "--model", "-m", help="The model's name (default: AGENTD_MODEL, then OPENAI_MODEL)."
    ),
    "base_url": click.option(
        "--base-url", help="An OpenAI-compatible server (default: OPENAI_BASE_URL, then OpenAI)."
    ),
    "api": click.option("--api", type=click.Choice(["chat", "responses"]), default="chat", show_default=True),
    "mode": click.option(
        "--mode",
        type=click.Choice(["ptc", "tools"]),
        default="ptc",
        show_default=True,
        help="ptc: the model acts by writing code; tools: it calls the tools one by one, as JSON.",
    ),
    "executor": click.option(
        "--executor",
        "-e",
        metavar="NAME",
        shell_complete=plugin_names("executor"),
        help=f"{EXECUTOR_HELP} `agentd plugins --kind executor` lists them.",
    ),
    "parsers": click.option(
        "--parser",
        "parsers",
        multiple=True,
        metavar="NAME",
        shell_complete=plugin_names("parser"),
        help="A notation in which the model may write blocks; repeatable. It is taught the first (default: fence).",
    ),
    "bare_fences": click.option(
        "--bare-fences",
        type=click.Choice(["nudge", "run", "answer"]),
        help="What becomes of an answer without a block that ends in a fence as ```bash, without an action: the model "
        "is asked what it meant, once (default), it is run, or it is the answer.",
    ),
    "renderer": click.option(
        "--renderer",
        metavar="NAME",
        shell_complete=plugin_names("skill_renderer"),
        help="What writes the tools as files for the code (default: agentskills).",
    ),
    "skills": click.option(
        "--skills",
        multiple=True,
        metavar="PATH",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="A skill's folder, or a folder of skills, that the code may read; repeatable.",
    ),
    "snapshots": click.option(
        "--snapshots",
        metavar="NAME",
        shell_complete=plugin_names("snapshot_store"),
        help="Where checkpoints are kept (default: packs).",
    ),
    "plugin_options": click.option(
        "-o",
        "--option",
        "--executor-option",
        "plugin_options",
        multiple=True,
        metavar="[KIND.NAME.]KEY=VALUE",
        help="An option of the executor, or of another plugin of this run, such as sink.jsonl.path=runs or "
        "model.request.temperature=0; a value that is JSON is read as such; repeatable.",
    ),
    "cwd": click.option(
        "--cwd",
        type=click.Path(file_okay=False, path_type=Path),
        default=Path(),
        help="The workspace (default: here).",
    ),
    "max_turns": click.option(
        "--max-turns",
        type=click.IntRange(min=1),
        default=20,
        show_default=True,
        help="Requests to the model.",
    ),
    "timeout": click.option(
        "--timeout", type=_ABOVE_ZERO, metavar="SECONDS", help="For one block of code (default: 60)."
    ),
    "wall_time": click.option(
        "--wall-time",
        type=_ABOVE_ZERO,
        default=600.0,
        show_default=True,
        metavar="SECONDS",
        help="For the whole run.",
    ),
    "max_cost": click.option(
        "--max-cost",
        type=_ABOVE_ZERO,
        metavar="USD",
        help="Money for the whole run; the model's price must be known, or given, in dollars per million tokens: "
        "-o 'model.prices={\"NAME\": [INPUT, OUTPUT]}'.",
    ),
    "tools": click.option(
        "--tool",
        "--tools",
        "tools",
        multiple=True,
        metavar="FILE.py|NAME:...",
        type=click.Path(),  # completes names of files
        help="Offer the @tool functions of this file, or what the tool source NAME makes of the text; repeatable.",
    ),
    "mcp_targets": click.option(
        "--mcp",
        "mcp_targets",
        multiple=True,
        metavar="TARGET",
        help="Offer the tools of this MCP server, a URL or a command line in quotes; repeatable.",
    ),
    "mcp_files": click.option(
        "--mcp-config",
        "mcp_files",
        multiple=True,
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Offer those of the MCP servers in this JSON file (mcpServers, or VS Code's servers); repeatable.",
    ),
    "log_dir": click.option(
        "--log",
        "log_dir",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Keep the events as JSON lines in a new file in DIR (or in DIR itself if it ends in .jsonl).",
    ),
    "sink_names": click.option(
        "--sink",
        "sink_names",
        multiple=True,
        metavar="NAME",
        shell_complete=plugin_names("event_sink"),
        help="Send the events to this plugin, too; repeatable.",
    ),
    "policy": click.option(
        "--policy",
        metavar="NAME|FILE",
        shell_complete=names_or_files("read-only", "ask-writes", "yolo"),
        help="What may be done: read-only, ask-writes, yolo, or a YAML file of rules. On a terminal, you are asked "
        "where they say so.",
    ),
    "history": click.option(
        "--history",
        type=HistoryRule(),
        metavar="RULE[:TOKENS]",
        help="How much of a long conversation the model is told: shorten (old results), drop (old tasks, too), "
        "summarise or keep; within so many tokens (default: 100000). Without it, a run keeps and a chat drops.",
    ),
    "images": click.option(
        "--images/--no-images",
        help="Show the model pictures: those that its code shows (agentd.show), and those that tools return.",
    ),
    "pictures": click.option(
        "--image",
        "pictures",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="A picture that belongs to the task, or to the first message (PNG, JPEG, GIF, WebP); repeatable. Includes "
        "--images.",
    ),
    "no_agents_md": click.option(
        "--no-agents-md",
        is_flag=True,
        help="Do not tell the model what the project's AGENTS.md say.",
    ),
    "config": click.option(
        "--config/--no-config",
        default=True,
        expose_value=False,
        help="Read agentd.toml, yours and the project's (default: yes); `agentd config` shows what they say.",
    ),
    "full_output": click.option(
        "--full-output",
        is_flag=True,
        help="On a terminal, show all lines that code prints, not only the first and last ones.",
    ),
}


def session_options(function: F) -> F:
    """Give a command these options, in this order."""
    return some_session_options(*_OPTIONS)(function)


def some_session_options(*names: str) -> Callable[[F], F]:
    """Give a command those of these options whose values have these names, in this order."""

    def give(function: F) -> F:
        for name in reversed(names):
            function = _OPTIONS[name](function)
        return function

    return give
