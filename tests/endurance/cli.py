"""`make endurance`: do all kinds of work for hours, and say whether anything grows or is lost."""

from __future__ import annotations

import argparse
import errno
import json
import random
import shutil
import sys
from pathlib import Path

from output_file import output_file, write_output

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
    if not _hours(options) > 0:
        print("endurance: --hours, --minutes: must be more than 0", file=sys.stderr)
        return 2
    try:
        earlier = [_added(path) for path in options.add]
    except (OSError, ValueError) as error:
        print(f"endurance: --add: {error}", file=sys.stderr)
        return 2
    added_s = sum(record.spent_s for record in earlier)
    if options.write and not options.report and _hours(options) * 3600 + added_s < WRITTEN_S:
        print(TOO_SHORT, file=sys.stderr)
        return 2
    folder, state = options.folder, options.folder / "run.json"
    try:
        own = _own(options, state)
        _check_twice(own, earlier, options.add)
        if not options.report:
            _make_room(folder, own)
    except (OSError, ValueError) as error:
        print(f"endurance: {error}", file=sys.stderr)
        return 2
    if not options.report:
        try:
            EnduranceRun(folder / "world", own, state).run()
        except KeyboardInterrupt:
            pass
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            print(
                f"endurance: {error}; make room: the same command goes on with what was kept", file=sys.stderr
            )
            return 1
    record = own.behind(earlier) if earlier else own
    trends = rows(record)
    print_report(record, trends)
    if options.json and not write_output(options.json, json.dumps(as_json(own, rows(own))) + "\n"):
        return 1
    if options.write and record.spent_s < WRITTEN_S:
        print(TOO_SHORT, file=sys.stderr)
    elif options.write:
        write_into(PAGE, as_markdown(record, trends))
    if not own.finished and not options.report:
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


def _own(options: argparse.Namespace, state: Path) -> Record:
    """Return the record that is reported, or that goes on: that of an interrupted run of the same works, or a new one.

    :raises ValueError: if there is none to report, or if one would be lost that nobody has said is to be forgotten.
    """
    found = None if options.fresh else Record.load(state)
    if options.report:
        if found is None:
            raise ValueError(f"no run in {state.parent}; start one without --report")
        return found
    works, lost = list(options.only or DEFAULT), ""
    if found is None and state.exists() and not options.fresh:
        lost = f"{state} is not of this version"
    elif found is not None and not found.finished:
        if found.works == works:
            found.hours = _hours(options)
            return found
        lost = f"{state} has {found.spent_s / 60:.0f} min of an interrupted run of other works"
    if lost:
        raise ValueError(f"{lost}: --fresh forgets it, and another --folder leaves it there")
    seed = random.randrange(2**32) if options.seed is None else options.seed
    return Record(hours=_hours(options), seed=seed, works=works)


def _added(path: Path) -> Record:
    """Return an earlier run; what cannot be reported is told now, not when hours have passed."""
    record = Record.of_figures(path)
    try:
        rows(record)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} has figures that this version does not know: {error!r}") from error
    return record


def _check_twice(own: Record, earlier: list[Record], files: list[Path]) -> None:
    """Refuse to count a run twice."""
    for place, (record, path) in enumerate(zip(earlier, files, strict=True)):
        before = [(own, "the run itself"), *zip(earlier[:place], map(str, files), strict=False)]
        if same := [name for other, name in before if record.is_same(other)]:
            raise ValueError(
                f"--add: {path} is of the same run as {same[0]}, and would count twice; leave it out"
            )


def _make_room(folder: Path, record: Record) -> None:
    """Remove what another run has left there, and nothing else: the folder may be anybody's."""
    folder.mkdir(parents=True, exist_ok=True)
    if not record.starts:
        shutil.rmtree(folder / "world", ignore_errors=True)
        for name in ("run.json", "run.fresh"):
            (folder / name).unlink(missing_ok=True)
