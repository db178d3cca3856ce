"""The example plugins of the documentation: each is installed, loaded and used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.errors import ConfigError, ToolError
from agentd.events import CodeExecution, RunEnd
from agentd.hookspecs import GROUPS
from agentd.registry import Registry
from agentd.types import BashAction, Block, ToolSpec, Usage


def test_there_is_an_example_for_every_hook(plugin_modules: dict[str, tuple[str, str, str]]) -> None:
    assert {group for group, *_ in plugin_modules.values()} == set(GROUPS.values())


def test_every_example_plugin_passes_the_check_of_the_command_line(installed_plugins: Path) -> None:
    start = f"import sys; sys.path.insert(0, {str(installed_plugins)!r})"
    program = f"{start}; from agentd.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "plugins", "--check", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    mine = [r for r in json.loads(done.stdout) if r["distribution"] == "agentd-examples"]
    assert {r["state"] for r in mine} == {"loaded"}, done.stdout
    assert len(mine) == len(GROUPS)
    assert done.returncode == 0


# --- the parser ----------------------------------------------------------------------------------


def test_the_line_parser_finds_the_command(registry: Registry) -> None:
    (notation,) = registry.create_notations(["line"])
    parser = notation.parser()
    segments = [*parser.feed("Look:\n!r"), *parser.feed("un ls -l\nThat's !run all"), *parser.close()]
    assert "".join(segment.text for segment in segments) == "Look:\n!run ls -l\nThat's !run all"
    assert [(s.text, s.block) for s in segments if s.block is not None] == [
        ("!run ls -l\n", Block("bash", "execute", "ls -l", "bash"))
    ]


# --- the executor --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_nice_executor_runs_blocks_with_a_low_priority(registry: Registry, tmp_path: Path) -> None:
    executor = registry.create_executor("nice", tmp_path, niceness=7)
    try:
        result = await executor.run(BashAction(command="nice"))
    finally:
        await executor.aclose()
    assert result.stdout == b"7\n"


def test_the_nice_executor_names_its_options(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'nicenes'.*there are: niceness, timeout, limits"):
        registry.create_executor("nice", tmp_path, nicenes=7)


# --- the tool source -----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_the_rates_become_two_tools_that_work(registry: Registry) -> None:
    (source,) = registry.create_tool_sources({"rates": {"EUR": 1.0, "USD": 1.25}})
    assert [spec.name for spec in await source.list_tools()] == ["currencies", "convert"]
    assert await source.call("currencies", {}) == ["EUR", "USD"]
    assert await source.call("convert", {"amount": 10, "source": "USD", "target": "EUR"}) == 8.0
    with pytest.raises(ToolError, match="unknown currency 'GBP'; there are: EUR, USD"):
        await source.call("convert", {"amount": 10, "source": "GBP", "target": "EUR"})


def test_the_rates_plugin_leaves_what_is_not_its_own_to_others(registry: Registry) -> None:
    with pytest.raises(ConfigError, match="no tool source plugin takes"):
        registry.create_tool_sources({"weather": {}})


# --- the renderer --------------------------------------------------------------------------------


def test_the_index_renderer_adds_an_index_and_writes_it_only_when_something_changed(
    registry: Registry, tmp_path: Path
) -> None:
    renderer = registry.create_skill_renderer("index")
    echo = ToolSpec(
        name="echo", description="Give back.\nMore.", input_schema={"type": "object", "properties": {}}
    )
    renderer.render([echo], tmp_path)
    index = tmp_path / "INDEX.md"
    assert index.read_text() == "# All tools\n\n- local: echo: Give back.\n"
    assert (tmp_path / "tool_index.py").read_text() == "TOOLS = ['echo']\n"
    assert tmp_path in renderer.layout(tmp_path).importable
    assert (tmp_path / "lib" / "tools.py").is_file()
    written = index.stat().st_ino
    renderer.render([echo], tmp_path)
    assert index.stat().st_ino == written
    assert renderer.prompt([echo], tmp_path).endswith("/INDEX.md.")


# --- the sink ------------------------------------------------------------------------------------


def test_the_summary_sink_writes_a_line_for_each_run(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "summary.jsonl"
    sink = registry.create_event_sink("summary", path=str(path))
    sink.emit(CodeExecution(code="ls", output="", status="completed"))
    sink.emit(CodeExecution(code="false", output="", status="failed", exit_code=1))
    sink.emit(RunEnd(turns=3, usage=Usage(input_tokens=10, output_tokens=5)))
    sink.emit(RunEnd(stop_reason="max_turns", turns=20))
    sink.close()
    first, second = map(json.loads, path.read_text().splitlines())
    assert first == {"stop_reason": "answer", "turns": 3, "blocks": 2, "failed": 1, "tokens": 15}
    assert second["blocks"] == 0
    assert second["stop_reason"] == "max_turns"
