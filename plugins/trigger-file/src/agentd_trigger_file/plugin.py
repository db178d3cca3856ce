"""The plugin `file`: wakes an agent when files of a folder change."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_trigger_file.trigger import FileTrigger

AGENTD_API = 1

_WHAT: Final = "the trigger 'file'"
_KNOWN: Final = {"path": str, "globs": list, "debounce_s": float, "poll_s": float, "max_files": int}
_BOUNDS: Final = {"debounce_s": (0.05, 60.0), "poll_s": (1.0, 86_400.0), "max_files": (1, 100_000)}


@hookimpl
def agentd_create_trigger(options: Mapping[str, Any]) -> FileTrigger:
    """Make the trigger.

    Options: `path`, required: the folder, which need not be there yet. `globs`: which files, in lines as in a
    `.gitignore` (default all; `!` leaves out). `debounce_s` (0.5): seconds of quiet before a change is told. `poll_s`
    (60): seconds between two looks, for file systems that do not tell. `max_files` (10,000): files that may fit.
    """
    from agentd_trigger_file.listing import FolderFiles
    from agentd_trigger_file.trigger import FileTrigger

    check_options(_WHAT, options, _KNOWN)
    if not options.get("path"):
        raise ConfigError(f"option 'path' of {_WHAT} is missing: the folder to watch")
    for name, (least, most) in _BOUNDS.items():
        if not least <= options.get(name, least) <= most:
            raise ConfigError(
                f"option {name!r} of {_WHAT}: must be from {least:g} to {most:g}, got {options[name]:g}"
            )
    files = FolderFiles.read(
        Path(os.path.abspath(os.path.expanduser(options["path"]))),
        options.get("globs", ["*"]),
        max_files=options.get("max_files", 10_000),
    )
    return FileTrigger(
        files, debounce_s=options.get("debounce_s", 0.5), poll_s=float(options.get("poll_s", 60.0))
    )
