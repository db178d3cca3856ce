"""The benchmarks' command line: run the lines side by side, in processes of their own, and report."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from output_file import output_file, write_output

from benchmarks.line import SIDES, Figures, Line, Side
from benchmarks.reference import ROOT, reference_python
from benchmarks.report import Result, as_json, as_markdown, print_table

__all__ = ["main"]

LINES = (
    "imports",
    "bash_block",
    "bash_output",
    "bash_flood",
    "python_block",
    "warm_imports",
    "tool_calls",
    "tool_call_1mb",
    "policy",
    "serve",
    "turns",
    "long_conversation",
    "sinks",
    "parser",
    "sixteen_sessions",
    "thousand_sessions",
    "snapshots",
    "mcp_calls",
    "mcp_code",
    "mcp_sessions",
    "json_loop",
    "prompt_bytes",
    "daemon",
    "native",
    "srt",
)
WORKER = Path(__file__).with_name("worker.py")


def main(argv: list[str] | None = None) -> int:
    """Measure and report. The result is 0 whatever the figures are: no clock fails a build. It is 130 after Ctrl-C, and
    1 if a file could not be written."""
    options = _parser().parse_args(argv)
    lines = [_load(name) for name in options.only or LINES]
    sides: tuple[Side, ...] = tuple(options.sides)
    pythons: dict[Side, Path] = {"ours": Path(sys.executable), "floor": Path(sys.executable)}
    if "theirs" in sides:
        try:
            pythons["theirs"] = options.reference_python or reference_python()
        except subprocess.CalledProcessError:  # pip has printed why
            print(
                "bench: agentd 0.8.6 could not be installed; --sides ours floor does without", file=sys.stderr
            )
            return 2
        except KeyboardInterrupt:
            print("stopped: agentd 0.8.6 was not installed yet", file=sys.stderr)
            return 130
    results, stopped = _results(lines, sides, pythons, quick=options.quick)
    if stopped and not results:
        return 130  # and an older file of figures stays as it is
    print_table(results)
    _warn_if_busy()
    written = [
        write_output(path, text)
        for path, text in (
            (options.markdown, as_markdown(results)),
            (options.json, json.dumps(as_json(results, _machine(options.quick)), indent=2) + "\n"),
        )
        if path
    ]
    return 130 if stopped else 0 if all(written) else 1


def _results(
    lines: list[Line], sides: tuple[Side, ...], pythons: dict[Side, Path], *, quick: bool
) -> tuple[list[Result], bool]:
    """Measure line after line; what was measured is kept when Ctrl-C comes, which is True then."""
    results: list[Result] = []
    begin = time.monotonic()
    try:
        for number, line in enumerate(lines, 1):
            passed_s = time.monotonic() - begin
            print(
                f"{passed_s:4.0f} s  row {number} of {len(lines)}: {line.name}", file=sys.stderr, flush=True
            )
            results.append(_measure(line, sides, pythons, quick=quick))
    except KeyboardInterrupt:
        told = "this is the table of what was measured so far" if results else "nothing was measured yet"
        print(f"stopped: {told}", file=sys.stderr)
        return results, True
    return results, False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="run.py", description="Compare agentd with agentd 0.8.6.")
    parser.add_argument("--only", nargs="+", choices=LINES, metavar="NAME", help=f"of: {', '.join(LINES)}")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write the figures as JSON as well")
    parser.add_argument(
        "--markdown", type=output_file, metavar="FILE", help="write the rows with a target as Markdown"
    )
    parser.add_argument("--quick", action="store_true", help="one round, fewer repetitions")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="default: all")
    parser.add_argument("--reference-python", type=Path, metavar="PATH", help="an environment with 0.8.6")
    return parser


def _load(name: str) -> Line:
    line = importlib.import_module(f"benchmarks.lines.{name}").LINE
    assert isinstance(line, Line)
    return line


def _measure(line: Line, sides: tuple[Side, ...], pythons: dict[Side, Path], *, quick: bool) -> Result:
    """Run the sides of a line in turn, round after round (so that a noisy minute meets all of them)."""
    result = Result(line)
    rounds: dict[Side, list[Figures]] = {side: [] for side in sides}
    failed = _unprepared(line, sides, result)
    for _ in range(1 if quick else line.rounds):
        for side in sides:
            if side in failed:
                continue
            try:
                figures, notes = _run_side(line, side, pythons[side], quick=quick)
            except RuntimeError as error:
                failed.add(side)
                figures, notes = {}, [f"{side} failed: {error}"]
            rounds[side].append(figures)
            result.notes += [text for text in notes if text not in result.notes]
    result.figures = {side: _medians(list_of_figures) for side, list_of_figures in rounds.items()}
    result.spreads = {side: _spreads(list_of_figures) for side, list_of_figures in rounds.items()}
    return result


def _unprepared(line: Line, sides: tuple[Side, ...], result: Result) -> set[Side]:
    """Install what 0.8.6 needs for this line; return the side that cannot be measured if that fails."""
    if "theirs" in sides and line.prepare_theirs is not None:
        try:
            line.prepare_theirs()
        except RuntimeError as error:
            result.notes.append(f"theirs was not measured: {error}")
            return {"theirs"}
    return set()


def _run_side(line: Line, side: Side, python: Path, *, quick: bool) -> tuple[Figures, list[str]]:
    """Run one side in a fresh process of its environment, as if that environment were activated."""
    command = [str(python), str(WORKER), line.name, side, *(["--quick"] if quick else [])]
    env = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OPENAI_", "AGENTD_", "PYTHON"))
    }
    env["PATH"] = f"{python.parent}{os.pathsep}{env.get('PATH', '')}"
    env["VIRTUAL_ENV"] = str(python.parent.parent)
    env["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or 0.8.6 asks the network for prices at import
    env["OPENAI_API_KEY"] = "none"
    try:
        done = subprocess.run(
            command, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, timeout=line.timeout_s
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {line.timeout_s:g} s") from None
    except OSError as error:
        raise RuntimeError(f"{python} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise RuntimeError(" ".join([f"exit code {done.returncode}", *last]))
    try:
        answer = json.loads(done.stdout.decode().strip().splitlines()[-1])
        figures, notes = dict(answer["figures"]), list(answer["notes"])
    except (LookupError, ValueError, TypeError) as error:
        raise RuntimeError(f"its last line has no figures: {error!r}") from None
    strange = [key for key, value in figures.items() if value is not None and not math.isfinite(value)]
    return figures | dict.fromkeys(strange), [
        *notes,
        *(f"{side} gave no number for {key}" for key in strange),
    ]


def _medians(rounds: list[Figures]) -> Figures:
    merged: Figures = {}
    for key in {key for figures in rounds for key in figures}:
        values = [value for figures in rounds if (value := figures.get(key)) is not None]
        merged[key] = statistics.median(values) if values else None
    return merged


def _spreads(rounds: list[Figures]) -> dict[str, tuple[float, float]]:
    """The least and the greatest value of each row over the rounds; nothing where there was one round."""
    found = {}
    for key in {key for figures in rounds for key in figures}:
        values = [value for figures in rounds if (value := figures.get(key)) is not None]
        if len(values) > 1:
            found[key] = (min(values), max(values))
    return found


def _warn_if_busy() -> None:
    load, cpus = os.getloadavg()[0], os.cpu_count() or 1
    if load > cpus:
        print(f"the machine was busy (load {load:.1f} on {cpus} processors): run again when it is not")


def _machine(quick: bool) -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "quick": quick,
    }
