"""Where things lie in the checkout, for tests and for the programs that they start."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT", "SUPPORT"]

SUPPORT = Path(__file__).resolve().parent  # this folder: on `sys.path` while pytest runs, not in its children
ROOT = SUPPORT.parents[1]
