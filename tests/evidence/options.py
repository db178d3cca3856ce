"""The options of `make evidence`. They are read before its environment is made, so nothing of that is imported."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from output_file import output_file

__all__ = ["NAMES", "parse"]

NAMES: Final = ("bfcl", "tau2 airline", "tau2 retail", "tau2 banking", "agentdojo")
"""The data sets."""


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options. Prints what is wrong with them, or the help, and ends the program."""
    about = "Replay public tasks through code and through JSON tools."
    parser = argparse.ArgumentParser(prog="make evidence ARGS=...", description=about)
    parser.add_argument("--quick", action="store_true", help="a few cases of each data set: minutes")
    names = ", ".join(NAMES)
    only = f"data sets whose names contain it, of: {names}"
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help=only)
    parser.add_argument("--json", type=output_file, metavar="FILE", help="write all results")
    parser.add_argument(
        "--write",
        action="store_true",
        help="put tables and charts into docs/evidence-tasks.md, targets into docs/performance.md",
    )
    parser.add_argument(
        "--so-far", action="store_true", help="replay nothing: tables of what runs that were stopped have"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the results of earlier runs")
    given = parser.parse_args(arguments)
    if given.write and (given.quick or given.only):
        parser.error("--write needs the full run: leave --quick and --only out")
    unknown = [text for text in given.only if not any(text in name for name in NAMES)]
    if unknown:
        parser.error(
            f"--only: no data set has {', '.join(map(repr, unknown))} in its name; there are: {names}"
        )
    return given
