"""What a run has found: a row for each figure, the counts, what is wrong; as a table, JSON and Markdown."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

from endurance.measuring import BOUNDS
from endurance.recording import Record
from endurance.trend import Trend, Verdict, trend_of

__all__ = ["as_json", "as_markdown", "as_text", "is_good", "print_report", "rows", "write_into"]

TITLES = {
    "rss_mib": "memory (RSS), MiB",
    "pss_mib": "memory (PSS), MiB",
    "fds": "descriptors",
    "threads": "threads",
    "watches": "inotify watches",
    "processes": "processes below",
    "mib": "on disk, MiB",
    "files": "files",
}
HARNESS = "harness"
"""Looked at and shown, but not judged: the clients and the model of the run itself."""
COUNTS = (
    ("sessions", "sessions"),
    ("runs", "runs"),
    ("turns", "turns"),
    ("blocks", "blocks"),
    ("calls", "tool calls"),
    ("triggers_sent", "webhooks sent"),
    ("triggers_accepted", "webhooks accepted"),
    ("files_made", "files put into inboxes"),
    ("pages_written", "pages written"),
    ("triggers_run", "triggers run"),
    ("trigger_attempts", "attempts at them"),
    ("triggers_lost", "triggers lost"),
    ("killed_daemons", "daemons killed"),
    ("killed_servers", "MCP servers killed"),
    ("killed_runners", "runners and kept interpreters killed"),
    ("killed_supervisors", "supervisors and workers killed"),
    ("killed_chats", "chats killed"),
    ("cut_streams", "streams cut"),
    ("timeouts", "blocks out of time"),
    ("cancelled", "runs left"),
    ("hung_up", "clients that hung up"),
    ("ctrl_c", "Ctrl-C"),
    ("reloads", "reloads"),
    ("outlived", "processes that outlived what started them"),
    ("wrong", "wrong in all"),
)
ALWAYS = ("triggers_lost", "outlived", "wrong")
WORST_FIRST: tuple[Verdict, ...] = ("grows", "unclear", "late")
UNFINISHED = "not over, so that nobody waited for what was accepted last"
Row = tuple[str, str, Trend]


def rows(record: Record) -> list[Row]:
    """The trend of each figure of which there are enough samples."""
    found = [(role, figure, _trend(record, role, figure)) for role, figure in record.figures()]
    return [(role, figure, trend) for role, figure, trend in found if trend is not None]


def _trend(record: Record, role: str, figure: str) -> Trend | None:
    """What grows in one of several runs grows: the points of a longer one would outnumber it."""
    trend = trend_of(record.lives(role, figure), BOUNDS[figure])
    if trend is None:
        return None
    of_parts = [part.verdict for run in record.parts if (part := _trend(run, role, figure)) is not None]
    worst = next((verdict for verdict in WORST_FIRST if verdict in (trend.verdict, *of_parts)), trend.verdict)
    return trend._replace(verdict=worst)


def is_good(record: Record, trends: list[Row]) -> bool:
    """True if nothing was wrong or lost, and nothing grows."""
    return not record.counts["wrong"] and not any(
        t.verdict == "grows" for role, _, t in trends if role != HARNESS
    )


def _cells(row: Row) -> list[str]:
    role, figure, trend = row
    verdict = (
        "(not judged)"
        if role == HARNESS
        else trend.verdict.upper()
        if trend.verdict == "grows"
        else trend.verdict
    )
    return [
        role,
        TITLES[figure],
        f"{trend.median:.4g}",
        f"{trend.most:.4g}",
        f"{trend.per_hour:+.3g}",
        f"{trend.low:+.3g} to {trend.high:+.3g}",
        f"{trend.least:.3g}",
        verdict,
    ]


SHORT_S = 600
HEADINGS = ["of", "what", "median", "most", "an hour", "95 % interval", "least seen", "verdict"]


def counted(record: Record) -> list[tuple[str, int]]:
    """The counts that are not zero, and those that are to be."""
    return [(title, record.counts[key]) for key, title in COUNTS if record.counts[key] or key in ALWAYS]


def as_text(record: Record, trends: list[Row]) -> str:
    """The report for a terminal or a file."""
    cells = [HEADINGS, *map(_cells, trends)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    lines.append("")
    lines += [f"{number:>9,}  {title}" for title, number in counted(record)]
    if record.wrong:
        lines += ["", f"wrong ({record.counts['wrong']}):", *record.wrong]
    judged = "good" if is_good(record, trends) else "NOT GOOD"
    more = "" if record.finished else f"; {UNFINISHED}"
    lines += ["", f"{record.spent_s / 3600:.2f} h in {record.starts} start(s): {judged}{more}"]
    if judged != "good" and not record.counts["wrong"] and record.spent_s < SHORT_S:
        lines.append(
            f"In less than {SHORT_S // 60} minutes, what fills up to a limit grows, too: conversations that are kept "
            "open, for one. Run longer to tell."
        )
    return "\n".join(lines)


def print_report(record: Record, trends: list[Row]) -> None:
    """Print it."""
    print(as_text(record, trends), flush=True)


def as_json(record: Record, trends: list[Row]) -> dict[str, Any]:
    """Everything that was measured, as JSON-ready data."""
    return {
        "machine": _machine(),
        "spent_s": record.spent_s,
        "finished": record.finished,
        "pythons": record.pythons,
        "starts": record.starts,
        "seed": record.seed,
        "works": record.works,
        "good": is_good(record, trends),
        "counts": dict(record.counts),
        "wrong": record.wrong,
        "trends": [{"of": role, "figure": figure, **trend._asdict()} for role, figure, trend in trends],
        "samples": record.samples,
    }


def _machine() -> dict[str, Any]:
    import os

    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def as_markdown(record: Record, trends: list[Row]) -> str:
    """The figures of a run for its page."""
    machine = _machine()
    pythons = ", ".join(record.pythons or [machine["python"]])
    said = (
        f"Measured {machine['date']}: {record.spent_s / 3600:.1f} h in {record.starts} start(s), "
        f"Python {pythons}, {machine['cpus']} processors, load {machine['load']} at the end"
        f"{'' if record.finished else f' ({UNFINISHED})'}.\n"
    )
    table = [HEADINGS, ["---"] * len(HEADINGS), *(_cells(row) for row in trends if row[0] != HARNESS)]
    lines = [said, *("| " + " | ".join(cells) + " |" for cells in table), ""]
    lines += [
        "| counted | |",
        "|---|---|",
        *(f"| {title} | {number:,} |" for title, number in counted(record)),
    ]
    return "\n".join(lines) + "\n"


def write_into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page."""
    begin, end = "<!-- endurance -->", "<!-- /endurance -->"
    before, found, rest = page.read_text().partition(begin)
    _, also, after = rest.partition(end)
    if not found or not also:
        raise SystemExit(f"endurance: {page} has no {begin} ... {end}")
    page.write_text(f"{before}{begin}\n{text}{end}{after}")
