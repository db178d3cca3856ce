"""The skills directory: what is written, when, and what is never touched."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from agentd.errors import ConfigError, UnsafePathError, WorkspaceError
from agentd.protocols import SkillRenderer
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from agentd_skills.plugin import AGENTD_API, agentd_create_skill_renderer
from agentd_testing import strategies as schemas
from hypothesis import HealthCheck, given, settings, strategies as st

ADD = ToolSpec(
    name="add",
    description="Add two numbers.",
    input_schema={"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
)
ECHO = ToolSpec(name="echo", source="Every Thing!")


def files(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes()
        for p in sorted(directory.rglob("*"))
        if p.is_file() and not p.is_symlink()
    }


def stamps(directory: Path) -> dict[str, tuple[int, int]]:
    return {name: ((s := (directory / name).stat()).st_ino, s.st_mtime_ns) for name in files(directory)}


@pytest.fixture
def skills(tmp_path: Path) -> Path:
    directory = tmp_path / "skills"
    AgentSkillsRenderer().render([ADD, ECHO], directory)
    return directory


def test_the_plugin_makes_the_renderer_and_refuses_options() -> None:
    assert AGENTD_API == 1
    renderer: SkillRenderer = agentd_create_skill_renderer({})
    assert isinstance(renderer, AgentSkillsRenderer)
    with pytest.raises(ConfigError, match=r"unknown option 'colour' .*there are: prompt_tokens"):
        agentd_create_skill_renderer({"colour": 1})
    for wrong in (199, True, "4000", 4000.0):
        with pytest.raises(ConfigError, match="at least 200"):
            agentd_create_skill_renderer({"prompt_tokens": wrong})


def test_the_layout_is_the_one_of_the_specification(skills: Path) -> None:
    assert list(files(skills)) == [
        "bin/skills", "every-thing/SKILL.md", "every-thing/scripts/echo_example.py", "lib/.manifest.json",
        "lib/.search/every-thing.jsonl", "lib/.search/local.jsonl",
        "lib/.startup/sitecustomize.py", "lib/__init__.py", "lib/_beside.py",
        "lib/_bridge.py", "lib/_channel.py",
        "lib/_command.py", "lib/_frontmatter.py", "lib/_search.py", "lib/_show.py",
        "lib/_standin.py", "lib/tools.py", "local/SKILL.md",
        "local/scripts/add_example.py",
    ]  # fmt: skip
    assert os.access(skills / "bin" / "skills", os.X_OK)
    assert not os.access(skills / "lib" / "tools.py", os.X_OK)


def test_rendering_the_same_again_writes_nothing(skills: Path) -> None:
    before = stamps(skills)
    AgentSkillsRenderer().render([ADD, ECHO], skills)
    assert stamps(skills) == before


def test_only_what_changed_is_written_and_what_is_gone_is_removed(skills: Path) -> None:
    before = stamps(skills)
    AgentSkillsRenderer().render([ADD], skills)
    after = stamps(skills)
    assert not (skills / "every-thing").exists()
    assert {n for n in after if before.get(n) != after[n]} == {"lib/tools.py", "lib/.manifest.json"}


def test_a_damaged_or_missing_file_is_put_right(skills: Path) -> None:
    before = files(skills)
    (skills / "lib" / "tools.py").write_text("broken")
    (skills / "local" / "SKILL.md").unlink()
    (skills / "lib" / ".manifest.json").write_text('{"files": 7}')
    AgentSkillsRenderer().render([ADD, ECHO], skills)
    assert {k: v for k, v in files(skills).items() if "manifest" not in k} == {
        k: v for k, v in before.items() if "manifest" not in k
    }


def test_a_replaced_module_gets_a_later_second_so_that_stale_bytecode_is_not_used(tmp_path: Path) -> None:
    renderer = AgentSkillsRenderer()
    program = "import lib.tools; print(lib.tools.__all__[-1])"
    shown = []
    for name in ("aaa", "bbb", "ccc"):  # same size, same second
        renderer.render([ToolSpec(name=name)], tmp_path)
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        shown.append(done.stdout.strip())
    assert shown == ["aaa", "bbb", "ccc"]
    assert (tmp_path / "lib" / "__pycache__").is_dir(), "bytecode was cached, so the test means something"


# --- what belongs to others ----------------------------------------------------------------------


def test_a_skill_put_there_by_hand_is_listed_and_never_overwritten_or_removed(tmp_path: Path) -> None:
    mine = tmp_path / "local"
    mine.mkdir()
    (mine / "SKILL.md").write_text("---\nname: local\ndescription: 'It''s mine: really'\n---\nHello\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "SKILL.md").write_text("no frontmatter")
    before = files(tmp_path)
    renderer = AgentSkillsRenderer()
    renderer.render([ADD, ECHO], tmp_path)
    assert (tmp_path / "local-2" / "SKILL.md").exists()
    prompt = renderer.prompt([ADD, ECHO], tmp_path)
    assert "- local: It's mine: really\n" in prompt
    assert "\nlocal-2: " in prompt
    assert "- other: no description\n" in prompt
    renderer.render([], tmp_path)
    assert {k: v for k, v in files(tmp_path).items() if not k.startswith(("lib/", "bin/"))} == before


def test_own_files_beside_ours_stay(skills: Path) -> None:
    (skills / "every-thing" / "notes.txt").write_text("mine")
    (skills / "lib" / "helper.py").write_text("mine = 1")
    AgentSkillsRenderer().render([ADD], skills)
    assert (skills / "every-thing" / "notes.txt").exists()
    assert not (skills / "every-thing" / "SKILL.md").exists()
    assert (skills / "lib" / "helper.py").exists()


def test_a_forged_manifest_removes_nothing_outside_and_nothing_of_other_shape(
    skills: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "SKILL.md").write_text("precious")
    (skills / "notes").mkdir()
    (skills / "notes" / "diary.md").write_text("mine")
    (skills / "link").symlink_to(outside)
    manifest = skills / "lib" / ".manifest.json"
    data = json.loads(manifest.read_text())
    for path in (
        "../outside/SKILL.md",
        "link/SKILL.md",
        str(outside / "SKILL.md"),
        "notes/diary.md",
        "a/../b",
    ):
        data["files"][path] = ["0", 0, 0]
    manifest.write_text(json.dumps(data))
    AgentSkillsRenderer().render([ADD], skills)
    assert (outside / "SKILL.md").read_text() == "precious"
    assert (skills / "notes" / "diary.md").exists()


@pytest.mark.parametrize("place", ["lib", "bin", "local/scripts"])
def test_a_planted_link_is_replaced_and_never_followed(tmp_path: Path, place: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    directory = tmp_path / "skills"
    (directory / place).parent.mkdir(parents=True, exist_ok=True)
    (directory / place).symlink_to(outside)
    AgentSkillsRenderer().render([ADD], directory)
    assert list(outside.iterdir()) == []
    assert (directory / "lib" / "tools.py").is_file()
    assert not (directory / place).is_symlink()


def test_a_planted_file_link_and_a_fifo_are_replaced(tmp_path: Path) -> None:
    outside = tmp_path / "authorized_keys"
    outside.write_text("precious")
    lib = tmp_path / "skills" / "lib"
    lib.mkdir(parents=True)
    (lib / "tools.py").symlink_to(outside)
    os.mkfifo(lib / "_bridge.py")
    os.mkfifo(lib / ".manifest.json")
    AgentSkillsRenderer().render([ADD], tmp_path / "skills")
    assert outside.read_text() == "precious"
    assert "def add" in (lib / "tools.py").read_text()
    assert (lib / "_bridge.py").is_file()


def test_a_skills_directory_that_is_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(UnsafePathError, match="is a link or no directory"):
        AgentSkillsRenderer().render([ADD], tmp_path / "link")
    assert list((tmp_path / "real").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError):
        AgentSkillsRenderer().render([ADD], tmp_path / "file")


def test_a_file_or_directory_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "lib").write_text("a file")
    with pytest.raises(UnsafePathError, match=r"'lib' in the skills directory .* is no directory"):
        AgentSkillsRenderer().render([ADD], tmp_path)
    (tmp_path / "lib").unlink()
    (tmp_path / "lib" / "tools.py").mkdir(parents=True)
    with pytest.raises(WorkspaceError, match=r"tools\.py cannot be written"):
        AgentSkillsRenderer().render([ADD], tmp_path)


def _render_many(directory: str, rounds: int) -> None:
    for _ in range(rounds):
        AgentSkillsRenderer().render([ADD, ECHO], Path(directory))
        AgentSkillsRenderer().render([ECHO, ADD], Path(directory))


def test_two_processes_may_render_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_render_many, args=(str(tmp_path), 15)) for _ in range(2)]
    for worker in workers:
        worker.start()
    _render_many(str(tmp_path), 15)
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    AgentSkillsRenderer().render([ADD, ECHO], tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "every-thing", "lib", "local"]
    assert not [n for n in files(tmp_path) if ".agentd-" in n]
    compile((tmp_path / "lib" / "tools.py").read_bytes(), "tools.py", "exec")


def test_a_reader_never_sees_half_a_module(tmp_path: Path) -> None:
    renderer = AgentSkillsRenderer()
    renderer.render([ADD], tmp_path)
    stop, broken = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            text = (tmp_path / "lib" / "tools.py").read_text()
            if not text.startswith("# mypy") or not text.rstrip().endswith(")"):
                broken.append(text)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(20):
        renderer.render([ADD, ECHO], tmp_path)
        renderer.render([ADD], tmp_path)
    stop.set()
    reader.join()
    assert not broken


def test_a_schema_nested_without_end_is_cut_and_harms_nothing(tmp_path: Path) -> None:
    schema: dict[str, object] = {}
    for _ in range(3000):
        schema = {"type": "object", "properties": {"a": schema}}
    deep = ToolSpec(
        name="deep", input_schema={"$ref": "#/$defs/x", "$defs": {"x": schema}}, output_schema=schema
    )
    renderer = AgentSkillsRenderer()
    for _ in range(2):
        renderer.render([deep, ADD], tmp_path)
    compile((tmp_path / "lib" / "tools.py").read_bytes(), "tools.py", "exec")
    assert "- add(a: int)" in renderer.prompt([deep, ADD], tmp_path)


# --- the prompt ----------------------------------------------------------------------------------


def test_the_prompt_is_the_same_text_for_the_same_tools(skills: Path, tmp_path: Path) -> None:
    first = AgentSkillsRenderer().prompt([ADD, ECHO], skills)
    AgentSkillsRenderer().render([ADD, ECHO], tmp_path / "elsewhere")
    assert AgentSkillsRenderer().prompt([ADD, ECHO], tmp_path / "elsewhere") == first
    assert "- add(a: int): Add two numbers." in first
    assert "\nevery-thing: Every Thing!\n- echo(**arguments: Any)" in first


@pytest.mark.slow
@given(schemas.tool_lists)
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_description_breaks_out_of_its_line(
    tmp_path_factory: pytest.TempPathFactory, tools: list[ToolSpec]
) -> None:
    prompt = AgentSkillsRenderer().prompt(tools, tmp_path_factory.mktemp("p"))
    lines = prompt.split("\n")
    sources = len({t.source for t in tools})
    assert len(lines) == len(prompt.splitlines()) == 1 + sources + len(tools)
    assert "```" not in prompt
    assert all(len(line) < 900 for line in lines)
    prompt.encode("utf-8")


# --- skills-ref ----------------------------------------------------------------------------------

skills_ref = pytest.importorskip("skills_ref", reason="pip install skills-ref")


@pytest.mark.slow
@given(schemas.tool_lists)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_generated_folder_is_valid_for_skills_ref(
    tmp_path_factory: pytest.TempPathFactory, tools: list[ToolSpec]
) -> None:
    directory = tmp_path_factory.mktemp("skills")
    AgentSkillsRenderer().render(tools, directory)
    folders = [p for p in directory.iterdir() if p.name not in ("lib", "bin")]
    assert len(folders) == len({t.source for t in tools})
    for folder in folders:
        assert skills_ref.validate(folder) == []
        for script in (folder / "scripts").iterdir():
            compile(script.read_bytes(), str(script), "exec")


@given(st.lists(schemas.names, min_size=1, max_size=4, unique=True))
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_source_has_a_folder_of_its_own(
    tmp_path_factory: pytest.TempPathFactory, sources: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("skills")
    AgentSkillsRenderer().render([ToolSpec(name="t", source=s) for s in sources], directory)
    assert len(list(directory.iterdir())) == len(sources) + 2


def test_the_agentskills_command_agrees(skills: Path) -> None:
    command = Path(sys.executable).with_name("agentskills")
    if not command.exists():
        pytest.skip("the agentskills command is missing: pip install skills-ref")
    for folder in ("local", "every-thing"):
        done = subprocess.run(
            [command, "validate", skills / folder], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
