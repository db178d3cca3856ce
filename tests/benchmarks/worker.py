"""Run one side of one line here and print its figures as JSON: `worker.py LINE SIDE [--quick]`."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])  # not this folder: it would shadow top-level names

from benchmarks.kit import scratch, taken_notes  # noqa: E402


def main() -> None:
    """Measure what the arguments name; a side that the line does not have gives no figures."""
    name, side = sys.argv[1:3]
    module = importlib.import_module(f"benchmarks.lines.{name}")
    measure = getattr(module, side, None)
    figures = {}
    if measure is not None:
        with scratch():
            figures = measure("--quick" in sys.argv)
    print(json.dumps({"figures": figures, "notes": taken_notes()}), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
