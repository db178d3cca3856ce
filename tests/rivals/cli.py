"""`make bench-rivals`: install what is missing, run the rows side by side, print and write the tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from output_file import output_file, write_output

from rivals.asking import SideProcess
from rivals.environments import ROOT, is_ready, python_of, remove
from rivals.rows import ROWS, Row
from rivals.run_clock import RunClock
from rivals.side import Side
from rivals.sides import sides
from rivals.tables import Report, as_json, as_markdown, as_snippet_table, as_text
from rivals.targets import as_target_table, as_target_text

__all__ = ["main"]

ROUNDS = 5
FULL_S = 24 * 60
QUICK_S = 285
DOCS = ROOT / "docs"
LOGS = ROOT / ".cache" / "rivals"


def main(argv: list[str] | None = None) -> int:
    """Measure and report. The result is 0 whatever the figures are: no clock fails a build. It is 1 if there are none
    or a file could not be written, and 130 after Ctrl-C."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        chosen, rows = _chosen(options.only or [])
        _check_write(options, chosen, rows)
    except ValueError as error:
        print(f"bench-rivals: {error}", file=sys.stderr)
        return 2
    if options.remove:
        for place in remove(chosen) or ["nothing: no environment is there"]:
            _say(f"removed {place}")
        return 0
    report = Report(chosen, quick=options.quick)
    try:
        processes = _installed(report)
    except KeyboardInterrupt:
        _say("stopped: the environments that were made are kept, and the same command goes on")
        return 130
    if options.install:
        return 0 if not report.left_out else 1
    is_whole = _measure(report, rows, processes, options)
    if not report.values:  # older figures, in a file or a page, stay as they are
        _say("nothing was measured")
        return 1 if is_whole else 130
    machine = _machine(report, options.seed)
    print(as_text(report))
    if machine["load"] > machine["cpus"]:
        print(
            f"the machine was busy (load {machine['load']:.1f} on {machine['cpus']} processors): run again later"
        )
    print(as_target_text(report))
    if report.words:
        print(as_snippet_table(report, machine))
    print(f"bench-rivals: {report.rounds} round(s) in {report.took_s / 60:.1f} minutes")
    written = not options.json or write_output(
        options.json, json.dumps(as_json(report, machine), indent=2) + "\n"
    )
    if options.write and is_whole:
        _write(options.write, report, rows, machine)
    return 130 if not is_whole else 0 if written else 1


def _parser() -> argparse.ArgumentParser:
    names = ", ".join([*sides(), *(row.name for row in ROWS)])
    parser = argparse.ArgumentParser(prog="bench-rivals", description="agentd beside others, in one run.")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"rows and sides, of: {names}")
    parser.add_argument(
        "--quick", action="store_true", help="one round of less, each row, in under 5 minutes"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=ROUNDS,
        help=f"default: {ROUNDS}, as far as {FULL_S // 60} minutes allow",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of the sides' order, which changes with each row"
    )
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write all figures, for bench-compare as well"
    )
    parser.add_argument(
        "--write", type=Path, nargs="?", const=DOCS, metavar="FOLDER",
        help="put tables and charts into the documentation, or into a copy of it",
    )  # fmt: skip
    parser.add_argument("--install", action="store_true", help="make the environments, measure nothing")
    parser.add_argument(
        "--remove", action="store_true", help="remove the environments, or those of the sides of --only"
    )
    return parser


def _check_write(options: Any, chosen: Sequence[Side], rows: Sequence[Row]) -> None:
    """Refuse to put a part into the documentation, where it would stand for the whole."""
    names = {row.name for row in rows}
    is_all = len(chosen) == len(sides()) and (names == {"snippets"} or len(rows) == len(ROWS))
    if options.rounds < 1:
        raise ValueError("--rounds: must be 1 or more")
    if options.write and options.write.resolve() == DOCS.resolve() and (options.quick or not is_all):
        raise ValueError(
            "--write: needs a full run of all sides, of all rows or of `snippets` alone; leave --quick and the other "
            "names of --only out, or name a folder with copies of the pages"
        )
    if options.write:
        for page, mark in _places(options.write, names):
            _around(page, mark)


def _places(docs: Path, rows: set[str]) -> list[tuple[Path, str]]:
    """The pages that these rows are put into, with the marks."""
    evidence = [(docs / "evidence.md", "snippets")] if "snippets" in rows else []
    timed = [(docs / "performance.md", mark) for mark in ("rivals", "rivals-targets")]
    return [*evidence, *(timed if rows - {"snippets"} else [])]


