"""Results on disk, a line for each replay: a run that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["Results"]


class Results:
    """The results of replays by key, in a file that begins with what they were made of.

    :param made_of: versions and the like; results of anything else are not used.
    :ivar aside: where these were put, if there were any.
    """

    def __init__(self, path: Path, made_of: Mapping[str, str], *, fresh: bool = False) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        self.aside: Path | None = None
        if not fresh and path.is_file():
            lines = path.read_text(encoding="utf-8").splitlines()
            if lines and _read(lines[0]) == {"made_of": dict(made_of)}:
                for line in lines[1:]:
                    if (entry := _read(line)) is not None:
                        self._known[entry["key"]] = entry["result"]
            elif len(lines) > 1:
                self.aside = path.with_suffix(f".older{path.suffix}")
                os.replace(path, self.aside)
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.with_suffix(".fresh")  # a full disk, or a kill, leaves the file as it was
        with whole.open("w", encoding="utf-8") as file:  # without a line that a kill has cut in two
            file.write(json.dumps({"made_of": dict(made_of)}) + "\n")
            file.writelines(_line(key, result) for key, result in self._known.items())
        os.replace(whole, path)

    def __len__(self) -> int:
        """How many results there are."""
        return len(self._known)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return a result that is there."""
        return self._known.get(key)

    def put(self, key: str, result: Mapping[str, Any]) -> None:
        """Keep a result."""
        self._known[key] = dict(result)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_line(key, result))


def _line(key: str, result: Mapping[str, Any]) -> str:
    return json.dumps({"key": key, "result": result}) + "\n"


def _read(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
