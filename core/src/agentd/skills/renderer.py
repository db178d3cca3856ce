"""Writes the skills directory: bindings, client, command, a folder for each source of tools.

    lib/__init__.py  lib/tools.py  lib/_bridge.py  lib/_command.py  lib/.manifest.json  bin/skills
    SOURCE/SKILL.md  SOURCE/scripts/TOOL_example.py

What was written is listed in the manifest; only that is ever changed or removed. A folder with a SKILL.md
that is not ours belongs to whoever put it there: it is shown in the prompt and left alone.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from agentd.skills.bindings import tools_module
from agentd.skills.documents import (
    GENERATED_MARK,
    example_script,
    prompt_text,
    skill_document,
    skill_summary,
)
from agentd.skills.texts import slug
from agentd.skills.tree import Tree
from agentd.tools.naming import Binding, bind
from agentd.types import ToolSpec

__all__ = ["AgentSkillsRenderer"]

_LAYOUT: Final = 1  # raise this when the generated text changes: unchanged tools are rendered again then
_MANIFEST: Final = "lib/.manifest.json"
_OURS: Final = re.compile(
    r"lib/(__init__|tools|_bridge|_command)\.py|bin/skills|[a-z0-9-]+/(SKILL\.md|scripts/\w+_example\.py)"
)
_RESERVED_FOLDERS: Final = frozenset({"lib", "bin"})
_COMMAND: Final = """\
#!/bin/sh
# The skills command. Written by agentd; changes are overwritten.
exec "${AGENTD_PYTHON:-python3}" -S "${0%/*}/../lib/_command.py" "$@"
"""


class AgentSkillsRenderer:
    """Renders tools in the AgentSkills layout. Keeps nothing between calls but what is on disk."""

    def render(self, tools: Sequence[ToolSpec], directory: Path) -> None:
        """Write what has changed below `directory`, each file atomically, and remove what is gone.

        Two processes may render into one directory at once.

        :param tools: all tools of the session in their order (`ToolSet.specs()`).
        :raises UnsafePathError: if the directory is a link, or a file lies where a folder belongs.
        :raises WorkspaceError: if a file cannot be written.
        """
        with Tree(Path(directory)) as tree:
            manifest = _Manifest.read(tree)
            fingerprint = _fingerprint(tools)
            if manifest.fingerprint == fingerprint and manifest.is_intact(tree):
                return
            bindings = bind(tools)
            folders = _folders(bindings, tree, manifest)
            written = {path: _put(tree, manifest, path, text) for path, text in _files(bindings, folders)}
            for path in sorted(set(manifest.files) - set(written)):
                tree.remove(path)
            _Manifest(fingerprint=fingerprint, files=written).write(tree)

    def prompt(self, tools: Sequence[ToolSpec], directory: Path) -> str:
        """Return what the system prompt says about skills and tools: the same text for the same tools.

        Call it after `render`. Skills that lie in the directory by hand are listed too.
        """
        bindings = bind(tools)
        with Tree(Path(directory)) as tree:
            folders = _folders(bindings, tree, _Manifest.read(tree))
            summaries = {
                folders[source]: skill_summary(source, members)
                for source, members in _by_source(bindings).items()
            }
            for folder in tree.folders():
                if folder not in summaries and (text := _found_description(tree, folder)) is not None:
                    summaries[folder] = text
        return prompt_text(sorted(summaries.items()), bindings)


@attrs.frozen(kw_only=True)
class _Manifest:
    """What the last rendering wrote: path -> (SHA-256, size, mtime in ns)."""

    fingerprint: str = ""
    files: dict[str, tuple[str, int, int]] = attrs.field(factory=dict)

    @classmethod
    def read(cls, tree: Tree) -> _Manifest:
        """Read the manifest as far as it can be trusted: the sandbox's code can write it."""
        try:
            data = json.loads(tree.read(_MANIFEST) or b"{}")
            files = {
                path: (str(entry[0]), int(entry[1]), int(entry[2]))
                for path, entry in data.get("files", {}).items()
                if _OURS.fullmatch(path)
            }
            return cls(fingerprint=str(data.get("fingerprint", "")), files=files)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
            return cls()

    def is_intact(self, tree: Tree) -> bool:
        """Tell whether all files are as they were written, by size and time."""
        return bool(self.files) and all(
            tree.state(path) == (size, mtime) for path, (_, size, mtime) in self.files.items()
        )

    def write(self, tree: Tree) -> None:
        """Write the manifest, if it changes."""
        data = json.dumps(attrs.asdict(self), indent=0, sort_keys=True).encode()
        if tree.read(_MANIFEST) != data:
            tree.write(_MANIFEST, data)


