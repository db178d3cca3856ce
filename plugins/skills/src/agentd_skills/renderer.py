"""Writes the skills directory: bindings, client, command, a folder for each source of tools.

    lib/__init__.py  lib/tools.py  lib/_bridge.py  lib/_channel.py  lib/_beside.py  lib/_command.py
    lib/_frontmatter.py  lib/_search.py  lib/_show.py  lib/_standin.py
    lib/.manifest.json  lib/.startup/sitecustomize.py  bin/skills
    lib/.search/SOURCE.jsonl  SOURCE/SKILL.md  SOURCE/scripts/TOOL_example.py

With resources and prompts also `lib/resources.py` and `lib/prompts.py`. Of many tools, the functions are in
`lib/_tools_SOURCE.py`, with `lib/tools.py` and `lib/tools.pyi` as their index, and the examples of a source in
one `scripts/examples.py`: importing and writing stay quick.

What was written is listed in the manifest; only that is ever changed or removed. A folder with a SKILL.md
that is not ours belongs to whoever put it there: it is shown in the prompt and left alone. Skills that lie elsewhere
and were given by their paths are copied beside it (`agentd_skills.given`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Final

import attrs
from agentd.errors import ConfigError
from agentd.protocols import NO_NOTES, Layout
from agentd.types import ToolSpec
from agentd_tools.naming import Binding, bind

from agentd_skills.bindings import index_module, index_stub, part_module, tools_module
from agentd_skills.disclosure import Skill, prompt_text
from agentd_skills.documents import (
    GENERATED_MARK,
    example_script,
    examples_script,
    skill_document,
)
from agentd_skills.given import copy_skills, given_skills
from agentd_skills.index import index_lines
from agentd_skills.layout import layout_of
from agentd_skills.manifest import Entry, Manifest
from agentd_skills.resources import resource_modules, resource_names
from agentd_skills.sandbox.frontmatter import field, is_hidden
from agentd_skills.signatures import ToolView
from agentd_skills.texts import slug
from agentd_skills.tree import SkillTree

__all__ = ["AgentSkillsRenderer"]

_LAYOUT: Final = 4  # raise this when the generated text changes: unchanged tools are rendered again then
_MANY_TOOLS: Final = 50  # importing so many functions takes some 4 ms
_RESERVED_FOLDERS: Final = frozenset({"lib", "bin"})
_COMMAND: Final = """\
#!/bin/sh
# The skills command. Written by agentd; changes are overwritten.
exec "${AGENTD_PYTHON:-python3}" -S "${0%/*}/../lib/_command.py" "$@"
"""


GUIDE = """\
Skills are folders with instructions and scripts. In bash: `skills list` names them, `skills search WORDS` finds \
tools in them, `skills frontmatter SKILL` says what one is for, `skills read SKILL` prints its manual, \
`skills run SKILL SCRIPT [ARGS]` runs one of its scripts, `skills exec` runs Python from standard input with the \
tools importable.
Tools are Python functions: `from lib.tools import NAME`. A tool that fails raises `ToolError`."""


class AgentSkillsRenderer:
    """Renders tools in the AgentSkills layout. Keeps nothing between calls but what is on disk, and the text of the
    bindings: code may have changed the files, and made the manifest agree with them.

    :param prompt_tokens: how long the prompt's part about skills and tools may be, in tokens estimated as
        characters / 4; at least 200. With more tools, the prompt says less about each and how to find them.
    :param skills: folders of skills, and folders of such folders, for the code to read. They are copied: the code
        cannot change them.
    :raises ConfigError: if that is no such number, or no skill is where one should be.
    """

    def __init__(self, *, prompt_tokens: int = 4000, skills: Sequence[str | Path] = ()) -> None:
        if not isinstance(prompt_tokens, int) or isinstance(prompt_tokens, bool) or prompt_tokens < 200:
            raise ConfigError(f"prompt_tokens: must be an integer of at least 200, got {prompt_tokens!r}")
        self._prompt_tokens = prompt_tokens
        self._given = given_skills(skills)
        self._libraries: dict[Path, dict[str, str]] = {}  # by directory

    guide = GUIDE

    def layout(self, directory: Path) -> Layout:
        """Return where the code finds the bindings (`lib.tools`) and the command (`skills`)."""
        return layout_of(directory, self._libraries.get(Path(directory)))

    def render(
        self, tools: Sequence[ToolSpec], directory: Path, *, notes: Mapping[str, str] = NO_NOTES
    ) -> None:
        """Write what has changed below `directory`, each file atomically, and remove what is gone.

        Two processes may render into one directory at once.

        :param tools: all tools of the session in their order (`ToolSet.specs()`).
        :param notes: what a source itself says about its tools, by source; it goes into its SKILL.md.
        :raises UnsafePathError: if the directory is a link, or a file lies where a folder belongs.
        :raises WorkspaceError: if a file cannot be written.
        """
        with SkillTree(Path(directory)) as tree:
            manifest = Manifest.read(tree)
            copy_skills(tree, self._given, _RESERVED_FOLDERS)
            digests = _digests(tools, notes)
            order = [(t.name, t.source) for t in tools]
            fingerprint = _hash([_LAYOUT, _own_files(), digests, order])
            bindings = bind(tools)
            rendering = _Rendering(
                tree=tree,
                manifest=manifest,
                skills=_skills(bindings, tree, manifest),
                notes=notes,
                digests=digests,
                many=len(bindings) > _MANY_TOOLS,
            )
            common = dict(rendering.common())
            self._libraries[Path(directory)] = {
                path: text for path, text in common.items() if path.endswith(".py")
            }
            same = manifest.fingerprint == fingerprint and manifest.is_intact(tree)
            if not (same and all(tree.read(path) == text.encode() for path, text in common.items())):
                rendering.write(fingerprint, common)

    def prompt(self, tools: Sequence[ToolSpec], directory: Path) -> str:
        """Return what the system prompt says about skills and tools: the same text for the same tools.

        Call it after `render`. Skills that lie in the directory by hand are listed too.
        """
        with SkillTree(Path(directory)) as tree:
            skills = _skills(bind(tools), tree, Manifest.read(tree))
            ours = {skill.folder for skill in skills}
            others = {
                folder: text
                for folder in tree.folders(linked=True)
                if folder not in ours and (text := _found_description(tree, folder)) is not None
            }
        return prompt_text(skills, others, self._prompt_tokens)


@attrs.frozen(kw_only=True)
class _Rendering:
    """One rendering under way."""

    tree: SkillTree
    manifest: Manifest
    skills: list[Skill]
    notes: Mapping[str, str]
    digests: Mapping[str, str]
    many: bool

    def write(self, fingerprint: str, common: Mapping[str, str]) -> None:
        """Write everything, remove what is gone, and the manifest last."""
        files: dict[str, Entry] = {}
        known: dict[str, tuple[str, tuple[str, ...]]] = {}
        for path, text in common.items():
            files[path] = self.manifest.put(self.tree, path, text)
        for skill in self.skills:
            names = [t.name for t in skill.tools]
            key = _hash([_LAYOUT, self.digests[skill.source], skill.folder, self.many, names])
            written = self._unchanged(skill, key) or {
                path: self.manifest.put(self.tree, path, text) for path, text in self._own(skill)
            }
            files |= written
            known[skill.folder] = (key, tuple(written))
        for path in sorted(set(self.manifest.files) - set(files)):
            self.tree.remove(path)
        Manifest(fingerprint=fingerprint, files=files, skills=known).write(self.tree)

    def _unchanged(self, skill: Skill, key: str) -> dict[str, Entry] | None:
        """Return a skill's files if they are there already, made from the same tools."""
        known, paths = self.manifest.skills.get(skill.folder, ("", ()))
        if known != key or not self.manifest.is_intact(self.tree, paths):
            return None
        return {path: self.manifest.files[path] for path in paths}

    def common(self) -> Iterator[tuple[str, str]]:
        """Yield the path and text of every file that belongs to no skill."""
        yield "lib/__init__.py", '"""The tools of this session: see lib.tools."""\n'
        yield from _own_files().items()
        bindings = [t.binding for skill in self.skills for t in skill.tools]
        if names := resource_names(bindings):
            for module, text in resource_modules(names).items():
                yield f"lib/{module}.py", text
        if not self.many:
            yield "lib/tools.py", tools_module(bindings)
        else:
            parts = {part_module(s.folder): [t.name for t in s.tools] for s in self.skills}
            yield "lib/tools.py", index_module(parts)
            yield "lib/tools.pyi", index_stub(parts)
        yield "bin/skills", _COMMAND

    def _own(self, skill: Skill) -> Iterator[tuple[str, str]]:
        """Yield the path and text of every file of one skill, folder by folder, its document first."""
        folder, note = skill.folder, self.notes.get(skill.source, "")
        document = skill_document(folder, skill.source, skill.tools, note=note, one_script=self.many)
        yield f"{folder}/SKILL.md", document
        if self.many:
            yield f"{folder}/scripts/examples.py", examples_script(skill.tools)
            yield f"lib/{part_module(folder)}.py", tools_module([t.binding for t in skill.tools])
        else:
            for tool in skill.tools:
                yield f"{folder}/scripts/{tool.name}_example.py", example_script(tool)
        yield f"lib/.search/{folder}.jsonl", index_lines(folder, skill.tools, note)


