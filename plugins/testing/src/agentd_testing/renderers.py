"""`SkillRendererContract`: what every skill renderer promises, as tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from agentd.protocols import Layout, SkillRenderer
from agentd.types import ToolSpec
from hypothesis import HealthCheck, given, settings

from agentd_testing.strategies import tool_lists

__all__ = ["SkillRendererContract"]

ADD = ToolSpec(
    name="add",
    description="Add two numbers.",
    input_schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
)
ECHO = ToolSpec(name="echo", description="Say it again.", source="other server")

_settings = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))

_Stamp = tuple[int, int]


def _stamps(directory: Path) -> dict[str, _Stamp]:
    """Inode and time of change of each file below a directory."""
    found: dict[str, _Stamp] = {}
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not path.is_symlink():
            status = path.stat()
            found[str(path.relative_to(directory))] = (status.st_ino, status.st_mtime_ns)
    return found


class SkillRendererContract:
    """Subclass it and say how a renderer is made:

    class TestMyRenderer(SkillRendererContract):
        def make_renderer(self):
            return MyRenderer()
    """

    def make_renderer(self) -> SkillRenderer:
        """Return a new renderer."""
        pytest.fail("override make_renderer() in the subclass", pytrace=False)

    def test_tools_become_files_below_the_directory_and_a_prompt(self, tmp_path: Path) -> None:
        renderer = self.make_renderer()
        renderer.render([ADD, ECHO], tmp_path / "skills", notes={"other server": "Use echo first."})
        assert _stamps(tmp_path / "skills"), "nothing was written"
        assert [path.name for path in tmp_path.iterdir()] == ["skills"], (
            "a renderer writes into its directory alone"
        )
        assert renderer.prompt([ADD, ECHO], tmp_path / "skills").strip(), (
            "the model must be told of the tools"
        )

    def test_it_has_a_guide_that_does_not_depend_on_the_tools(self, tmp_path: Path) -> None:
        renderer = self.make_renderer()
        guide = renderer.guide
        assert isinstance(guide, str)
        assert guide.strip(), "`guide` says how code gets at what was rendered"
        renderer.render([ADD, ECHO], tmp_path)
        assert renderer.guide == guide == self.make_renderer().guide

    def test_its_layout_names_folders_that_are_there_and_modules_that_can_be_imported(
        self, tmp_path: Path
    ) -> None:
        renderer = self.make_renderer()
        directory = tmp_path / "skills"
        renderer.render([ADD, ECHO], directory)
        layout = renderer.layout(directory)
        assert isinstance(layout, Layout)
        folders = (*layout.importable, *layout.programs, *layout.read_only)
        missing = [str(path) for path in folders if not path.exists()]
        assert missing == [], "a layout names what `render` has written"
        assert all(path.is_relative_to(directory) for path in folders), "a layout stays in its directory"
        if not layout.preload:
            return
        found = (
            "import importlib.util, sys; sys.path[:0] = {path!r}; "
            "print([name for name in {names!r} if importlib.util.find_spec(name) is None])"
        )
        program = found.format(path=[str(path) for path in layout.importable], names=list(layout.preload))
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert done.stdout == "[]\n", (
            f"modules of `preload` are not found by `importable`: {done.stdout}{done.stderr}"
        )

    def test_rendering_the_same_again_writes_nothing(self, tmp_path: Path) -> None:
        self.make_renderer().render([ADD, ECHO], tmp_path)
        before = _stamps(tmp_path)
        self.make_renderer().render([ADD, ECHO], tmp_path)
        assert _stamps(tmp_path) == before, "files that have not changed must not be written again"

    def test_what_is_gone_is_removed_and_what_belongs_to_others_stays(self, tmp_path: Path) -> None:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.md").write_text("mine")
        renderer = self.make_renderer()
        renderer.render([ADD], tmp_path)
        few = set(_stamps(tmp_path))
        renderer.render([ADD, ECHO], tmp_path)
        renderer.render([ADD], tmp_path)
        assert set(_stamps(tmp_path)) == few, "files of tools that are gone must be removed"
        renderer.render([], tmp_path)
        assert (tmp_path / "mine" / "notes.md").read_text() == "mine", (
            "a renderer removes only what it has written"
        )

    def test_no_half_written_file_is_left(self, tmp_path: Path) -> None:
        self.make_renderer().render([ADD], tmp_path)
        odd = [
            name for name in _stamps(tmp_path) if name.endswith((".tmp", "~")) or "/.agentd-" in f"/{name}"
        ]
        assert odd == []

    def test_a_planted_link_is_never_written_through(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").write_text("old")
        renderer = self.make_renderer()
        renderer.render([ADD], tmp_path / "skills")
        names = sorted(_stamps(tmp_path / "skills"))
        folders = sorted({name.partition("/")[0] for name in names if "/" in name})
        for number, name in enumerate([*names, *folders]):
            directory = tmp_path / f"skills{number}"
            target = outside / "kept" if name in names else outside
            (directory / name).parent.mkdir(parents=True)
            os.symlink(target, directory / name)
            try:
                self.make_renderer().render([ADD], directory)
            except OSError:
                pass  # to refuse is as good as to replace
            assert (outside / "kept").read_text() == "old", (
                f"{name}: a link that code had planted was written through"
            )
            assert [p.name for p in outside.iterdir()] == ["kept"], (
                f"{name}: a linked folder was written into"
            )

    def test_the_prompt_is_the_same_text_for_the_same_tools(self, tmp_path: Path) -> None:
        prompts = set()
        for _ in range(2):
            renderer = self.make_renderer()
            renderer.render([ADD, ECHO], tmp_path)
            prompts |= {renderer.prompt([ADD, ECHO], tmp_path), renderer.prompt([ADD, ECHO], tmp_path)}
        assert len(prompts) == 1, "a prompt that changes defeats the provider's cache"

    def test_any_tools_can_be_rendered(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        @_settings
        @given(tool_lists)
        def holds(tools: Sequence[ToolSpec]) -> None:
            directory = tmp_path_factory.mktemp("any")
            renderer = self.make_renderer()
            renderer.render(tools, directory / "skills")
            assert [path.name for path in directory.iterdir()] == ["skills"], (
                "a name led out of the directory"
            )
            renderer.prompt(tools, directory / "skills").encode()

        holds()
