"""What a server behind asks of a client, with the name of who asks: the client itself knows agentd alone.

The server's own text cannot be taken for ours: each of its lines stands behind a mark, control characters and what
turns the direction of writing are shown as such, and its name and that of its tool stand in quotes.
"""

from __future__ import annotations

from typing import Any, Final

import mcp_types as types
from agentd_policy.questions import readable

__all__ = ["named", "quoted"]

_MARK: Final = "> "
_MOST: Final = 20_000
_MOST_OF_A_NAME: Final = 200
SERVER: Final = "agentd/server"
DURING: Final = "agentd/during"


def quoted(name: str) -> str:
    """Return a name as it may stand in a sentence: one line, in quotes, whatever is in it."""
    shown = repr(name[:_MOST_OF_A_NAME])
    return shown if len(name) <= _MOST_OF_A_NAME else f"{shown}..."


def named(request: types.InputRequest, server: str, during: str) -> types.InputRequest:
    """Return a server's question as it is put to the client: a form or an address says who asks, and on what it works;
    every question has both in its `_meta`.

    :param during: what the client has asked for, `the call of its tool 'greet'` say; empty if that is not known.
    """
    if isinstance(request, types.ListRootsRequest):
        return request
    meta: dict[str, Any] = {**(request.params.meta or {}), SERVER: server}
    meta.pop(DURING, None)
    if during:
        meta[DURING] = during
    changes: dict[str, Any] = {"meta": meta}
    if isinstance(request, types.ElicitRequest):
        what = f", during {during}" if during else ""
        lines = readable(request.params.message, _MOST).split("\n")
        changes["message"] = "\n".join(
            [f"The MCP server {quoted(server)} asks{what}:", *(_MARK + line for line in lines)]
        )
    return request.model_copy(update={"params": request.params.model_copy(update=changes)})
