"""The snapshot store `store`: the hook. Nothing heavy: the store is imported inside."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_store.snapshots import StoredSnapshots

__all__ = ["AGENTD_API", "agentd_create_snapshot_store"]

AGENTD_API: Final = 1
_OPTIONS: Final = {
    "url": str, "conversation": str, "key": str, "storage_options": dict, "lease_s": float, "ignore": list,
    "max_checkpoints": int, "durable_cache": bool,
}  # fmt: skip


@hookimpl
def agentd_create_snapshot_store(
    workspace_dir: Path,
    base_dir: Path | None,
    exclude: Callable[[], Sequence[str]],
    options: Mapping[str, Any],
) -> StoredSnapshots:
    """Open a conversation of a store. Options: those of `StoredSnapshots`; `url` and `conversation` are needed."""
    for name, argument in (("url", "store"), ("conversation", "conversation_id")):
        if options.get(name) in (None, ""):
            raise ConfigError(
                f"the snapshot store 'store': the option {name!r} is missing; of a Session: {argument}=..."
            )
    check_options("the snapshot store 'store'", options, _OPTIONS)
    from agentd_store.snapshots import StoredSnapshots

    return StoredSnapshots(workspace_dir, base_dir=base_dir, exclude=exclude, **options)
