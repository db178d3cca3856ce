"""Compare two JSON files of `make bench` or `make bench-rivals`: what moved beyond noise.

    compare.py A B [--json] [--all] [--least PERCENT]

A and B may also be artifacts of the workflow `benchmarks` as they are downloaded: a folder or a zip with one such file.
A row has moved if the ranges of its rounds in A and B do not overlap and its medians lie further apart than
`--least` (10 %). A file of one round has no range: then its medians must lie 25 % apart. Where one of them is not above
zero, the ranges alone tell. Where the row's floor, which is the same work without agentd, moved by the same factor, it
was the machine. Of files of two machines, of two versions of Python, or of a quick run and a full one, that is told
below (with `--json`, on standard error). The exit code is 0 whatever moved: no clock fails a build. Standard library
only.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import zipfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Moved", "compared", "main"]

T = TypeVar("T")
ALONE = 0.25  # without a range
NEEDED = ("line", "key", "title", "unit", "more", "ours")
ANEW = "write the file anew with `make bench` or `make bench-rivals`"
HEADINGS = ("row", "A", "B", "B is", "verdict")


@dataclass(frozen=True, kw_only=True)
class Moved:
    """One row of both files. `factor` is how many times better B is; None where one of them has no figure."""

    line: str
    key: str
    title: str
    unit: str
    a: float | None
    b: float | None
    factor: float | None
    verdict: str


def main(argv: list[str] | None = None) -> int:
    """Read, compare and print."""
    parser = argparse.ArgumentParser(prog="compare.py", description="What moved between two benchmark files.")
    parser.add_argument("a", type=Path, metavar="A", help="the older JSON file")
    parser.add_argument("b", type=Path, metavar="B", help="the newer one")
    parser.add_argument("--json", action="store_true", help="print all rows as JSON")
    parser.add_argument("--all", action="store_true", help="print the rows that did not move, too")
    parser.add_argument("--least", type=float, default=10.0, metavar="PERCENT", help="default: 10")
    options = parser.parse_args(argv)
    try:
        a, b = _read(options.a), _read(options.b)
        _check_alike(options.a, a, options.b, b)
        rows = compared(a, b, least=options.least / 100)
    except ValueError as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    else:
        _print(rows, with_all=options.all)
    for told in _unlike(a["machine"], b["machine"]):
        print(told, file=sys.stderr if options.json else sys.stdout)
    return 0


def _unlike(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """What may have moved the rows besides agentd."""
    found = []
    if bool(a.get("quick")) != bool(b.get("quick")):
        which = "B" if b.get("quick") else "A"
        found.append(f"{which} is a quick run, the other is not: rows may have measured less of a thing")
    for key, what in (("python", "Python"), ("system", "system"), ("cpus", "number of processors")):
        if a.get(key) != b.get(key):
            found.append(f"another {what}, which moves rows as well: A {a.get(key)}, B {b.get(key)}")
    return found


def _text(path: Path) -> str:
    """The text of a file, or of the one JSON file in a folder or zip."""
    if path.is_dir():
        return _only([found for found in path.iterdir() if found.suffix == ".json"], path).read_text()
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return archive.read(_only([n for n in archive.namelist() if n.endswith(".json")], path)).decode()
    return path.read_text()


def _only(found: list[T], path: Path) -> T:
    if len(found) != 1:
        raise ValueError(f"{path}: has {len(found)} JSON files, must have one; name the file itself")
    return found[0]


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(_text(path))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not JSON ({error}); was it cut off? {ANEW}") from None
    except OSError as error:
        raise ValueError(
            f"{path}: {error.strerror}; write one with: make bench ARGS='--json {path}'"
        ) from None
    if not isinstance(data, dict) or not isinstance(data.get("rows"), list):
        raise ValueError(
            f"{path}: not a file of `make bench` or `make bench-rivals`: it must be an object with a list 'rows'"
        )
    for number, row in enumerate(data["rows"]):
        if not isinstance(row, dict) or (lacking := [key for key in NEEDED if key not in row]):
            said = f"lacks {', '.join(lacking)}" if isinstance(row, dict) else "is not an object"
            raise ValueError(f"{path}: rows[{number}] {said}; {ANEW}")
        if wrong := _wrong(row):
            raise ValueError(f"{path}: rows[{number}].{wrong}; {ANEW}")
    names = Counter((row["line"], row["key"]) for row in data["rows"])
    if twice := [f"{line}: {key}" for (line, key), number in names.items() if number > 1]:
        raise ValueError(f"{path}: has two rows {twice[0]}, of which one would be left out; {ANEW}")
    if not isinstance(data.setdefault("machine", {}), dict):
        raise ValueError(f"{path}: machine must be an object; {ANEW}")
    return data


def _wrong(row: dict[str, Any]) -> str:
    """What of a row is not as it must be."""
    if not all(isinstance(row[key], str) for key in ("line", "key", "title", "unit")):
        return "line, key, title and unit must be text"
    spread = row.get("spread", {})
    if not isinstance(spread, dict):
        return "spread must be an object"
    if not all(_is_number(value) for value in (row["ours"], row.get("floor_value")) if value is not None):
        return "ours and floor_value must be numbers, or null where there is no figure"
    ours = spread.get("ours")
    if ours is not None and not (isinstance(ours, list) and len(ours) == 2 and all(map(_is_number, ours))):
        return "spread.ours must be two numbers"
    return ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_alike(a: Path, before: dict[str, Any], b: Path, after: dict[str, Any]) -> None:
    """Refuse files without a common row, where all would be new or gone."""
    lines = [{row["line"] for row in data["rows"]} for data in (before, after)]
    if not lines[0] & lines[1]:
        said = "; ".join(
            f"{path} has {', '.join([*sorted(found)[:3], '...']) if found else 'none'}"
            for path, found in zip((a, b), lines, strict=True)
        )
        raise ValueError(
            f"no row is in both, so there is nothing to compare: {said} "
            "(one of `make bench`, the other of `make bench-rivals`, or other rows of --only)"
        )


def compared(a: dict[str, Any], b: dict[str, Any], *, least: float = 0.1) -> list[Moved]:
    """Put the rows of both files side by side, in the order of B, then those that only A has."""
    before = {(row["line"], row["key"]): row for row in a["rows"]}
    after = {(row["line"], row["key"]): row for row in b["rows"]}
    return [
        _row(before.get(name), after.get(name), least)
        for name in [*after, *(name for name in before if name not in after)]
    ]


def _row(a: dict[str, Any] | None, b: dict[str, Any] | None, least: float) -> Moved:
    known = b or a
    assert known is not None
    first, second = (row["ours"] if row else None for row in (a, b))
    factor, verdict = None, "same"
    if first is None and second is None:
        verdict = "no figure"
    elif first is None or second is None:
        verdict = "new" if first is None else "gone"
    elif first == second:
        factor = 1.0
    elif first <= 0 or second <= 0:
        assert a is not None
        assert b is not None
        if _apart(a, b):
            verdict = "better" if (second > first) == known["more"] else "worse"
    else:
        assert a is not None
        assert b is not None
        factor = _factor(first, second, more=known["more"])
        if _moved(a, b, least):
            verdict = _judged(a, b, factor)
    names = {name: known[name] for name in ("line", "key", "title", "unit")}
    return Moved(**names, a=first, b=second, factor=factor, verdict=verdict)


def _factor(first: float, second: float, *, more: bool) -> float:
    return second / first if more else first / second


def _moved(a: dict[str, Any], b: dict[str, Any], least: float) -> bool:
    """Whether the ranges do not touch and the medians lie apart."""
    if None in (_range(a), _range(b)):
        least = max(least, ALONE)
    ratio = b["ours"] / a["ours"]
    return _apart(a, b) and bool(max(ratio, 1 / ratio) > 1 + least)


def _apart(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether the ranges do not touch. A file of one round has its figure as its range."""
    (low_a, high_a), (low_b, high_b) = (_range(row) or (row["ours"], row["ours"]) for row in (a, b))
    return bool(low_a > high_b or low_b > high_a)


