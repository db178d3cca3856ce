"""Print which sandboxes run here, as JSON: `python trying.py FOLDER` (started by `executors`)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[0:1] = [str(TESTS), str(TESTS / "support")]

from endurance.executors import tried  # noqa: E402

if __name__ == "__main__":
    print(json.dumps(tried(Path(sys.argv[1]))))
