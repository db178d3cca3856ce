"""What was measured, as a table, as Markdown and as JSON: medians, their range over the rounds, and who is first."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rivals.reasons import REASONS
from rivals.rows import ROWS, Row
from rivals.side import Side
from rivals.snippets import SNIPPETS

__all__ = ["Report", "as_json", "as_markdown", "as_snippet_table", "as_text"]

YES = ("yes", "no")
SAYINGS = "Where others are first, and what has no figure:"


@dataclass
class Report:
    """The values of all rounds by side and figure, and what is to be said of a side's row.

    `left_out` are sides that could not be installed, with the reason; `seconds` how long the last measurement of a row
    took each side.
    """

    sides: list[Side]
    quick: bool = False
    rounds: int = 0
    took_s: float = 0.0
    load: float = 0.0
    left_out: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    remarks: dict[tuple[str, str], str] = field(default_factory=dict)
    words: dict[str, dict[str, str]] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, side: str, row: str, answer: dict[str, Any], took_s: float = 0.0) -> None:
        """Take an answer of a side's process."""
        self.seconds.setdefault(row, {})[side] = took_s
        for key, value in answer["figures"].items():
            self.values.setdefault((side, key), []).append(value)
        said = answer.get("lacks") or answer.get("error")
        if said:
            self.remarks[side, row] = said if "lacks" in answer else f"failed: {said}"
        if row == "snippets" and answer["figures"]:
            self.words[side] = answer.get("words", {})

    def seconds_of(self, rows: Iterable[Row]) -> float:
        """How long a round of these rows takes, by the last one."""
        return sum(sum(self.seconds.get(row.name, {}).values()) for row in rows)

    def has(self, side: str, name: str) -> bool:
        """Whether a side has a figure of this row from any round."""
        return any((side, key) in self.values for row in ROWS if row.name == name for key, *_ in row.figures)

    def median(self, side: str, key: str) -> float | None:
        """None where it was not measured."""
        values = self.values.get((side, key))
        return statistics.median(values) if values else None

    def spread(self, side: str, key: str) -> tuple[float, float] | None:
        """The least and the greatest value; None for one round."""
        values = self.values.get((side, key), [])
        return (min(values), max(values)) if len(values) > 1 else None

    def first(self, key: str, more: bool, sides: list[Side]) -> str | None:
        """The side with the best figure."""
        known = {side.name: value for side in sides if (value := self.median(side.name, key)) is not None}
        return (max if more else min)(known, key=lambda name: known[name]) if known else None


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _cell(report: Report, side: Side, key: str, unit: str) -> str:
    value = report.median(side.name, key)
    if value is None:
        return "-"
    if unit in YES:
        return "yes" if value > 0.5 else "no"
    spread = report.spread(side.name, key)
    text = _number(value)
    return text if spread is None else f"{text} ({_number(spread[0])} to {_number(spread[1])})"


def _timed(report: Report) -> list[tuple[str, str, str, bool]]:
    """Key, title, unit and direction of all figures but the snippets'; a title says what a quick run has less of."""
    return [
        (key, f"{title} ({row.scaled})" if report.quick and row.scaled and not place else title, unit, more)
        for row in ROWS
        if row.name != "snippets"
        for place, (key, title, unit, more) in enumerate(row.figures)
    ]


def _lines(report: Report, sides: list[Side], *, mark: bool) -> list[list[str]]:
    lines = [
        ["", *(side.title for side in sides)],
        ["isolation", *(side.isolation for side in sides)],
        ["language", *(side.language for side in sides)],
    ]
    for key, title, unit, more in _timed(report):
        cells = [_cell(report, side, key, unit) for side in sides]
        if all(cell == "-" for cell in cells):
            continue
        first = report.first(key, more, sides)
        if mark and unit not in YES and key != "session_count":
            cells = [
                f"**{cell}**" if side.name == first else cell for side, cell in zip(sides, cells, strict=True)
            ]
        lines.append([f"{title}, {unit}" if unit and unit not in YES else title, *cells])
    return lines


def as_text(report: Report) -> str:
    """Plain columns, one table for each group of sides."""
    parts = []
    for title, sides in _groups(report):
        lines = _lines(report, sides, mark=False)
        widths = [min(34, max(len(line[column]) for line in lines)) for column in range(len(lines[0]))]
        widths[0] = max(len(line[0]) for line in lines)
        rows = [
            "  ".join(
                _cut(cell, width).ljust(width) for cell, width in zip(line, widths, strict=True)
            ).rstrip()
            for line in lines
        ]
        parts.append("\n".join([title, *rows]))
    return "\n\n".join([*parts, "\n".join([SAYINGS, *_sayings(report)])]) + "\n"


def _cut(cell: str, width: int) -> str:
    return cell if len(cell) <= width else f"{cell[: width - 3]}..."


def _groups(report: Report) -> list[tuple[str, list[Side]]]:
    ours = [side for side in report.sides if side.name.startswith("agentd")]
    others = [side for side in report.sides if not side.name.startswith("agentd")]
    return [
        (title, [*ours, *group])
        for title, group in (
            ("Beside what runs CPython", [side for side in others if side.is_cpython]),
            ("Beside interpreters of a language", [side for side in others if not side.is_cpython]),
        )
        if group or ours
    ]


