"""`FunctionSource`: Python functions as a tool source of their own, such as those of a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from agentd.errors import ConfigError, UnknownToolError
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec

from agentd_tools.toolfile import load_tools
from agentd_tools.toolset import ToolSet

__all__ = ["FunctionSource", "file_source"]


class FunctionSource:
    """Functions under one name. A toolbox takes `functions` as if they had been given to it one by one.

    :param name: the source's name.
    :raises ConfigError: naming function and parameter, if a function cannot be a tool.
    """

    def __init__(self, name: str, functions: Sequence[Callable[..., Any]]) -> None:
        self.name = name
        self.functions = tuple(functions)
        self._tools = ToolSet(self.functions)

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        """Return the functions' descriptions; they never change."""
        return tuple(attrs.evolve(spec, source=self.name) for spec in self._tools.specs())

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        """Call a function. Raises `ToolError`."""
        binding = next((b for b in self._tools.bindings if b.spec.name == name), None)
        if binding is None:
            raise UnknownToolError(name, [b.spec.name for b in self._tools.bindings])
        return await self._tools.call(binding.python_name, arguments)

    async def aclose(self) -> None:
        """Refuse further calls."""
        self._tools.close()


def file_source(text: str) -> FunctionSource:
    """Return the source of a file's `@tool` functions, named after the file.

    :raises ConfigError: if there is no such file, it cannot be imported, or marks no function.
    """
    path = Path(text).expanduser()
    if not path.is_file():
        raise ConfigError(f"python:{text}: there is no such file; write python:PATH/TO/FILE.py")
    return FunctionSource(path.stem, load_tools(path))
