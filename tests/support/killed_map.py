"""What tests read of the driver of a map, and when they kill it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

__all__ = ["read_results"]


def read_results(driver: subprocess.Popen[str], results: int | None = None) -> list[dict[str, Any]]:
    """Read so many results and kill it then; None for all."""
    assert driver.stdout is not None
    found = []
    with driver:
        for line in driver.stdout:
            found.append(json.loads(line))
            if len(found) == results:
                driver.kill()
    assert driver.returncode == (0 if results is None else -9)
    return found
