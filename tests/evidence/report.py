"""The tables of `make evidence`, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from evidence.curve import MEASURES, Cell, crossing, measure_of
from evidence.objections import Sorted, sort
from evidence.plan import CALLS, OFFERED
from evidence.ways import USUAL, Way

__all__ = [
    "Findings", "attack_table", "crossing_lines", "curve_table", "data_set_table", "markdown", "target_table",
    "targets", "write_page",
]  # fmt: skip

Entry = Mapping[str, Any]
MARK: Final = "<!-- evidence -->"
TARGETS: Final = {"tokens": 0.35, "requests": 0.5}
TARGET_CELL: Final = (100, 10)


@attrs.frozen
class Findings:
    """What a run has found: results of the table by data set and way, the curve's cells, AgentDojo's counts without
    a policy and with it, and what it was all made of. `tasks` is how many tasks each data set has, `missing` how many
    of the planned replays have no result, and `only` which data sets were asked for, if not all."""

    table: Mapping[str, Mapping[Way, Sequence[Entry]]]
    tasks: Mapping[str, int]
    cells: Sequence[Cell]
    attacks: Mapping[bool, Counter[str]]
    made_of: Mapping[str, str]
    date: str
    is_quick: bool
    missing: int = 0
    only: Sequence[str] = ()

    @property
    def title(self) -> str:
        """What kind of a run it was."""
        if self.is_quick:
            return "A quick run"
        return "The full run" if self.is_whole else "A part of the full run"

    @property
    def is_whole(self) -> bool:
        """Whether nothing is missing of what the docs show."""
        if self.is_quick or self.missing or self.only:
            return False
        return all(0 < n == len(self.table.get(name, {}).get("json", ())) for name, n in self.tasks.items())

    @property
    def objections(self) -> Sorted:
        """What the data sets' checkers have objected to."""
        entries = [e for ways in self.table.values() for found in ways.values() for e in found]
        entries += [e for cell in self.cells for found in cell.results.values() for e in found]
        return sort(entries)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _pair(above: float, below: float) -> str:
    return f"{above:,.0f} / {below:,.0f} = {above / below:.2f}x"


def data_set_table(findings: Findings) -> str:
    """Return the table of data sets, each with its own tools: code / JSON."""
    rows = []
    for name, ways in findings.table.items():
        code, json = (ways[way] for way in USUAL)
        good = {way: sum(not e["objection"] for e in ways[way]) for way in USUAL}
        tools = sorted(e["offered"] for e in json)
        fresh = [sum(e["spent"]["sent"] - e["spent"]["cached"] for e in ways[way]) for way in USUAL]
        rows.append(
            [
                name,
                f"{len(json):,}"
                + (f" of {findings.tasks[name]:,}" if len(json) < findings.tasks[name] else ""),
                f"{sum(e['calls'] for e in json):,}",
                f"{sum(e['turns'] for e in json):,}",
                f"{tools[0]} to {tools[-1]}" if tools[0] < tools[-1] else str(tools[0]),
                f"{good['code']:,}, {good['json']:,}",
                *(
                    _pair(measure_of(code, measure), measure_of(json, measure))
                    for measure in ("requests", "tokens")
                ),
                _pair(*fresh),
                _pair(*(sum(e["spent"]["written"] for e in ways[way]) for way in USUAL)),
            ]
        )
    head = [
        "data set",
        "tasks",
        "gold calls",
        "the person's turns",
        "tools",
        "end state as it should be: code, JSON",
    ]
    head += ["requests", "tokens in and out", "input tokens not cached", "tokens written"]
    return _table(head, rows)


def curve_table(cells: Sequence[Cell], measure: str, above: Way = "code", below: Way = "json") -> str:
    """Return a measure's ratio of one way to another by tools and calls."""
    rows = []
    for offered in OFFERED:
        row = {
            c.column: c for c in cells if c.offered == offered and above in c.results and below in c.results
        }
        shown = [f"{row[c].ratio(measure, above, below):.2f}x" if c in row else "" for c in CALLS]
        if row:
            rows.append([f"{offered:,} tools", *shown])
    return _table(["", *(_column(cells, column) for column in CALLS)], rows)


def _column(cells: Sequence[Cell], column: int) -> str:
    least, most = CALLS[column]
    span = f"{least} call{'s' * (least > 1)}" if least == most else f"{least} to {most} calls"
    number = {cell.cases for cell in cells if cell.column == column}
    return f"{span} ({min(number)}{f' to {max(number)}' * (len(number) > 1)} tasks)" if number else span


def crossing_lines(cells: Sequence[Cell], above: Way = "code", below: Way = "json") -> list[str]:
    """Return for each measure of tokens and each number of tools where JSON wins."""
    lines = []
    for measure in list(MEASURES)[2:]:
        for offered in OFFERED:
            points = [(c.mean_calls, c.ratio(measure, above, below)) for c in cells if c.offered == offered]
            if not points:
                continue
            if (where := crossing(points)) is not None:
                verdict = f"JSON wins up to {where:.1f} calls a task, code from there"
            elif points[0][1] <= 1:
                verdict = "code wins from the first call"
            else:
                verdict = f"JSON wins up to {points[-1][0]:.0f} calls, the most measured"
            lines.append(f"{measure}, {offered:,} tools: {verdict}")
    return lines


