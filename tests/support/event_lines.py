"""The description of `events_server.py`, for tests that start it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["events_server"]


def events_server(lines: Path, *how: str) -> dict[str, Any]:
    """Describe a server over a file of lines, as a daemon's configuration does."""
    program = str(Path(__file__).with_name("events_server.py"))
    return {"type": "stdio", "command": sys.executable, "arguments": [program, str(lines), *how]}
