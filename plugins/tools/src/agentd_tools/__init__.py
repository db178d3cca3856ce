"""Tools: functions that the model's code can call, and the host side that carries the calls out.

`tool` marks a function; `ToolSet` holds functions and tool sources and answers calls; `bind` says under
which Python name each tool is importable. msgspec is imported when the first tool is described.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from agentd_tools.decorator import decorated_tools, tool

if TYPE_CHECKING:
    from agentd_tools.loops import TaskLoop
    from agentd_tools.naming import Binding, bind
    from agentd_tools.results import MAX_MESSAGE_BYTES
    from agentd_tools.toolset import ToolSet

__all__ = ["MAX_MESSAGE_BYTES", "Binding", "TaskLoop", "ToolSet", "bind", "decorated_tools", "tool"]

# `from agentd import tool` must not pay for anyio, which the tool set needs
_LAZY: Final = {
    "Binding": "agentd_tools.naming",
    "MAX_MESSAGE_BYTES": "agentd_tools.results",
    "TaskLoop": "agentd_tools.loops",
    "ToolSet": "agentd_tools.toolset",
    "bind": "agentd_tools.naming",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
