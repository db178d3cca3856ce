"""The trigger `file` keeps the contract of triggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from agentd_testing import TriggerContract


class TestFile(TriggerContract):
    kind = "file"
    wrong_options: ClassVar[Any] = ({}, {"path": "x", "globs": []}, {"path": "x", "debounce_s": 0})

    def options(self, place: Path) -> dict[str, Any]:
        return {"path": str(place), "debounce_s": 0.05}

    async def cause(self, place: Path, number: int) -> str:
        file = place / f"{number}.txt"
        if not file.exists():  # made again, it would have changed
            file.touch()
        return f'created: "{number}.txt"'
