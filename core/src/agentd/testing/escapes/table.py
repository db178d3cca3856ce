"""The page of the documentation that shows every case beside what is known of each executor.

python -m agentd.testing.escapes.table docs/escapes/*.yaml > docs/escape-cases.md
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from agentd.testing.escapes.case import Case, load_cases
from agentd.testing.escapes.expectation import Expectation, load_expectation

__all__ = ["markdown"]

_HEAD = """\
# Escape cases

What `agentd escape-test` tries, and what is known of each executor. A cell is empty where the case is blocked.
*open*: code can do it; *root* or *user*: only as that; *maybe*: it depends on the machine's own settings. The reasons
stand in the lists themselves: {lists}. What it means is told in [Security](security.md).

This page is generated: `python -m agentd.testing.escapes.table docs/escapes/*.yaml > docs/escape-cases.md`.
"""


def markdown(expectations: Sequence[Expectation]) -> str:
    """Return the page for these lists."""
    lists = ", ".join(f"[{e.executor}](escapes/{e.executor}.yaml)" for e in expectations)
    lines = [_HEAD.format(lists=lists)]
    for group, cases in groupby(load_cases(), key=lambda case: case.group):
        names = "".join(f" {e.executor} |" for e in expectations)
        lines += [
            f"## {group}",
            "",
            f"| case | what is at stake |{names}",
            "|---|---|" + "---|" * len(expectations),
        ]
        lines += [_row(case, expectations) for case in cases]
        lines.append("")
    return "\n".join(lines)


def _row(case: Case, expectations: Sequence[Expectation]) -> str:
    cells = []
    for expectation in expectations:
        known = expectation.known_open.get(case.name)
        cells.append("" if known is None else "open" if known.when == "always" else known.when)
    return f"| `{case.id}` | {case.why.replace('|', '/')} |" + "".join(f" {cell} |" for cell in cells)


if __name__ == "__main__":
    sys.stdout.write(markdown([load_expectation(Path(name)) for name in sorted(sys.argv[1:])]))