def _ahead(times: float | None) -> str:
    return f"{_number(times)}x before" if times else "before"


def _sayings(report: Report) -> list[str]:
    """Who else is first, and why; what was not measured, and why."""
    ours = [side for side in report.sides if side.name.startswith("agentd")]
    found = []
    for key, title, unit, more in _timed(report):
        if unit in YES or key == "session_count":
            continue
        first = report.first(key, more, report.sides)
        own = report.first(key, more, ours)
        if first is None or own is None or first.startswith("agentd"):
            continue
        best, mine = report.median(first, key), report.median(own, key)
        assert best is not None
        assert mine is not None
        times = (best / mine if more else mine / best) if best and mine else None
        side = next(side for side in report.sides if side.name == first)
        why = REASONS.get((key, first)) or REASONS.get((key, ""), "")
        found.append(f"- {title}: {side.title} is first, {_ahead(times)} agentd. {why}".rstrip())
    for side in report.sides:
        same: dict[tuple[str, str], list[str]] = {}
        for (name, row), said in report.remarks.items():
            if name == side.name:
                lacks = "did not do each round of" if report.has(name, row) else "has no figure for"
                same.setdefault((lacks, said), []).append(f"`{row}`")
        found += [
            f"- {side.title} {lacks} {', '.join(rows)}: {said}." for (lacks, said), rows in same.items()
        ]
    return found + [f"- {title} is left out: {said}." for title, said in report.left_out.items()]


def as_markdown(report: Report, machine: dict[str, Any]) -> str:
    """The tables for the documentation, with the versions, the date and the machine."""
    load = f"load {machine['load']:.1f} before it, on {machine['cpus']} processors"
    parts = [
        f"Measured {machine['date']}, {machine['rounds']} round(s), Python {machine['python']}, {load}. Medians"
        + (", with the least and the greatest of the rounds" if machine["rounds"] > 1 else "")
        + (" (without them: measured once)" if machine["rounds"] > 1 else "")
        + "; the first of each row is bold; - is what a program does not have.\n"
    ]
    for title, sides in _groups(report):
        lines = _lines(report, sides, mark=True)
        head, *rest = lines
        parts.append(f"### {title}\n")
        parts.append("\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rest)]) + "\n")
    parts.append(f"{SAYINGS}\n")
    parts.append("\n".join(_sayings(report)) + "\n")
    parts.append(_versions(report))
    return "\n".join(parts)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _versions(report: Report) -> str:
    named: dict[str, str] = {}
    for side in report.sides:
        named |= report.versions.get(side.name, {})
    return f"Versions: {', '.join(f'{name} {version}' for name, version in named.items())}.\n"


def as_snippet_table(report: Report, machine: dict[str, Any]) -> str:
    """What each can run at all of fifteen snippets, and what it says where it cannot."""
    sides = [side for side in report.sides if report.values.get((side.name, "snippet_0"))]
    lines = [["", *(side.title for side in sides)]]
    for number, snippet in enumerate(SNIPPETS):
        cells = ["yes" if report.median(side.name, f"snippet_{number}") else "no" for side in sides]
        lines.append([snippet.name, *cells])
    counts = [
        sum(bool(report.median(side.name, f"snippet_{n}")) for n in range(len(SNIPPETS))) for side in sides
    ]
    lines.append(["of fifteen", *(f"**{count}**" for count in counts)])
    head, *rest = lines
    parts = [f"Run {machine['date']}, CPython {machine['python']}.\n"]
    parts += ["\n".join([_row(head), _row(["---"] * len(head)), *map(_row, rest)]), ""]
    reasons = [
        f"- {side.title}, {name}: `{word.replace('`', '')}`"
        for side in sides
        if len(report.words.get(side.name, {})) < len(SNIPPETS)  # what runs none of them is another language
        for name, word in report.words.get(side.name, {}).items()
    ]
    if reasons:
        parts += ["What they say where the answer is no:", "", *reasons, ""]
    missing = [
        side for side in report.sides if side not in sides and (side.name, "snippets") in report.remarks
    ]
    parts += [f"- {side.title} has no column: {report.remarks[side.name, 'snippets']}." for side in missing]
    parts += [f"- {title} is left out: {said}." for title, said in report.left_out.items()]
    if missing or report.left_out:
        parts.append("")
    return "\n".join([*parts, _versions(report)])


def as_json(report: Report, machine: dict[str, Any]) -> dict[str, Any]:
    """All figures, in the shape that `make bench-compare` reads: a side is a line."""
    rows = []
    for side in report.sides:
        for row in ROWS:
            for key, title, unit, more in row.figures:
                spread = report.spread(side.name, key)
                rows.append(
                    {
                        "line": side.name,
                        "key": key,
                        "title": title,
                        "unit": unit,
                        "more": more,
                        "ours": report.median(side.name, key),
                        "spread": {"ours": spread} if spread else {},
                    }
                )
    remarks = [{"side": side, "row": row, "said": said} for (side, row), said in report.remarks.items()]
    return {
        "machine": machine,
        "sides": [
            {"name": side.name, "title": side.title, "isolation": side.isolation, "language": side.language}
            for side in report.sides
        ],
        "versions": report.versions,
        "left_out": report.left_out,
        "seconds": report.seconds,
        "rows": rows,
        "remarks": remarks,
        "snippets": report.words,
    }
