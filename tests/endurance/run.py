"""Run the endurance test: `python tests/endurance/run.py [--hours 6] [--minutes N] [--json FILE] [--write]`."""

from __future__ import annotations

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0:1] = [str(TESTS), str(TESTS / "support")]  # not this folder: it would shadow top-level names

from endurance.cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
