"""`from lib import resources, prompts`: thin modules over the tools of the source `resources`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from corpus import CORPUS, many

SERVER = {"server": {"type": "string"}}
RESOURCES = [
    ToolSpec(
        source="resources", name=name, description="...", input_schema={"type": "object", "properties": p}
    )
    for name, p in {
        "list_resources": SERVER,
        "list_resource_templates": SERVER,
        "read_resource": {"uri": {"type": "string"}, **SERVER},
        "list_prompts": SERVER,
        "get_prompt": {"name": {"type": "string"}, "arguments": {"type": "object"}, **SERVER},
    }.items()
]
CODE = """
import json, lib._bridge
calls = []
lib._bridge.call = lambda name, arguments: calls.append([name, arguments])
from lib import prompts, resources
resources.list(); resources.list("a"); resources.templates()
resources.read("x://y"); resources.read("x://y", server="a")
prompts.list(); prompts.get("p"); prompts.get("p", {"k": "v"}, "a")
print(json.dumps([calls, resources.__all__, prompts.__all__, resources.list.__doc__]))
"""


def run(skills: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-S", "-W", "error", "-c", CODE],
        env={"PYTHONPATH": str(skills)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("others", [[], many(1, 120)], ids=["few tools", "many tools"])
def test_the_modules_call_the_five_tools(tmp_path: Path, others: list[ToolSpec]) -> None:
    AgentSkillsRenderer().render([*others, *RESOURCES], tmp_path)
    calls, in_resources, in_prompts, text = run(tmp_path)
    assert calls == [
        ["list_resources", {}],
        ["list_resources", {"server": "a"}],
        ["list_resource_templates", {}],
        ["read_resource", {"uri": "x://y"}],
        ["read_resource", {"uri": "x://y", "server": "a"}],
        ["list_prompts", {}],
        ["get_prompt", {"name": "p"}],
        ["get_prompt", {"name": "p", "arguments": {"k": "v"}, "server": "a"}],
    ]
    assert in_resources == ["list", "read", "templates"]
    assert in_prompts == ["get", "list"]
    assert text.startswith("Return the resources")


def test_they_call_the_names_that_the_tools_are_bound_to(tmp_path: Path) -> None:
    AgentSkillsRenderer().render([ToolSpec(name="read_resource", source="a"), *RESOURCES], tmp_path)
    assert run(tmp_path)[0][3][0] == "resources_read_resource"


def test_without_all_five_tools_there_are_no_such_modules(tmp_path: Path) -> None:
    AgentSkillsRenderer().render([*CORPUS, *RESOURCES], tmp_path)
    assert (tmp_path / "lib" / "resources.py").exists()
    AgentSkillsRenderer().render([*CORPUS, *RESOURCES[1:]], tmp_path)
    assert not (tmp_path / "lib" / "resources.py").exists()
    assert not (tmp_path / "lib" / "prompts.py").exists()


@pytest.mark.parametrize("tokens", [4000, 350])
def test_the_prompt_shows_the_modules_in_one_line_instead_of_the_tools(tmp_path: Path, tokens: int) -> None:
    tools = [*(CORPUS[:16]), *RESOURCES]
    lines = AgentSkillsRenderer(prompt_tokens=tokens).prompt(tools, tmp_path).split("\n")
    assert lines[-2:] == [
        "resources:",
        "- `from lib import resources, prompts`: resources.list(server=None), resources.templates(server=None), "
        "resources.read(uri, server=None); prompts.list(server=None), prompts.get(name, arguments=None, server=None)",
    ]


def test_the_document_explains_the_modules_and_is_valid(tmp_path: Path) -> None:
    AgentSkillsRenderer().render(RESOURCES, tmp_path)
    text = (tmp_path / "resources" / "SKILL.md").read_text()
    assert "from lib import prompts, resources\n" in text
    skills_ref = pytest.importorskip("skills_ref", reason="pip install skills-ref")
    assert skills_ref.validate(tmp_path / "resources") == []
