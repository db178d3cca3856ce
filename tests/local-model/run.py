"""Ten tasks for a small real model: how many it solves, in how many turns and tokens.

    ENV/bin/python tests/local-model/serve.py ENV/model.gguf        (prints the address; see there)
    .venv/bin/python tests/local-model/run.py ADDRESS
    .venv/bin/python tests/local-model/run.py ADDRESS --way code json pydantic-ai --json FILE   (compares the ways)
    .venv/bin/python tests/local-model/run.py ADDRESS --bare-fences nudge run answer --json FILE   (and our modes)

With --json, each task's figures are kept as soon as it is over: the same command goes on where a stopped one was.
Not part of CI: the model is 1.1 GB, and the ten tasks take some minutes on two idle cores, on busy ones an hour.
Code runs in the sandbox `native`; pydantic-ai's has its own interpreter, and its shell no sandbox.
The figures in docs/small-models.md come from here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
from agentd_parser_fence import plugin as fence

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))
from model_ways import WAYS
from output_file import output_file
from ten_tasks import FILES, TASKS, LocalTask


@attrs.frozen(kw_only=True)
class LocalResult:
    """What became of one task."""

    solved: bool
    turns: int
    tokens: int
    nudged: bool
    stop_reason: str
    seconds: float


def attempt(task: LocalTask, way: str, wanted: argparse.Namespace) -> LocalResult:
    """Let the model do one task in a folder of its own."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for name, text in FILES.items():
            Path(folder, name).write_text(text)
        done = WAYS[way](task.text, Path(folder), wanted)
        solved = task.check(Path(folder), done.answer)
    return LocalResult(
        solved=solved,
        turns=done.turns,
        tokens=done.tokens,
        nudged=done.nudged,
        stop_reason=done.stop_reason,
        seconds=time.monotonic() - began,
    )


def _kept_rows(file: Path) -> list[dict[str, Any]]:
    """Return what a file has of earlier runs; end the program if it is not such a file, rather than replace it."""
    with contextlib.suppress(ValueError):
        data = json.loads(file.read_text())
        if isinstance(data, dict) and isinstance(data.get("tasks"), list):
            return list(data["tasks"])
    sys.exit(f"{file} is not what an earlier run kept: name another file for --json")


@attrs.define
class KeptResults:
    """What a file has of earlier runs, by task, mode and all else that the figures depend on.

    :param file: None keeps them in memory.
    """

    file: Path | None
    rows: list[dict[str, Any]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        if self.file is not None and self.file.exists():
            self.rows = _kept_rows(self.file)

    def find(self, key: dict[str, Any]) -> LocalResult | None:
        """Return the result of a task that is done."""
        for row in self.rows:
            if row["key"] == key:
                return LocalResult(**row["result"])
        return None

    def add(self, key: dict[str, Any], result: LocalResult) -> None:
        """Keep a result; all of the file is written anew, so that a stop leaves the old one or the new one."""
        self.rows.append({"key": key, "result": attrs.asdict(result)})
        if self.file is not None:
            part = self.file.with_suffix(".part")
            part.write_text(json.dumps({"tasks": self.rows}, indent=1))
            part.replace(self.file)


def silent(address: str) -> str:
    """Say that no model answers there, or nothing."""
    try:
        with urllib.request.urlopen(f"{address}/models", timeout=60):
            return ""
    except urllib.error.HTTPError:  # it has no list of models, but answers
        return ""
    except (OSError, ValueError) as error:
        return f"no model answers at {address} ({error}): start serve.py, and keep its standard input open"


def served(address: str) -> str:
    """Return the names of the models that answer there, or the address if it does not tell."""
    try:
        with urllib.request.urlopen(f"{address}/models", timeout=60) as answer:
            return ", ".join(sorted(model["id"] for model in json.load(answer)["data"]))
    except (OSError, ValueError, LookupError, TypeError):
        return address


def measure(way: str, wanted: argparse.Namespace, kept: KeptResults) -> list[LocalResult]:
    """Return the results of the tasks in one way; those that are kept are not done again."""
    results = []
    name = f"{way}, {wanted.mode}" if wanted.mode else way
    for number, task in enumerate(TASKS, 1):
        if wanted.only and number not in wanted.only:
            continue
        key = {
            "task": number,
            "model": wanted.model,
            "executor": wanted.executor,
            "way": way,
            "bare_fences": wanted.mode,
            "example": not wanted.no_example,
            "temperature": wanted.temperature,
            "seed": wanted.seed,
            "max_turns": wanted.turns,
            "task_time_s": wanted.task_time,
            "agentd": version("agentd-core"),
        }
        result = kept.find(key)
        old = "" if result is None else "  (kept)"
        if result is None:
            result = attempt(task, way, wanted)
            if not result.turns and (fault := silent(wanted.address)):
                sys.exit(fault)  # what it has not answered is no task that it has failed
            kept.add(key, result)
        results.append(result)
        print(
            f"{name:12} {number:2} {'solved' if result.solved else 'FAILED'}  {result.turns} turns  "
            f"{result.tokens:6} tokens  {result.seconds:4.0f} s  {result.stop_reason}"
            f"{'  nudged' if result.nudged else ''}  {task.text}{old}",
            flush=True,
        )
    return results


def total(way: str, wanted: argparse.Namespace, results: list[LocalResult]) -> dict[str, Any]:
    """Return the figures of one way together."""
    return {
        "way": way,
        "bare_fences": wanted.mode,
        "example": not wanted.no_example,
        "temperature": wanted.temperature,
        "solved": sum(r.solved for r in results),
        "of": len(results),
        "turns": sum(r.turns for r in results),
        "tokens": sum(r.tokens for r in results),
        "seconds": round(sum(r.seconds for r in results)),
        "nudged": sum(r.nudged for r in results),
        "agentd": version("agentd-core"),
        "openai": version("openai"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("address", help="of the server, with /v1")
    options.add_argument(
        "--way", nargs="+", choices=list(WAYS), default=["code"], help="one way, or several (default: code)"
    )
    modes = ("nudge", "run", "answer")
    options.add_argument(
        "--bare-fences",
        nargs="+",
        choices=modes,
        default=["nudge"],
        help="of the way code: a mode, or several",
    )
    options.add_argument(
        "--no-example", action="store_true", help="leave the worked example out of the guide"
    )
    options.add_argument("--temperature", type=float, default=0.0)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--turns", type=int, default=8)
    options.add_argument(
        "--task-time", type=float, default=1800.0, help="seconds for a task; then it has failed"
    )
    options.add_argument("--executor", default="native")
    options.add_argument(
        "--only",
        type=int,
        nargs="+",
        choices=range(1, len(TASKS) + 1),
        metavar="TASK",
        help=f"numbers of tasks, 1 to {len(TASKS)}",
    )
    options.add_argument("--verbose", action="store_true", help="print the conversations")
    options.add_argument(
        "--json", type=output_file, help="keep the figures here, and take those that are there already"
    )
    wanted = options.parse_args(arguments)
    kept = KeptResults(wanted.json)
    if fault := silent(wanted.address):
        options.error(fault)
    wanted.model = served(wanted.address)
    if wanted.no_example:
        fence.EXAMPLE = ""  # type: ignore[misc]  # what is measured: the guide without it
    totals = []
    for way in wanted.way:
        for mode in wanted.bare_fences if way == "code" else [""]:
            wanted.mode = mode
            totals.append(total(way, wanted, measure(way, wanted, kept)))
    for one in totals:
        print(json.dumps(one))


if __name__ == "__main__":
    main()
