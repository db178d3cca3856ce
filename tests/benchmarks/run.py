"""Run the benchmarks: `python tests/benchmarks/run.py [--only NAME ...] [--json FILE] [--quick]`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # started as a script, from any directory
sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from benchmarks.cli import main

if __name__ == "__main__":
    sys.exit(main())
