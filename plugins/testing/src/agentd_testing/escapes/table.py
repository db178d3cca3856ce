"""What the documentation says of the lists: the page of all cases, and the reasons of those known to be open.

`python -m agentd_testing.escapes.table docs` writes both anew from the lists in `docs/escapes`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from agentd_testing.escapes.case import Case, load_cases
from agentd_testing.escapes.expectation import Expectation, load_expectation

__all__ = ["load_lists", "markdown", "with_reasons"]

_HEAD = """\
# Escape cases

What `agentd escape-test` tries, and what is known of each executor. A cell is empty where the case is blocked.
*open*: code can do it; *root* or *user*: only as that; *maybe*: it depends on the machine's own settings. The reasons
stand in the lists themselves: {lists}; those of sandboxes in [Security](security.md), too, where it is told what this
means.

This page is generated: `python -m agentd_testing.escapes.table docs`.
"""

# A place for reasons names the lists, each of them a column but the last, which is the reasons'.
_PLACE = re.compile(r"(<!-- known-open: ([\w -]+) -->\n).*?(<!-- /known-open -->)", re.DOTALL)


def load_lists(docs: Path) -> list[Expectation]:
    """Return the lists of the folder `escapes` in `docs`, by name."""
    return [load_expectation(path) for path in sorted((docs / "escapes").glob("*.yaml"))]


def markdown(expectations: Sequence[Expectation]) -> str:
    """Return the page of all cases for these lists."""
    lists = ", ".join(f"[{e.name}](escapes/{e.name}.yaml)" for e in expectations)
    lines = [_HEAD.format(lists=lists)]
    for group, cases in groupby(load_cases(), key=lambda case: case.group):
        names = "".join(f" {e.name} |" for e in expectations)
        lines += [
            f"## {group}",
            "",
            f"| case | what is at stake |{names}",
            "|---|---|" + "---|" * len(expectations),
        ]
        lines += [f"| `{case.id}` | {_cell(case.why)} |{_states(case, expectations)}" for case in cases]
        lines.append("")
    return "\n".join(lines)


def with_reasons(page: str, expectations: Sequence[Expectation]) -> str:
    """Return the page with its places for reasons filled: `<!-- known-open: LIST LIST -->` to `<!-- /known-open -->`.

    Raises `KeyError` for a list that is none of these.
    """
    known = {expectation.name: expectation for expectation in expectations}

    def fill(match: re.Match[str]) -> str:
        return match[1] + _reasons([known[name] for name in match[2].split()]) + match[3]

    return _PLACE.sub(fill, page)


def _reasons(lists: Sequence[Expectation]) -> str:
    names = "".join(f" {e.name} |" for e in lists)
    lines = [f"| case |{names} why it is left open |", "|---|" + "---|" * len(lists) + "---|"]
    for case in load_cases():
        found = [e.known_open[case.name].reason for e in lists if case.name in e.known_open]
        if found:  # lists that differ in their reasons show each
            reasons = " ".join(dict.fromkeys(map(_cell, found)))
            lines.append(f"| `{case.name}` |{_states(case, lists)} {reasons} |")
    return "\n".join(lines) + "\n"


def _states(case: Case, lists: Sequence[Expectation]) -> str:
    cells = []
    for expectation in lists:
        known = expectation.known_open.get(case.name)
        cells.append("" if known is None else "open" if known.when == "always" else known.when)
    return "".join(f" {cell} |" for cell in cells)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def _write(docs: Path) -> None:
    lists = load_lists(docs)
    (docs / "escape-cases.md").write_text(markdown(lists), encoding="utf-8")
    security = docs / "security.md"
    security.write_text(with_reasons(security.read_text(encoding="utf-8"), lists), encoding="utf-8")


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
