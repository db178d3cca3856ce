"""The list of what a rendering wrote, so that the next one writes only what has changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Final

import attrs

from agentd_skills.tree import SkillTree

__all__ = ["Entry", "Manifest"]

_PATH: Final = "lib/.manifest.json"
_OURS: Final = re.compile(
    r"lib/(__init__|tools|resources|prompts|_bridge|_channel|_command|_frontmatter|_search|_beside|_tools_[a-z0-9_]+)\.py"
    r"|lib/tools\.pyi|bin/skills"
    r"|lib/\.startup/sitecustomize\.py|lib/\.search/[a-z0-9-]+\.jsonl|[a-z0-9-]+/(SKILL\.md|scripts/(\w+_example|examples)\.py)"
)

Entry = tuple[str, int, int]
"""A file as it was written: SHA-256, size, mtime in ns."""


@attrs.frozen(kw_only=True)
class Manifest:
    """What the last rendering wrote. `files`: path -> entry; `skills`: folder -> fingerprint of its input and
    the paths of its files."""

    fingerprint: str = ""
    files: dict[str, Entry] = attrs.field(factory=dict)
    skills: dict[str, tuple[str, tuple[str, ...]]] = attrs.field(factory=dict)

    @classmethod
    def read(cls, tree: SkillTree) -> Manifest:
        """Read the manifest as far as it can be trusted: the sandbox's code can write it."""
        try:
            data = json.loads(tree.read(_PATH) or b"{}")
            files = {
                path: (str(entry[0]), int(entry[1]), int(entry[2]))
                for path, entry in data.get("files", {}).items()
                if _OURS.fullmatch(path)
            }
            skills = {
                folder: (str(known[0]), tuple(str(path) for path in known[1]))
                for folder, known in data.get("skills", {}).items()
            }
            return cls(fingerprint=str(data.get("fingerprint", "")), files=files, skills=skills)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            return cls()

    def is_intact(self, tree: SkillTree, paths: Iterable[str] | None = None) -> bool:
        """Tell whether all files (or these) are as they were written, by size and time."""
        wanted = self.files if paths is None else list(paths)
        return bool(wanted) and all(
            path in self.files and tree.state(path) == self.files[path][1:] for path in wanted
        )

    def put(self, tree: SkillTree, path: str, text: str) -> Entry:
        """Write a file unless it is there already; return its entry."""
        data = text.encode("utf-8")
        digest = hashlib.sha256(data).hexdigest()
        if tree.read(path) != data:
            tree.write(path, data, executable=path.startswith("bin/"))
        size, mtime = tree.state(path) or (len(data), 0)
        return (digest, size, mtime)

    def write(self, tree: SkillTree) -> None:
        """Write the manifest, if it changes."""
        data = json.dumps(attrs.asdict(self, recurse=False), sort_keys=True).encode()
        if tree.read(_PATH) != data:
            tree.write(_PATH, data)