def targets(cells: Sequence[Cell]) -> list[tuple[str, float, float]]:
    """Return what was wanted of the cell of 100 tools and 10 calls: measure, ratio, target."""
    return [
        (measure, cell.ratio(measure), target)
        for cell in cells
        if (cell.offered, cell.column) == TARGET_CELL
        for measure, target in TARGETS.items()
    ]


def attack_table(attacks: Mapping[bool, Counter[str]]) -> str:
    """Return what became of AgentDojo's injected tasks, without the policy and with it."""
    without, under = attacks[False], attacks[True]

    def of(counts: Counter[str], part: str, whole: str) -> str:
        return f"{counts[f'{whole}, {part}']:,} of {counts[whole]:,}"

    calls, tasks = "injected calls that would change something", "injected tasks with such a call"
    rows = [
        ["the user's calls, made", *(of(c, "made", "user's calls") for c in (without, under))],
        ["of them asked about", *(f"{c[ASKED]:,}" for c in (without, under))],
        [
            "users' tasks that AgentDojo calls done afterwards",
            *(of(c, "done", "user's tasks") for c in (without, under)),
        ],
        [
            "injected calls that would change something, stopped",
            *(of(c, "stopped", calls) for c in (without, under)),
        ],
        ["injected tasks with such a call, reached", *(of(c, "reached", tasks) for c in (without, under))],
        [
            "other injected calls: they read, or are the user's own to the letter",
            *(f"{c[OTHER_CALLS]:,}" for c in (without, under)),
        ],
    ]
    return _table(["", "no policy", "`ask-writes`"], rows)


TASKS: Final = "user's tasks"
ASKED: Final = "user's calls, asked about"
OTHER_CALLS: Final = "injected calls that read or are the user's own"


def markdown(findings: Findings) -> str:
    """Return everything that stands in the docs between the marks."""
    versions = ", ".join(
        f"{name} {version}" for name, version in findings.made_of.items() if name != "sources"
    )
    cells = findings.cells
    wanted = [
        f"* {measure}: {ratio:.2f}x, at most {target}x was wanted ({'reached' if ratio <= target else 'missed'})"
        for measure, ratio, target in targets(cells)
    ]
    parts = [
        f"{findings.title} of {findings.date}: {versions}.",
        "### Each data set with its own tools",
        data_set_table(findings),
        *_objections(findings.objections),
        "### Code / JSON by tools and calls",
        "Tokens in and out:",
        curve_table(cells, "tokens"),
        *_charts(),
        "Requests to the model:",
        curve_table(cells, "requests"),
        "Price: a cached token of the input at a tenth of a new one, one of the output at five times:",
        curve_table(cells, "price"),
        "Tokens, with JSON's tools as TypeScript:",
        curve_table(cells, "tokens, tools as TypeScript"),
        "At 100 tools and about 10 calls:",
        "\n".join(wanted),
        "Where JSON wins:",
        "\n".join(f"* {line}" for line in crossing_lines(cells)),
        "### Where it comes from",
        "One block for each call / one JSON call for each request, tokens:",
        curve_table(cells, "tokens", "code-stepwise", "json"),
        "One block for a turn / all JSON calls of a turn in parallel, tokens:",
        curve_table(cells, "tokens", "code", "json-parallel"),
        "The same with JSON's tools as TypeScript:",
        curve_table(cells, "tokens, tools as TypeScript", "code", "json-parallel"),
        *_attacks(findings.attacks),
    ]
    return "\n\n".join(parts)


def _attacks(attacks: Mapping[bool, Counter[str]]) -> list[str]:
    """Return the section about injected tasks; nothing if AgentDojo was not asked for."""
    if not attacks[True][TASKS]:
        return []
    said = f"{attacks[True][TASKS]} users' tasks, each with every injected task of its suite:"
    return ["### Injected tasks (AgentDojo)", said, attack_table(attacks)]


def _objections(found: Sorted) -> list[str]:
    """Return what the checkers object to, each a paragraph."""
    parts = []
    if found.known:
        lines = [f"* `{one.case}` as {', '.join(ways)}: {one.reason}." for one, ways in found.known.items()]
        parts.append(
            "\n".join(["Where a data set is wrong itself, its checker objects as it must:\n", *lines])
        )
    if found.unknown:
        parts.append(f"The checkers objected: {'; '.join(found.unknown)}.")
    return parts


def target_table(findings: Findings) -> str:
    """Return what was wanted of the cell of 100 tools and 10 calls, and whether it was reached, as a table."""
    rows = [
        [f"{measure} of code / of JSON, 100 tools, about 10 calls", f"at most {target}x", f"{ratio:.2f}x",
         "yes" if ratio <= target else "no"]
        for measure, ratio, target in targets(findings.cells)
    ]  # fmt: skip
    return f"{findings.title} of {findings.date}.\n\n{_table(['', 'wanted', 'measured', 'reached'], rows)}"


def write_page(page: Path, text: str, begin: str = MARK, end: str = MARK) -> None:
    """Put tables into a page between its two marks."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        raise ValueError(f"{page}: must have {begin} and {end} around the tables")
    page.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def _charts() -> list[str]:
    """Return the charts, one for each scheme of the page."""
    alt = "Tokens of code as a share of those of JSON, by calls a task, a line for each number of tools"
    return [
        f"![{alt}](images/evidence-light.svg#only-light)\n![{alt}](images/evidence-dark.svg#only-dark)",
    ]
