"""Skills that lie elsewhere and were given by their paths: found, and copied to where the code reads them.

A copy is seen in every sandbox, and what the code does to it harms nobody's skills. It has a file that names where it
comes from and when it was made, so that it is made again only if something has changed, and removed when it is not
wanted any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs
from agentd.errors import ConfigError

from agentd_skills.sandbox.frontmatter import document_name, names_in
from agentd_skills.tree import SkillTree

__all__ = ["GivenSkill", "copy_skills", "given_skills"]

_MARK: Final = ".agentd-copy.json"
_LEFT_OUT: Final = frozenset({".git", "__pycache__", "node_modules", ".venv"})
_MAX_FILES: Final = 5_000
_MAX_BYTES: Final = 256 * 2**20


@attrs.frozen
class GivenSkill:
    """A skill somewhere on this machine: its folder's name and its path."""

    name: str
    path: Path


def given_skills(paths: Sequence[str | Path]) -> list[GivenSkill]:
    """Return the skills at these paths: each is a skill's folder, or has such folders in it (links as well).

    :raises ConfigError: if there is none at one of them, or two have one name.
    """
    if isinstance(paths, str | Path) or not isinstance(paths, Sequence):
        raise ConfigError(f"skills: must be a list of paths, got {paths!r}; write [{str(paths)!r}]")
    found: dict[str, GivenSkill] = {}
    for given in paths:
        if not isinstance(given, str | Path):
            raise ConfigError(f"skills: must be a list of paths, and {given!r} is none")
        for skill in _skills_at(Path(given).expanduser().absolute()):
            other = found.setdefault(skill.name, skill)
            if other.path.resolve() != skill.path.resolve():
                raise ConfigError(f"skills: two are called {skill.name!r}: {other.path} and {skill.path}")
    return list(found.values())


def _skills_at(path: Path) -> list[GivenSkill]:
    if document_name(names_in(str(path))):
        return [GivenSkill(path.resolve().name if not path.name else path.name, path)]
    within = [path / name for name in sorted(names_in(str(path))) if not name.startswith(".")]
    skills = [GivenSkill(one.name, one) for one in within if document_name(names_in(str(one)))]
    if not skills:
        what = "is no folder" if not path.is_dir() else "has no SKILL.md, nor has a folder in it"
        raise ConfigError(f"skills: {str(path)!r} {what}; name a skill's folder or a folder of skills")
    return skills


def copy_skills(tree: SkillTree, skills: Sequence[GivenSkill], reserved: Collection[str]) -> None:
    """Bring the copies up to date, and remove those of skills that are not given any more.

    A folder that somebody has put there by hand stays as it is, in place of the copy.
    """
    wanted = {skill.name: skill for skill in skills if skill.name not in reserved}
    for folder in tree.folders():
        if folder not in wanted and tree.read(f"{folder}/{_MARK}", 4096) is not None:
            tree.remove_folder(folder)
    for folder, skill in wanted.items():
        mark = tree.read(f"{folder}/{_MARK}", 4096)
        if tree.kind(folder) and mark is None:
            continue
        files = list(_files(skill))
        fresh = json.dumps({"from": str(skill.path), "state": _state_of(files)}).encode()
        if mark == fresh:
            continue
        tree.remove_folder(folder)
        for relative, path, status in files:
            tree.write(f"{folder}/{relative}", path.read_bytes(), executable=bool(status.st_mode & 0o111))
        tree.write(f"{folder}/{_MARK}", fresh)


def _files(skill: GivenSkill) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Yield relative path, path and status of each file of a skill."""
    number = size = 0
    top = skill.path.resolve()
    for base, folders, names in os.walk(skill.path):
        folders[:] = sorted(set(folders) - _LEFT_OUT)
        for name in sorted(names):
            path = Path(base, name)
            try:
                status = path.stat()
            except OSError:  # a link that leads nowhere
                continue
            # A link in somebody's skill must not bring another file of this machine before the code.
            if not stat.S_ISREG(status.st_mode) or not path.resolve().is_relative_to(top):
                continue
            number, size = number + 1, size + status.st_size
            if number > _MAX_FILES or size > _MAX_BYTES:
                raise ConfigError(
                    f"skills: {str(skill.path)!r} has more than {_MAX_FILES:,} files or {_MAX_BYTES >> 20} MiB; "
                    "is it the right folder?"
                )
            yield path.relative_to(skill.path).as_posix(), path, status


def _state_of(files: Sequence[tuple[str, Path, os.stat_result]]) -> str:
    seen = [(relative, s.st_size, s.st_mtime_ns, s.st_mode) for relative, _, s in files]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()
