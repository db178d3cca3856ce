"""What an editor names: the folder of a session, a conversation that was kept, a page of a list."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any, Final

from acp.exceptions import RequestError
from agentd.errors import ConfigError
from agentd_chat.kept import ConversationFolder, KeptConversation

__all__ = ["find_conversation", "folder_of", "start_of_page"]

_MAX_CURSOR_DIGITS: Final = 9


def start_of_page(cursor: str | None) -> int:
    """Return where the page begins that a cursor names. Raises `ConfigError` for what no answer had."""
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > _MAX_CURSOR_DIGITS:
        raise ConfigError(f"cursor: {cursor!r:.80} is not from this agent")
    return int(cursor)


def folder_of(cwd: str, more: Any) -> ConversationFolder:
    """Return where the conversations of a folder are kept. Raises `ConfigError` if `cwd` does not name a folder."""
    path = Path(cwd)
    try:
        is_folder = path.is_absolute() and stat.S_ISDIR(path.stat().st_mode)
        why = "" if is_folder or not path.is_absolute() else ": it is a file"
    except OSError as error:  # nothing there, a name that is too long, a folder that may not be entered
        is_folder, why = False, f": {error.strerror}"
    except ValueError:  # NUL, or a lone surrogate
        is_folder, why = False, ": it has a character that no path can have"
    if not is_folder:
        raise ConfigError(f"cwd: must be the absolute path of a folder that is there, got {cwd!r:.200}{why}")
    if more:
        raise ConfigError("additionalDirectories: a session has one folder; agentd acp does not offer more")
    return ConversationFolder(path)


def find_conversation(folder: ConversationFolder, id: str) -> KeptConversation:
    """Return a conversation that was kept, of this folder or of another. Raises `RequestError`."""
    kept = folder.get(id) or next((one for one in ConversationFolder.everywhere() if one.id == id), None)
    if kept is None:
        raise RequestError(
            -32002, f"no conversation {id!r:.80} was kept; one is kept from its first message on"
        )
    return kept