def _chosen(only: Sequence[str]) -> tuple[list[Side], list[Row]]:
    known, rows = sides(), {row.name: row for row in ROWS}
    unknown = [name for name in only if name not in known and name not in rows]
    if unknown:
        raise ValueError(f"--only: unknown {', '.join(unknown)}; known: {', '.join([*known, *rows])}")
    some_sides = [known[name] for name in known if name in only] or list(known.values())
    some_rows = [rows[name] for name in rows if name in only] or list(ROWS)
    return some_sides, some_rows


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _installed(report: Report) -> dict[str, SideProcess]:
    processes = {}
    wanted = list(dict.fromkeys(side.environment for side in report.sides if not is_ready(side)))
    for side in report.sides:
        try:
            if side.environment in wanted and not is_ready(side):
                _say(f"environment {wanted.index(side.environment) + 1} of {len(wanted)}, once:")
            python = python_of(side, _say)
        except (RuntimeError, OSError) as error:
            _say(f"{side.title} is left out: {error}")
            report.left_out[side.title] = str(error)
            continue
        processes[side.name] = SideProcess(side.name, python, LOGS / f"{side.name}.log")
    report.sides = [side for side in report.sides if side.name in processes]
    return processes


def _measure(report: Report, rows: list[Row], processes: dict[str, SideProcess], options: Any) -> bool:
    """Make rounds of all rows: one if quick, else as many as are wanted and fit. False if Ctrl-C came.

    New processes for each round.
    """
    report.load = os.getloadavg()[0]
    order = random.Random(options.seed)
    clock = RunClock(QUICK_S if options.quick else FULL_S)
    try:
        for number in range(1 if options.quick else options.rounds):
            again = [row for row in rows if not (row.once and number)]
            if number and (not again or report.seconds_of(again) > clock.left_s):
                break
            _start(report, processes, clock)
            _round(report, again, processes, order, clock, options.quick)
            report.rounds += 1
    except KeyboardInterrupt:
        _say("stopped" if not report.values else "stopped: these are the tables of what was measured so far")
        return False
    finally:
        report.took_s = clock.now_s
        for process in processes.values():
            process.end(at_once=True)
    return True


def _start(report: Report, processes: dict[str, SideProcess], clock: RunClock) -> None:
    """Start all processes side by side, as nothing is measured yet."""
    _say(f"{clock.now_s:4.0f} s  start {len(processes)} programs")
    for process in processes.values():
        process.end()
        process.begin()
    for side in report.sides:
        process = processes[side.name]
        try:
            process.wait_ready()
        except (
            OSError,
            EOFError,
            TimeoutError,
            ValueError,
            LookupError,
        ) as error:  # each row tries again, and says so
            _say(f"{side.title} did not start: {error}")
            process.end(at_once=True)
        report.versions[side.name] = process.ready.get("packages", {})


def _round(
    report: Report,
    rows: list[Row],
    processes: dict[str, SideProcess],
    order: random.Random,
    clock: RunClock,
    quick: bool,
) -> None:
    """Each row of each side in turn, in another order each time."""
    wanted_s = sum(row.within_s[quick] for row in rows) * len(report.sides)
    for place, row in enumerate(rows, 1):
        _say(f"{clock.now_s:4.0f} s  round {report.rounds + 1}, row {place} of {len(rows)}: {row.name}")
        for side in order.sample(report.sides, len(report.sides)):
            begin = clock.now_s
            within_s = clock.within_s(row.within_s[quick], wanted_s)
            wanted_s -= row.within_s[quick]
            if within_s > 0:
                answer = processes[side.name].ask(row.name, quick=quick, within_s=within_s)
            else:
                answer = {"figures": {}, "error": "the time of the run was up"}
            report.add(side.name, row.name, answer, clock.now_s - begin)
            if row.last:
                processes[side.name].end(at_once=True)


def _machine(report: Report, seed: int) -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": report.load,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": report.rounds,
        "quick": report.quick,
        "minutes": round(report.took_s / 60, 1),
        "seed": seed,
    }


def _write(docs: Path, report: Report, rows: list[Row], machine: dict[str, Any]) -> None:
    """Put what was measured between the marks of its pages; what was not stays as it is."""
    names = {row.name for row in rows}
    if report.words:
        _put(docs / "evidence.md", "snippets", as_snippet_table(report, machine))
    if names - {"snippets"}:
        from rivals.charts import draw

        draw(report, docs / "images")
        chart = "".join(
            f"![Bars of four rows](images/rivals-{name}.svg#only-{name})\n" for name in ("light", "dark")
        )
        _put(docs / "performance.md", "rivals", f"{chart}\n{as_markdown(report, machine)}")
        _put(docs / "performance.md", "rivals-targets", as_target_table(report))


def _put(page: Path, mark: str, text: str) -> None:
    """Replace what stands between `<!-- MARK -->` and `<!-- /MARK -->`."""
    before, after = _around(page, mark)
    page.write_text(f"{before}<!-- {mark} -->\n{text}<!-- /{mark} -->{after}")


def _around(page: Path, mark: str) -> tuple[str, str]:
    """What stands before a page's marks and behind them.

    :raises ValueError: if it cannot be read and written, or has no such marks.
    """
    begin, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
    if not os.access(page, os.R_OK | os.W_OK):
        raise ValueError(f"--write: {page} must be there, and writable")
    before, found, rest = page.read_text().partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise ValueError(f"--write: {page} has no {begin} ... {end}")
    return before, after
