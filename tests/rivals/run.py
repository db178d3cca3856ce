"""Run the comparison: `python tests/rivals/run.py [--quick] [--only NAME ...]`."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0] = str(TESTS)  # not this folder: it would shadow top-level names
sys.path.append(str(TESTS / "support"))

from rivals.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
