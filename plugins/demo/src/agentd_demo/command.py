"""`agentd demo`: the main job, on real files, with a replayed model or a real one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from agentd_cli import exits
from agentd_cli.options import EXECUTOR_HELP, debug_option, plugin_names

if TYPE_CHECKING:
    from agentd.protocols import EventSink

    from agentd_demo.show import DemoOutcome

__all__ = ["demo"]


@click.command()
@click.option(
    "--cwd",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-workspace"),
    show_default=True,
    help="The workspace: where the agent works and writes report.md; made if missing.",
)
@click.option("--executor", "-e", metavar="NAME", shell_complete=plugin_names("executor"), help=EXECUTOR_HELP)
@click.option("--replay", is_flag=True, help="Replay the recorded model even if a key is set.")
@click.option("--json", "as_json", is_flag=True, help="Print the events as JSON lines.")
@debug_option
def demo(*, cwd: Path, executor: str | None, replay: bool, as_json: bool) -> int:
    """Watch an agent count the lines of agentd's own code and write a report.

    Patches the real `openai` client. Without a key it talks to a recorded model that a server on loopback
    replays: the code runs, the files and the numbers are real. With OPENAI_API_KEY or OPENAI_BASE_URL set,
    it talks to that provider (OPENAI_MODEL names the model).
    """
    from agentd_cli.interrupts import Interrupts

    from agentd_demo.show import Demo

    sink = _sink(as_json=as_json)
    show = Demo(
        cwd=cwd.absolute(),
        executor=executor,
        replay=replay,
        slowly=sys.stdout.isatty(),
    )
    with Interrupts():
        outcome = show.run(sink.emit)
    sink.close()
    return _conclude(outcome, to_stderr=as_json)


def _sink(*, as_json: bool) -> EventSink:
    if as_json:
        from agentd_cli.json_lines import JsonLines

        return JsonLines(sys.stdout)
    from agentd_sink_console.terminal import sink_for

    return sink_for(sys.stdout)


def _conclude(outcome: DemoOutcome, *, to_stderr: bool) -> int:
    from agentd_sink_console.neutral import one_line

    for problem in outcome.problems:
        click.echo(f"agentd: error: {one_line(problem)}", err=True)
    if outcome.problems:
        return exits.UNFINISHED
    model = "a replayed model" if outcome.replayed else "a live model"
    click.echo(
        f"Shown: the openai client, {model}, code that ran here, and a report whose numbers were checked: "
        f"{outcome.report}",
        err=to_stderr,
    )
    return exits.OK
