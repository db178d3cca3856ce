"""Names and folders of conversations. A conversation's id is any text, and never part of a path as it stands."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path

from agentd.errors import ConfigError
from agentd.statedir import user_state_dir

__all__ = ["check_conversation", "conversation_folder", "slug"]


def check_conversation(conversation_id: str | None) -> None:
    """Refuse what is no name. :raises ConfigError: an empty one would be everybody's."""
    if conversation_id is not None and (not isinstance(conversation_id, str) or not conversation_id):
        raise ConfigError(
            f"conversation_id: must be a text that is not empty, or None, got {conversation_id!r}"
        )


def slug(conversation_id: str) -> str:
    """Return a conversation's name as it may stand in a microVM's or a folder's; no two share one.

    Without capitals, for there are file systems that do not tell them apart.
    """
    plain = re.sub(r"[^a-z0-9_-]+", "-", conversation_id)[:48].strip("-")
    if plain == conversation_id:
        return plain
    digest = hashlib.sha256(conversation_id.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return f"{plain}.{digest}" if plain else digest


def conversation_folder(conversation_id: str | None, base_dir: str | Path | None) -> Path:
    """Return where a conversation's files lie: `base_dir`, or a folder of the user's state, or a temporary one."""
    if base_dir is not None:
        return Path(base_dir).expanduser()
    if conversation_id is None:
        return Path(tempfile.mkdtemp(prefix="agentd-msb-"))
    return user_state_dir() / "conversations" / slug(conversation_id)
