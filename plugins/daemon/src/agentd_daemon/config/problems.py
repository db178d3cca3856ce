"""What is wrong with a configuration, and where; and the one error that says it all."""

from __future__ import annotations

from collections.abc import Iterable

import attrs
from agentd.errors import ConfigError

__all__ = ["InvalidConfigError", "Position", "Problem"]


@attrs.frozen
class Position:
    """A place in a file; lines and columns count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@attrs.frozen(kw_only=True)
class Problem:
    """One thing that is wrong.

    :ivar position: where it is written; without one, it is about the file as a whole.
    :ivar path: which value it is about (`agents[0].name`), or empty.
    """

    file: str
    position: Position | None = None
    path: str = ""
    message: str

    def __str__(self) -> str:
        where = str(self.position) if self.position is not None else self.file
        return ": ".join(filter(None, (where, self.path, self.message)))


class InvalidConfigError(ConfigError):
    """Configuration files cannot be used. The message has a line for each of `problems`."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))
