"""Models from code in every way in which agentd is used: patched clients, `agentd run`, the daemon, sync sessions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import attrs
import pytest
from agentd import SyncSession, models_from_code
from agentd.registry import Registry
from agentd.types import Budgets
from agentd_daemon.config.loading import examine
from agentd_history import History
from agentd_openai import patch_openai_with_mcp, patch_openai_with_ptc
from agentd_subagents.from_code import ModelsFromCode
from agentd_subagents.source import ModelsSource
from fake_openai import Answer
from host_processes import command_lines
from living import agent, living
from nested_play import PRICES, Play, block
from ways import WAYS, call

CODE = """
from lib.tools import ask_models, spawn_agent
print([one["answer"] for one in ask_models(["a", "b"])])
print(spawn_agent("x")["answer"])
"""


class ResponsesPlay(Play):
    """The same for both of OpenAI's APIs."""

    def _decide(self, request: dict[str, Any]) -> Answer:
        if "messages" not in request:
            given = request["input"]
            items = [{"role": "user", "content": given}] if isinstance(given, str) else list(given)
            messages = [{"role": "system", "content": request.get("instructions") or ""}]
            messages += [{"role": i["role"], "content": _text(i["content"])} for i in items if i.get("role")]
            request = {**request, "messages": messages}
        return super()._decide(request)


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def agent_plays(task: str, results: int) -> str:
    return "made it" if results else block("print(1)")


@pytest.mark.parametrize("way", WAYS)
def test_the_code_of_a_patched_client_asks_over_that_client(way: str, tmp_path: Path) -> None:
    with ResponsesPlay(CODE, agent=agent_plays) as server:
        client = (server.async_client if way.startswith("async") else server.client)()
        patch_openai_with_ptc(
            client,
            cwd=tmp_path,
            executor="subprocess",
            prices=PRICES,
            budgets=Budgets(max_cost_usd=100),
            tools=[models_from_code(model="cheap")],
        )
        outcome = call(way, client)
        client.cleanup_ptc()
        told = str(server.requests[-1])
        assert "['about a', 'about b']" in told
        assert "made it" in told
        assert [request["model"] for request in server.requests] == ["m", *["cheap"] * 4, "m"]
        assert len(set(server.paths)) == 1, "the other API was asked"
    if outcome.whole is not None:
        assert outcome.whole.agentd["cost_usd"] == pytest.approx(6 * 0.2, abs=0.01)


@pytest.mark.parametrize(
    "settings", [{"history": History()}, {"images": True}, {"history": History(), "images": True}]
)
def test_they_are_asked_over_that_client_also_with_a_history_and_pictures(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    with ResponsesPlay(CODE, agent=agent_plays) as server:
        client = server.client()
        patch_openai_with_ptc(
            client, cwd=tmp_path, executor="subprocess", tools=[models_from_code(model="cheap")], **settings
        )
        call(WAYS[0], client)
        client.cleanup_ptc()
        assert [request["model"] for request in server.requests] == ["m", *["cheap"] * 4, "m"]


def test_the_json_loop_of_a_patched_client_has_them_as_tools(tmp_path: Path) -> None:
    with Play("") as server:
        calls = iter([Answer(calls=[("c1", "ask_model", '{"prompt": "x"}')]), Answer(text="done")])
        play = server._decide
        server.decide = lambda request: next(calls) if request.get("tools") else play(request)
        client = patch_openai_with_mcp(server.client(), tools=[models_from_code(model="cheap")])
        answer = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "go"}])
        assert answer.choices[0].message.content == "done"
        assert server.requests[-1]["messages"][-1]["content"] == "about x"
        client.close()


def test_a_session_without_an_event_loop_has_them(tmp_path: Path) -> None:
    with Play(CODE, agent=agent_plays) as server:
        given: dict[str, Any] = {"base_url": server.base_url, "api_key": "none", "executor": "subprocess"}
        with SyncSession("m", cwd=tmp_path, tools=[models_from_code()], **given) as session:
            assert session.ask("go").text == "done"
        assert session.transcript.executions[0].output == "['about a', 'about b']\nmade it\n"


