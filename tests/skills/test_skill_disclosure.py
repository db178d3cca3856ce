"""The prompt says as much as fits into its tokens, and how to find the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from corpus import CORPUS, many
from hypothesis import HealthCheck, given, settings, strategies as st


def prompt(tools: list[ToolSpec], directory: Path, tokens: int = 4000) -> str:
    return AgentSkillsRenderer(prompt_tokens=tokens).prompt(tools, directory)


def test_few_tools_are_shown_with_their_signatures(tmp_path: Path) -> None:
    lines = prompt(CORPUS[:6], tmp_path).split("\n")
    assert lines[:4] == [
        "Tools by skill (in Python: `from lib.tools import NAME`; a failing one raises ToolError; "
        "`skills read SKILL` tells more):",
        "filesystem:",
        "- read_text_file(path: str, tail: float = ..., head: float = ...) -> {content: str}: Read a file as text.",
        "- edit_file(path: str, edits: list[{oldText: str, newText: str}], dryRun: bool = False) -> {content: str}: "
        "Replace exact lines.",
    ]
    assert lines[6:8] == [
        "git:",
        "- git_log(repo_path: str, max_count: int = 10, start_timestamp: str | None = None): Shows the commit logs",
    ]


def test_more_tools_are_named_with_a_few_words(tmp_path: Path) -> None:
    text = prompt(CORPUS, tmp_path, 800)
    assert "- read_text_file: Read a file as text.\n" in text
    assert "(path: str" not in text
    assert "`skills search WORDS` finds tools and shows how to call them" in text


def test_a_thousand_tools_are_counted_by_skill(tmp_path: Path) -> None:
    text = prompt(many(40, 25), tmp_path)
    assert text.startswith("There are 1000 tools in 40 skills. `skills search WORDS` finds tools")
    assert "\n- server-7 (25 tools): create_thing_0_of_7, list_thing_1_of_7, " in text
    assert len(text) < 8000


def test_very_many_skills_are_only_counted(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "SKILL.md").write_text("---\nname: mine\ndescription: x\n---\n")
    text = prompt(many(400, 1), tmp_path, 1000)
    assert text.startswith(
        "There are 400 tools in 400 skills and 1 more skills with instructions: too many to list."
    )
    assert "`skills search WORDS`" in text


def test_skills_without_tools_are_listed_or_counted_as_well(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / f"s{n}").mkdir()
        (tmp_path / f"s{n}" / "SKILL.md").write_text(f"---\nname: s{n}\ndescription: {'word ' * 30}\n---\n")
    assert prompt([], tmp_path).startswith("Skills to read (with `skills read NAME`):\n- s0: word word")
    assert prompt([], tmp_path, 200).startswith("There are 30 skills with instructions: too many to list.")
    assert prompt([], tmp_path / "empty") == ""


@given(st.integers(0, 30), st.integers(1, 12), st.integers(200, 3000))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_prompt_keeps_to_its_tokens_and_more_tokens_never_say_less(
    tmp_path_factory: pytest.TempPathFactory, servers: int, each: int, tokens: int
) -> None:
    directory = tmp_path_factory.mktemp("p")
    tools = [*CORPUS[: servers % 7], *many(servers, each)]
    text = prompt(tools, directory, tokens)
    assert len(text) <= tokens * 4
    assert prompt(tools, directory, tokens) == text
    levels = ["(owner: str", ": Create thing 0", " tools in "]
    level = next((n for n, mark in enumerate(levels) if mark in text), 3)
    more = prompt(tools, directory, tokens + 1000)
    assert next((n for n, mark in enumerate(levels) if mark in more), 3) <= level


def test_the_prompt_is_a_fraction_of_the_json_schemas(tmp_path: Path) -> None:
    """The JSON loop sends the schemas in every round; the prompt of 30 tools is less than a third of them."""
    tools = many(1, 30)
    for tool in tools:
        tool.input_schema["properties"] |= {  # type: ignore[operator]
            f"option_{n}": {
                "type": "string",
                "description": "What to do with the things that are found there.",
            }
            for n in range(2)
        }
    schemas = [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": t.input_schema},
        }
        for t in tools
    ]
    text = prompt(tools, tmp_path)
    assert "- create_thing_0_of_0(owner: str, thing_0_id: str, page: int = ..., option_0: str = " in text
    assert len(text.encode()) < len(json.dumps(schemas)) / 3
