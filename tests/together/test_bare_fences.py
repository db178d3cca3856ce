"""An answer without a block that ends in a fence without an action: asked about once, run, or final; the same
in a session, on the command line and in the daemon. (That of a patched client stands with its tests.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd_daemon.config.loading import load
from agentd_demo.replay import ReplayServer
from agentd_parser_fence.bare import NUDGE, nudge
from living import living
from script_model import ScriptModel

BARE = "I look.\n```bash\necho ran > made; echo one\n```\n"
REAL = BARE.replace("```bash", "```bash:execute")
TOLD = NUDGE.format(language="bash")
RAN = "[result 1 of 1: bash:execute, completed, exit code 0]\none\n[end of result 1]"


def parsers(choice: str | None) -> Any:
    return None if choice is None else [("fence", {"bare_fences": choice})]


@pytest.mark.anyio
@pytest.mark.parametrize("piece", [1, 3, 10_000])
@pytest.mark.parametrize("choice", [None, "nudge"])
async def test_the_model_is_asked_what_it_meant_and_may_run_it(
    choice: str | None, piece: int, tmp_path: Path
) -> None:
    model = ScriptModel(BARE, REAL, "Done.", piece=piece)
    async with Session(model, cwd=tmp_path, tools=[], parsers=parsers(choice)) as session:
        end = await session.ask("go")
    assert model.results == [TOLD, RAN]
    assert (end.stop_reason, end.text, end.turns) == ("answer", "Done.", 3)
    assert (tmp_path / "made").exists()


@pytest.mark.anyio
async def test_a_second_such_answer_is_final_and_the_next_task_begins_anew(tmp_path: Path) -> None:
    model = ScriptModel(BARE, BARE, BARE, "It prints one.")
    async with Session(model, cwd=tmp_path, tools=[]) as session:
        end = await session.ask("show me")
        assert (end.stop_reason, end.text, model.requests) == ("answer", BARE, 2)
        assert (await session.ask("show me again")).text == "It prints one."
    assert model.results == [TOLD, TOLD]
    assert not (tmp_path / "made").exists()


@pytest.mark.anyio
@pytest.mark.parametrize("piece", [1, 3, 10_000])
async def test_with_run_it_is_a_block(piece: int, tmp_path: Path) -> None:
    model = ScriptModel(BARE, "Done.", piece=piece)
    async with Session(model, cwd=tmp_path, tools=[], parsers=parsers("run")) as session:
        events = [event async for event in session.run("go")]
    kinds = [event.type for event in events if event.type not in ("run_start", "text_delta")]
    assert kinds == ["code_start", "code_output", "code_execution", "turn_end", "turn_end", "run_end"]
    assert "".join(event.text for event in events if event.type == "text_delta") == "I look.\nDone."
    assert model.said == [BARE, "Done."]
    assert model.results == [RAN]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "answer",
    [
        f"First\n{BARE}\nand then\n{BARE}",  # to run the last one alone would leave out what it stands on
        f"```python\nx = 1\n```\n\n{BARE}",
    ],
)
async def test_with_run_an_answer_of_several_such_fences_is_asked_about(answer: str, tmp_path: Path) -> None:
    model = ScriptModel(answer, "Done.")
    async with Session(model, cwd=tmp_path, tools=[], parsers=parsers("run")) as session:
        assert (await session.ask("go")).text == "Done."
    assert model.results == [TOLD]
    assert not (tmp_path / "made").exists()


@pytest.mark.anyio
async def test_with_run_one_that_was_cut_off_is_not_run(tmp_path: Path) -> None:
    model = ScriptModel("```bash\necho ran > made", "Done.")
    async with Session(model, cwd=tmp_path, tools=[], parsers=parsers("run")) as session:
        await session.ask("go")
    assert [execution.status for execution in session.transcript.executions] == ["rejected"]
    assert not (tmp_path / "made").exists()


@pytest.mark.anyio
async def test_with_answer_it_is_an_answer_like_any_other(tmp_path: Path) -> None:
    model = ScriptModel(BARE)
    async with Session(model, cwd=tmp_path, tools=[], parsers=parsers("answer")) as session:
        end = await session.ask("go")
    assert (end.text, model.results) == (BARE, [])


@pytest.mark.anyio
@pytest.mark.parametrize("choice", ["nudge", "run"])
@pytest.mark.parametrize(
    "answer",
    [
        "No fence, `bash` in a span.",
        f"{BARE}That prints one.",
        '```json\n{"a": 1}\n```\n',
        "```console\n$ ls\n```",
        "```bash title=x\nls\n```",
        "```\nls\n```",
        "````markdown\n```bash\nls\n```\n````",
        "> ```bash\n> ls\n> ```",
        "    ```bash\n    ls\n    ```",
    ],
)
async def test_an_answer_that_only_shows_something_is_final(answer: str, choice: str, tmp_path: Path) -> None:
    model = ScriptModel(answer)
    async with Session(model, cwd=tmp_path, tools=[], parsers=parsers(choice)) as session:
        end = await session.ask("go")
    assert (end.text, model.results) == (answer, [])


@pytest.mark.parametrize(
    ("ending", "language"),
    [
        ("```bash\nls\n```", "bash"),
        ("```sh\nls\n```\n\n \n", "bash"),
        ("~~~~ Python \nprint()\n~~~~", "python"),
        ("1. so:\n   ```py\n   print()\n   ```\n", "python"),
        ("```python3\r\nprint()\r\n```\r\n", "python"),
        ("```bash\nls", "bash"),
    ],
)
def test_the_nudge_names_the_info_string(ending: str, language: str) -> None:
    assert f"`{language}:execute`" in nudge(f"I look.\n\n{ending}")


def test_an_unknown_choice_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match=r"bare_fences.*'nudge' or 'run' or 'answer', got 'always'"):
        Registry().create_notations([("fence", {"bare_fences": "always"})])


def test_a_synchronous_session_does_the_same(tmp_path: Path) -> None:
    with SyncSession(ScriptModel(BARE, "Done."), cwd=tmp_path, tools=[], parsers=parsers("run")) as session:
        assert session.ask("go").text == "Done."
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("options", "requests", "made"),
    [(["--bare-fences", "run"], 2, True), (["--bare-fences", "answer"], 1, False)],
)
def test_the_command_does_the_same(options: list[str], requests: int, made: bool, agentd: Any) -> None:
    server = agentd.replay(BARE, "Done.")
    result = agentd("run", "-e", "subprocess", *options, "go")
    assert result.returncode == 0, result.stderr
    assert len(server.requests) == requests
    assert (agentd.cwd / "made").exists() == made


def test_the_command_refuses_the_option_where_no_blocks_are_written(agentd: Any) -> None:
    result = agentd("run", "--mode", "tools", "--bare-fences", "run", "go")
    assert result.returncode == 2
    assert "fence" in result.stderr


@pytest.mark.anyio
@pytest.mark.parametrize(("choice", "made"), [("nudge", False), ("run", True), ("answer", False)])
async def test_an_agent_of_the_daemon_does_the_same(choice: str, made: bool, tmp_path: Path) -> None:
    with ReplayServer([BARE, "Done."]) as model:
        (tmp_path / "agents.yaml").write_text(
            f"agents: [{{name: news, model: m, base_url: '{model.base_url}', mode: ptc, executor: subprocess,\n"
            f"  cwd: '{tmp_path}/work', parsers: [[fence, {{bare_fences: {choice}}}]]}}]"
        )
        async with living(tmp_path / "state", *load(tmp_path / "agents.yaml").agents) as daemon:
            await daemon.daemon.submit("news", "go")
            await daemon.settled(1)
    assert [request.last for request in model.requests] == [
        "go",
        *{"nudge": [TOLD], "run": [RAN]}.get(choice, []),
    ]
    assert (tmp_path / "work" / "made").exists() == made
