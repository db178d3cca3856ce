"""Where an interpreter's files are: what a sandbox must show for it to start, and no more of a home than that."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from agentd_runner.artefact import INSIDE

__all__ = ["needed_paths"]


def needed_paths(python: str) -> tuple[Path, ...]:
    """Return the folders of an interpreter (its virtual environment's and those of the one below it) and the runner's.

    `~/.local/bin/python3` may be a link to it: then its neighbours in `~/.local` are none of its business.
    """
    settings = f"{os.path.dirname(os.path.dirname(python))}/pyvenv.cfg"
    changed = os.stat(settings).st_mtime_ns if os.path.exists(settings) else 0
    return _needed(python, os.path.realpath(python), changed)


@functools.lru_cache(16)
def _needed(python: str, _real: str, _changed: int) -> tuple[Path, ...]:
    """As long as the interpreter is the same one: a start asks each time."""
    given = Path(python)
    paths = [path for link in _links(given) for path in _around(link)]
    paths.append(_prefix(given.resolve()))
    if python == sys.executable:
        paths += [Path(sys.prefix), Path(sys.base_prefix), Path(sys.base_exec_prefix)]
    return tuple(path for path in dict.fromkeys([*paths, INSIDE]) if str(path) != "/")


def _links(path: Path) -> Iterator[Path]:
    """Yield the path, and what it leads to link by link: `.venv/bin/python` is often a link to a link."""
    for _ in range(40):  # as many as the kernel follows
        yield path
        if not path.is_symlink():
            return
        path = Path(os.path.normpath(path.parent / os.readlink(path)))


def _around(python: Path) -> list[Path]:
    """A virtual environment as a whole; of any other place, the program alone."""
    environment = python.parent.parent
    if (environment / "pyvenv.cfg").exists():
        return [environment, *_base(environment)]
    return [python]


def _base(environment: Path) -> list[Path]:
    """The folder of programs that a virtual environment names as its home."""
    lines = (environment / "pyvenv.cfg").read_text("utf-8", "replace").splitlines()
    homes = [
        value.strip() for name, _, value in (line.partition("=") for line in lines) if name.strip() == "home"
    ]
    return [_prefix(Path(home) / "python") for home in homes if os.path.isabs(home)]


def _prefix(python: Path) -> Path:
    """The folder that an interpreter is installed in, but never a whole home."""
    home = Path.home().resolve()
    wider = [python.parent.parent, python.parent, python]
    return next(path for path in wider if path == python or not home.is_relative_to(path))