def _put(tree: Tree, manifest: _Manifest, path: str, text: str) -> tuple[str, int, int]:
    """Write a file unless it is there already; return its entry in the manifest."""
    data = text.encode("utf-8")
    digest = hashlib.sha256(data).hexdigest()
    state = tree.state(path)
    known = manifest.files.get(path)
    if state is not None and known == (digest, *state):
        return known
    if state is None or tree.read(path) != data:
        tree.write(path, data, executable=path.startswith("bin/"))
        state = tree.state(path)
    size, mtime = state or (len(data), 0)
    return (digest, size, mtime)


def _fingerprint(tools: Sequence[ToolSpec]) -> str:
    described: list[Any] = [attrs.astuple(t, recurse=False) for t in tools]
    try:
        text = json.dumps([_LAYOUT, _own_files(), described], default=repr)
    except RecursionError:  # a schema nested too deep to compare: render it each time
        text = secrets.token_hex()
    return hashlib.sha256(text.encode()).hexdigest()


def _own_files() -> list[str]:
    folder = Path(__file__).with_name("sandbox")
    return [(folder / name).read_text(encoding="utf-8") for name in ("bridge.py", "command.py")]


def _by_source(bindings: Sequence[Binding]) -> dict[str, list[Binding]]:
    grouped: dict[str, list[Binding]] = {}
    for binding in bindings:
        grouped.setdefault(binding.spec.source, []).append(binding)
    return grouped


def _folders(bindings: Sequence[Binding], tree: Tree, manifest: _Manifest) -> dict[str, str]:
    """Give every source a folder: its name as a slug, with a number where that is taken or not ours."""
    folders: dict[str, str] = {}
    taken = set(_RESERVED_FOLDERS)
    for source in _by_source(bindings):
        base = folder = slug(source)
        number = 1
        while folder in taken or not _may_use(tree, manifest, folder):
            number += 1
            folder = f"{base}-{number}"
        folders[source] = folder
        taken.add(folder)
    return folders


def _may_use(tree: Tree, manifest: _Manifest, folder: str) -> bool:
    """Tell whether a folder is free, or was made by us: listed, or its document says so."""
    if tree.kind(folder) not in ("", "directory"):
        return False
    document = f"{folder}/SKILL.md"
    if document in manifest.files or not tree.kind(document):
        return True
    return GENERATED_MARK.encode() in (tree.read(document, 4096) or b"")


def _files(bindings: Sequence[Binding], folders: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the path and text of every file, folder by folder, a skill's document first."""
    bridge, command = _own_files()
    yield "lib/__init__.py", '"""The tools of this session: see lib.tools."""\n'
    yield "lib/_bridge.py", bridge
    yield "lib/_command.py", command
    yield "lib/tools.py", tools_module(bindings)
    yield "bin/skills", _COMMAND
    for source, members in _by_source(bindings).items():
        folder = folders[source]
        yield f"{folder}/SKILL.md", skill_document(folder, source, members)
        for binding in members:
            yield f"{folder}/scripts/{binding.python_name}_example.py", example_script(binding)


def _found_description(tree: Tree, folder: str) -> str | None:
    """Return the description of a skill that lies there by hand; None if the folder is no skill."""
    data = tree.read(f"{folder}/SKILL.md", 16 * 1024)
    if data is None or folder in _RESERVED_FOLDERS or GENERATED_MARK.encode() in data:
        return None
    from agentd.skills.sandbox.command import field

    return field(data.decode("utf-8", "replace"), "description") or "no description"