def _range(row: dict[str, Any]) -> tuple[float, float] | None:
    known = row.get("spread", {}).get("ours")
    return (known[0], known[1]) if known else None


def _judged(a: dict[str, Any], b: dict[str, Any], factor: float) -> str:
    floors = a.get("floor_value"), b.get("floor_value")
    if all(floor is not None and floor > 0 for floor in floors):
        machine = _factor(floors[0], floors[1], more=a["more"])  # type: ignore[arg-type]
        if (machine > 1) == (factor > 1) and 0.85 < factor / machine < 1.18:
            return "as its floor: the machine"
    return "better" if factor > 1 else "worse"


def _print(rows: list[Moved], *, with_all: bool) -> None:
    quiet = ("same", "no figure")
    shown = [row for row in rows if with_all or row.verdict not in quiet]
    cells = [HEADINGS, *map(_cells, shown)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    if shown:
        for row in [cells[0], tuple("-" * width for width in widths), *cells[1:]]:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    alone = sum(row.verdict in ("new", "gone") for row in rows)
    moved = sum(row.verdict not in (*quiet, "new", "gone") for row in rows)
    more = f"; {alone} more have a figure in one file alone" if alone else ""
    print(f"{moved} of {len(rows) - alone} rows moved beyond noise{more}")


def _cells(row: Moved) -> tuple[str, ...]:
    return (
        f"{row.line}: {row.title.strip()}",
        *("-" if value is None else f"{value:,.4g} {row.unit}".rstrip() for value in (row.a, row.b)),
        "-" if row.factor is None else f"{row.factor:.3g}x",
        row.verdict,
    )


if __name__ == "__main__":
    sys.exit(main())
