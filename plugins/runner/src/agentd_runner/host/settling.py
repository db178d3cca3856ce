"""What plugins were killed in is finished before code runs in a workspace: one registry does it for all executors."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from agentd.workspace import settle_workspace

if TYPE_CHECKING:
    from agentd.registry import Registry

__all__ = ["settle"]


def settle(workspace: Path) -> list[str]:
    """As `agentd.workspace.settle_workspace`: to make a registry and check the plugins again would cost each start."""
    try:
        return settle_workspace(workspace, _current)
    except BaseException:
        _registry.cache_clear()  # a plugin that could not be imported is tried again the next time
        raise


def _current() -> Registry:
    return _registry(os.environ.get("AGENTD_PLUGINS_ALLOW"), os.environ.get("AGENTD_PLUGINS_BLOCK"))


@functools.lru_cache(4)
def _registry(_allow: str | None, _block: str | None) -> Registry:
    from agentd.registry import Registry

    return Registry()


os.register_at_fork(after_in_child=_registry.cache_clear)  # a thread of the parent may have held its lock
