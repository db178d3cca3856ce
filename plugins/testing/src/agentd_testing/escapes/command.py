"""`agentd escape-test`: what code in an executor can do that it should not, case by case."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from agentd_cli.options import debug_option, plugin_names

if TYPE_CHECKING:
    from agentd.protocols import Executor

    from agentd_testing.escapes import Case, Outcome

__all__ = ["escape_test"]

_STYLES = {"blocked": "green", "open": "yellow", "broken": "red", "not run": "dim"}


@click.command("escape-test")
@click.argument("executor", required=False, shell_complete=plugin_names("executor"))
@click.option(
    "--options", metavar="JSON", help="The executor's options, as a JSON object; else those of --expect."
)
@click.option("--only", metavar="GLOB", multiple=True, help="Only cases whose group/id, group or id matches.")
@click.option("--expect", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Compare with a list of known-open cases; exit 1 on any difference.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of a table.")
@click.option("--list", "as_list", is_flag=True, help="List the cases and run nothing.")
@debug_option
def escape_test(
    *,
    executor: str | None,
    options: str | None,
    only: Sequence[str],
    expect: Path | None,
    as_json: bool,
    as_list: bool,
) -> int:
    """Try to break out of EXECUTOR.

    Runs small cases of abuse in it and prints what came of each: blocked, open (code could do it), or broken (the
    case did not run as meant). No case does harm where it succeeds. They say what these settings on this machine
    keep from the code; they are no proof that nothing else gets through.
    """
    from agentd_testing.escapes import differences, load_cases, load_expectation, select

    cases = load_cases()
    chosen = select(cases, only)
    if as_list:
        _list(chosen, as_json=as_json)
        return 0
    if executor is None:
        raise click.UsageError("name an executor; `agentd plugins --kind executor` lists them")
    expected = None if expect is None else load_expectation(expect)
    if expected is not None and expected.executor != executor:
        raise click.BadParameter(
            f"{expect} is of {expected.executor!r}, not {executor!r}", param_hint="--expect"
        )
    given = _options(options) if options is not None else {} if expected is None else dict(expected.options)
    outcomes = _run(executor, given, chosen, show=not as_json)
    differing = [] if expected is None else differences(expected, outcomes, cases)
    if as_json:
        click.echo(json.dumps(_as_data(executor, outcomes, differing), indent=2))
    else:
        _print_summary(outcomes, differing, expect)
    return 1 if differing else 0


def _options(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(f"no JSON: {error}", param_hint="--options") from error
    if not isinstance(value, dict):
        raise click.BadParameter(f"must be a JSON object, got {text!r}", param_hint="--options")
    return value


def _run(name: str, options: dict[str, Any], cases: Sequence[Case], *, show: bool) -> list[Outcome]:
    import anyio
    from agentd.registry import Registry

    from agentd_testing.escapes import run_cases

    registry = Registry()

    def make(workspace: Path) -> Executor:
        return registry.create_executor(name, workspace, **options)

    async def main() -> list[Outcome]:
        return await run_cases(make, cases, on_outcome=_printer() if show else lambda outcome: None)

    return anyio.run(main)


def _word(outcome: Outcome) -> str:
    return outcome.verdict if outcome.applicable else "not run"


def _as_data(executor: str, outcomes: Sequence[Outcome], differences: Sequence[str]) -> dict[str, Any]:
    return {
        "executor": executor,
        "summary": dict(Counter(map(_word, outcomes))),
        "differences": list(differences),
        "cases": [
            {
                "id": outcome.case.id,
                "group": outcome.case.group,
                "outcome": outcome.verdict,
                "applicable": outcome.applicable,
                "detail": outcome.detail,
                "why": outcome.case.why,
            }
            for outcome in outcomes
        ],
    }


def _list(cases: Sequence[Case], *, as_json: bool) -> None:
    import attrs

    if as_json:
        click.echo(json.dumps([attrs.asdict(case) for case in cases], indent=2))
        return
    width = max(len(case.name) for case in cases)
    for case in cases:
        click.echo(f"{case.name:{width}}  {case.why}")


def _printer() -> Any:
    """Return what prints a row for each outcome as it comes: on a slow sandbox, people watch."""
    from agentd_sink_console.neutral import neutral
    from rich.console import Console
    from rich.text import Text

    # in a pipe nothing may be cut: rows are read line by line
    console = Console()
    overflow: Literal["ellipsis", "ignore"] = "ellipsis" if console.is_terminal else "ignore"

    def show(outcome: Outcome) -> None:
        word = _word(outcome)
        # what code in the sandbox said is hostile text
        detail = neutral(" ".join(outcome.detail.split()))
        if outcome.verdict == "open":
            detail = f"{outcome.case.why}. {detail}".rstrip(". ")
        row = Text(f"{word:8}", style=_STYLES[word]) + Text(f" {outcome.case.name:42} ", style="default")
        console.print(
            row + Text(detail, style="dim"), no_wrap=True, overflow=overflow, crop=console.is_terminal
        )

    return show


def _print_summary(outcomes: Sequence[Outcome], differences: Sequence[str], expect: Path | None) -> None:
    counts = Counter(map(_word, outcomes))
    parts = [f"{counts[word]} {word}" for word in _STYLES if counts[word]]
    click.echo(f"\n{len(outcomes)} cases: {', '.join(parts)}")
    if expect is None:
        return
    for line in differences:
        click.echo(f"  {' '.join(line.split())}")
    click.echo(f"{len(differences)} difference(s) from {expect}" if differences else f"as listed in {expect}")
