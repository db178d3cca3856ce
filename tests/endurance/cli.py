"""`make endurance`: do all kinds of work for hours, and say whether anything grows or is lost."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import sys
from pathlib import Path

from output_file import output_file

from endurance.recording import Record
from endurance.report import as_json, as_markdown, is_good, print_report, rows, write_into
from endurance.running import EnduranceRun
from endurance.works import DEFAULT, WORKS

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".cache" / "endurance"
PAGE = ROOT / "docs" / "endurance.md"
HOURS = 6.0
WRITTEN_S = 3600.0  # verdicts on memory need so much
TOO_SHORT = (
    "endurance: --write: nothing is written of less than an hour; take more --hours, or --add earlier runs"
)


def main(argv: list[str] | None = None) -> int:
    """Run, or go on with a run that was interrupted. 0 if all is good, 1 if not, 130 if it is to be gone on with."""
    options = _parser().parse_args(argv)
    unknown = sorted(set(options.only or []) - set(WORKS))
    if unknown:
        print(
            f"endurance: --only: unknown {', '.join(unknown)}; known: {', '.join(DEFAULT)}", file=sys.stderr
        )
        return 2
    try:
        earlier = [Record.of_figures(path) for path in options.add]
    except (OSError, ValueError) as error:
        print(f"endurance: --add: {error}", file=sys.stderr)
        return 2
    added_s = sum(record.spent_s for record in earlier)
    if options.write and not options.report and _hours(options) * 3600 + added_s < WRITTEN_S:
        print(TOO_SHORT, file=sys.stderr)
        return 2
    folder, state = options.folder, options.folder / "run.json"
    record = None if options.fresh else Record.load(state)
    if not options.report:
        record = _begin(options, record, folder)
        run = EnduranceRun(folder / "world", record, state)
        with contextlib.suppress(KeyboardInterrupt):
            run.run()
    if record is None:
        print(f"endurance: no run in {folder}; start one without --report", file=sys.stderr)
        return 2
    own = record
    if options.json:
        options.json.write_text(json.dumps(as_json(own, rows(own))) + "\n")
    record = own.behind(earlier) if earlier else own
    trends = rows(record)
    print_report(record, trends)
    if options.write and record.spent_s < WRITTEN_S:
        print(TOO_SHORT, file=sys.stderr)
    elif options.write:
        write_into(PAGE, as_markdown(record, trends))
    if not record.finished and not options.report:
        print(
            f"endurance: interrupted after {own.spent_s / 60:.0f} min; the same command goes on",
            flush=True,
        )
        return 130
    return 0 if is_good(record, trends) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="endurance", description="Mixed work and kills, for hours.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--hours", type=float, default=HOURS, help=f"how long, in all (default: {HOURS:g})")
    length.add_argument("--minutes", type=float, help="the same in minutes")
    parser.add_argument("--only", nargs="+", metavar="WORK", help=f"some kinds of work: {', '.join(DEFAULT)}")
    parser.add_argument("--seed", type=int, help="of the order of the works and kills")
    parser.add_argument(
        "--json", type=output_file, metavar="FILE", help="write all samples and trends of this run"
    )
    parser.add_argument(
        "--add",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="report this run and these earlier ones, of any machine, as one: what --json has written of them",
    )
    parser.add_argument("--write", action="store_true", help="put the figures into docs/endurance.md")
    parser.add_argument("--fresh", action="store_true", help="forget an interrupted run")
    parser.add_argument("--report", action="store_true", help="only show what the last run has found so far")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the run is kept (default: .cache/endurance)"
    )
    return parser


def _hours(options: argparse.Namespace) -> float:
    return float(options.hours if options.minutes is None else options.minutes / 60)


def _begin(options: argparse.Namespace, record: Record | None, folder: Path) -> Record:
    """Go on with the record if it is of an interrupted run of the same works, else begin anew."""
    hours = _hours(options)
    works = list(options.only or DEFAULT)
    if record is not None and not record.finished and record.works == works:
        record.hours = hours
        return record
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    seed = random.randrange(2**32) if options.seed is None else options.seed
    return Record(hours=hours, seed=seed, works=works)
