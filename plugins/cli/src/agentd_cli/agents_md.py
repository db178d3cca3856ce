"""AGENTS.md: what a project tells agents, from the repository's root down to the folder that is worked in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from agentd_cli.settings.file import project_root

__all__ = ["MAX_BYTES", "agents_instructions"]

FILE_NAME: Final = "AGENTS.md"
MAX_BYTES: Final = 32 * 1024
"""Of all files together; the nearest ones have precedence."""

_HEAD: Final = (
    "The project's people have written down what they want agents to know and keep to (AGENTS.md). What the user says "
    "goes before it; of two files, the later one goes before the earlier."
)


def agents_instructions(folder: Path) -> tuple[str, list[str]]:
    """Return what the model is told, empty if there is no such file, and notes for the person.

    Read are the files of `folder` and those above it up to its repository's root, the nearest last. A file that leads
    out of the repository is not read: what lies there is not the project's to show to a model's provider.
    """
    folder, root = folder.resolve(), project_root(folder)
    folders = [above for above in (folder, *folder.parents) if above.is_relative_to(root)]
    left = MAX_BYTES
    parts: list[str] = []
    notes: list[str] = []
    for above in folders:  # the nearest first: it is what must not be cut
        data = _read(above / FILE_NAME, root, notes)
        if not data:
            continue
        text = data[:left].decode("utf-8", "replace").strip()
        if len(data) > left:
            notes.append(f"{above / FILE_NAME}: only {left:,} of its bytes are told to the model")
            text += "\n[... the rest of this file was left out ...]"
        left = max(0, left - len(data))
        if text:
            parts.append(f"# {above / FILE_NAME}\n\n{text}")
    return ("\n\n".join([_HEAD, *reversed(parts)]) if parts else ""), notes


def _read(file: Path, root: Path, notes: list[str]) -> bytes:
    try:
        real = file.resolve(strict=True)
        if not real.is_relative_to(root):
            notes.append(f"{file}: leads out of the project, so it is not read")
            return b""
        with open(os.open(real, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
            if stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                return opened.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return b""
    except (OSError, RuntimeError) as error:
        notes.append(f"{file}: cannot be read: {error}")
    return b""
