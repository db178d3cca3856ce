"""What a project's file may say without anybody's word: whatever makes things stricter, and the model's name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["needs_word"]

_SANDBOXES: Final = ("native", "srt", "msb")
_NO_CHOICE: Final = (None, "auto", "subprocess")
"""Executors for which each sandbox is as strict or stricter."""
_STRICTNESS: Final = {"yolo": -1, None: 0, "ask-writes": 1, "read-only": 2}
_LIMITS: Final = {"max-turns": 20, "timeout": 60.0, "wall-time": 600.0, "max-cost": None}
"""What holds if nobody says anything."""
_HARMLESS: Final = {
    "full-output": (True, False),
    "checkpoints": (True,),
    "no-agents-md": (True,),
    "images": (False,),
    "mode": ("tools",),
    "bare-fences": ("nudge", "answer"),
}


def needs_word(name: str, value: Any, without: Mapping[str, Any]) -> bool:
    """Tell whether a key of a project's file counts only with the person's word.

    :param without: what holds without that file, by key; a key that nobody has set is not there.
    """
    before = without.get(name)
    if name == "model":
        return False
    if name in _HARMLESS:
        return value not in _HARMLESS[name]
    if name in _LIMITS:
        limit = before if before is not None else _LIMITS[name]
        return limit is not None and bool(value > limit)
    if name == "executor":
        return value not in _SANDBOXES or before not in _NO_CHOICE
    if name == "policy":
        # A file of rules cannot be compared with anything.
        return (
            value not in _STRICTNESS or before not in _STRICTNESS or _STRICTNESS[value] < _STRICTNESS[before]
        )
    return True
