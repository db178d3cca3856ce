"""Which modules a piece of code loads, and which of them take time."""

from __future__ import annotations

import subprocess
import sys

__all__ = ["HEAVY", "loaded_by"]

HEAVY = {"openai", "litellm", "mcp", "pydantic", "rich", "yaml"}


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded for `code` beyond what it starts with."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())