def _digests(tools: Sequence[ToolSpec], notes: Mapping[str, str]) -> dict[str, str]:
    """Return a hash of all that each source says of itself."""
    described: dict[str, list[object]] = {}
    for tool in tools:
        described.setdefault(tool.source, []).append(attrs.astuple(tool, recurse=False))
    return {source: _hash([notes.get(source, ""), of_one]) for source, of_one in described.items()}


def _hash(value: object) -> str:
    try:
        text = json.dumps(value, default=repr)
    except (RecursionError, TypeError):  # nested too deep to compare, or no JSON: rendered each time
        text = secrets.token_hex()
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _own_files() -> dict[str, str]:
    folder = Path(__file__).with_name("sandbox")
    names = ("bridge", "beside", "command", "frontmatter", "search", "show", "standin")
    paths = {f"lib/_{name}.py": f"{name}.py" for name in names}
    paths["lib/_channel.py"] = "_channel.py"  # by the same name, as the bridge imports it
    paths["lib/.startup/sitecustomize.py"] = "sitecustomize.py"
    return {path: (folder / name).read_text(encoding="utf-8") for path, name in paths.items()}


def _skills(bindings: Sequence[Binding], tree: SkillTree, manifest: Manifest) -> list[Skill]:
    """Group tools by source, and give every source a folder: its name as a slug, with a number where that is
    taken or not ours."""
    grouped: dict[str, list[ToolView]] = {}
    for binding in bindings:
        grouped.setdefault(binding.spec.source, []).append(ToolView(binding))
    skills = []
    taken = set(_RESERVED_FOLDERS)
    for source, tools in grouped.items():
        base = folder = slug(source)
        number = 1
        while folder in taken or not _may_use(tree, manifest, folder):
            number += 1
            folder = f"{base}-{number}"
        skills.append(Skill(folder, source, tools))
        taken.add(folder)
    return skills


def _may_use(tree: SkillTree, manifest: Manifest, folder: str) -> bool:
    """Tell whether a folder is free, or was made by us: listed, or its document says so."""
    if tree.kind(folder) not in ("", "directory"):
        return False
    document = f"{folder}/SKILL.md"
    if document in manifest.files or not tree.kind(document):
        return True
    return GENERATED_MARK.encode() in (tree.read(document, 4096) or b"")


def _found_description(tree: SkillTree, folder: str) -> str | None:
    """Return what a skill is for that we have not written; None if the folder is none, or one for people only."""
    if folder in _RESERVED_FOLDERS or (data := tree.document(folder, 64 * 1024)) is None:
        return None
    if GENERATED_MARK.encode() in data:
        return None
    text = data.decode("utf-8", "replace")
    return None if is_hidden(text) else field(text, "description") or "no description"
