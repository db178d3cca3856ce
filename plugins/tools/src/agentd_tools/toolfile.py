"""Tool files: Python files whose `@tool` functions a run offers to the model's code."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentd.errors import ConfigError

__all__ = ["load_tools"]


def load_tools(path: Path) -> list[Callable[..., Any]]:
    """Import the file and return the functions in it that carry `@tool`.

    Modules beside the file can be imported by it. Raises `ConfigError` if it cannot be imported or marks
    no function.
    """
    from agentd_tools import decorated_tools

    path = path.resolve()
    before = {id(function) for function in decorated_tools()}
    _import(path)
    tools = [function for function in decorated_tools() if id(function) not in before]
    if not tools:
        raise ConfigError(
            f"{path}: no function here carries @tool; put `from agentd import tool` and `@tool` above one"
        )
    return tools


def _import(path: Path) -> None:
    name = f"agentd_tools_of_{path.stem}_{abs(hash(path)):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file; --tool takes files that end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # msgspec and pydantic look annotations up there
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigError(f"{path}{_line(error, path)}: {type(error).__name__}: {error}") from error


def _line(error: BaseException, path: Path) -> str:
    """The last line of the file that the error came through, as `:12`."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f":{error.lineno}"
    line, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f":{line}" if line else ""