def test_the_command_line_has_them_with_options(agentd: Any) -> None:
    with Play(CODE, agent=agent_plays) as server:
        result = agentd(
            *("run", "go", "--model", "m", "--base-url", server.base_url, "-e", "subprocess"),
            *("--tool", "models:cheap", "-o", "tool.models.depth=1", "-o", 'tool.models.models=["strong"]'),
        )
        assert result.returncode == 0, result.stderr
        assert "['about a', 'about b']" in (result.stdout + result.stderr)
        assert [request["model"] for request in server.requests] == ["m", *["cheap"] * 4, "m"]


def test_the_command_line_says_what_is_wrong_with_them(agentd: Any) -> None:
    result = agentd(
        *("run", "go", "--model", "m", "--base-url", "http://127.0.0.1:9/v1", "-e", "subprocess"),
        *("--tool", "models:cheap", "-o", "tool.models.dept=1"),
    )
    assert result.returncode != 0
    assert "unknown option 'dept' of the tool source 'models'" in (result.stdout + result.stderr)
    assert "did you mean 'depth'?" in (result.stdout + result.stderr)


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ["ptc", "tools"])
async def test_an_agent_of_the_daemon_has_them(mode: Any, tmp_path: Path) -> None:
    with Play(CODE, agent=agent_plays) as server:
        if mode == "tools":
            calls = iter([Answer(calls=[("c1", "ask_model", '{"prompt": "x"}')]), Answer(text="done")])
            play = server._decide
            server.decide = lambda request: next(calls) if request.get("tools") else play(request)
        keys = {"tools": (("models:cheap", {"width": 2}),), "cwd": str(tmp_path / "work")}
        config = attrs.evolve(agent(server, mode=mode, **keys), model="m")
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "go")
            (done,) = await daemon.settled(1)
        assert (done.state, done.error) == ("done", "")
        assert [r["model"] for r in server.requests].count("cheap") == (4 if mode == "ptc" else 1)


def test_what_is_wrong_with_the_daemon_s_tools_is_said_by_the_check(agentd: Any) -> None:
    file = agentd.cwd / "agents.yaml"
    file.write_text(
        "agents:\n"
        '- {name: a, model: m, api_key: k, tools: [models:cheap, ["models:", {depth: 0}]]}\n'
        '- {name: b, model: m, api_key: k, tools: [cheap, modls:x, ["models:", {dept: 0}]]}\n'
    )
    assert examine([file]).problems == ()
    result = agentd("check", str(file))
    lines = [line for line in (result.stdout + result.stderr).splitlines() if "agents[1].tools" in line]
    assert "tools[0]: must begin with the name of a tool source and a colon" in lines[0]
    assert "tools[1]: unknown tool source 'modls'" in lines[1]
    assert "tools[2]: unknown option 'dept'" in lines[2]
    assert "agents[0].tools" not in (result.stdout + result.stderr)


def test_the_plugin_takes_its_text_and_its_settings_and_leaves_the_rest(tmp_path: Path) -> None:
    registry = Registry()
    (first,) = registry.create_tool_sources("models:cheap")
    (second,) = registry.create_tool_sources(models_from_code(model="cheap"))
    assert isinstance(first, ModelsSource)
    assert isinstance(second, ModelsSource)
    assert first._settings == second._settings
    assert models_from_code() == ModelsFromCode()


def test_ctrl_c_while_five_hundred_are_asked_leaves_no_process(agentd: Any, tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()

    def question(prompt: str) -> str:
        begun.set()
        gate.wait()
        return "late"

    code = "from lib.tools import ask_models\nask_models([str(i) for i in range(500)])"
    with Play(code, question=question) as server:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "agentd", "run", "go", "--model", "m", "--base-url", server.base_url),
                *("-e", "subprocess", "--tool", "models:cheap", "--cwd", str(tmp_path / "work")),
            ],
            env={**os.environ, "OPENAI_API_KEY": "none"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            assert begun.wait(60)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
            gate.set()
    assert process.returncode == 130, output
    asked = len(server.asked("cheap"))
    assert asked <= 32
    assert command_lines(str(tmp_path)) == []
