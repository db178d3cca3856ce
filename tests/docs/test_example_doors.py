"""The example plugins, used through every door that takes their kind.

A session, a patched client, the command line and the daemon's YAML. The model is the example `echo`, which does what
its prompt says."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd.session.session import Session
from agentd.types import BashAction
from agentd_openai import patch_openai_with_ptc

Agentd = Callable[..., "subprocess.CompletedProcess[str]"]

RATES = "rates:EUR=1.0,USD=1.25"
CONVERT = "from lib.tools import convert; print(convert(amount=10, source='USD', target='EUR'))"
NOTATIONS = {
    "fence": "```bash:execute\necho said\n```",
    "xml": '<invoke name="bash:execute">\n<parameter name="code">echo said</parameter>',
    "line": "!run echo said",
}
by_notation = pytest.mark.parametrize("parser", NOTATIONS)


def events_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """The events that `agentd run --json` has printed."""
    assert done.returncode == 0, done.stderr + done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]


def outputs(events: list[dict[str, Any]]) -> list[str]:
    return [event["output"] for event in events if event["type"] == "code_execution"]


@pytest.fixture
def nowhere() -> openai.OpenAI:
    """A client whose server is not there: whoever asks it fails."""
    return openai.OpenAI(base_url="http://127.0.0.1:9", api_key="none", max_retries=0)


# --- a session -----------------------------------------------------------------------------------


@by_notation
@pytest.mark.anyio
async def test_a_model_that_obeys_its_prompt_has_its_blocks_run_in_each_notation(
    parser: str, registry: Registry, tmp_path: Path
) -> None:
    async with Session("echo", parsers=[parser], cwd=tmp_path, registry=registry, tools=[]) as session:
        events = [event async for event in session.run("run echo said")]
        answer = session.transcript.messages[1].content
    assert [event.output for event in events if event.type == "code_execution"] == ["said\n"]
    assert NOTATIONS[parser] in answer, "the model was taught another notation"
    assert events[-1].type == "run_end"
    assert "| said" in events[-1].text


@pytest.mark.anyio
async def test_a_session_is_made_of_examples_alone(registry: Registry, tmp_path: Path) -> None:
    summary = tmp_path / "summary.jsonl"
    async with Session(
        ("echo", {"shout": True}),
        executor=("nice", {"niceness": 7}),
        parsers=["line"],
        renderer=("index", {"title": "Tools here"}),
        sinks=[("summary", {"path": str(summary)})],
        snapshots=("tar", {"compress": True}),
        snapshots_dir=tmp_path / "kept",
        tools=[(RATES, {"digits": 1})],
        cwd=tmp_path / "work",
        registry=registry,
    ) as session:
        program = "from tool_index import TOOLS; from lib.tools import convert; print(TOOLS, convert(1, 'USD', 'EUR'))"
        end = await session.ask(f'run nice; python3 -c "{program}"; cat skills/INDEX.md')
    assert "| 7\n| ['CONVERT', 'CURRENCIES'] 0.8\n| # TOOLS HERE" in end.text
    assert json.loads(summary.read_text())["blocks"] == 1


@pytest.mark.anyio
async def test_a_renderers_guide_is_in_the_prompt_and_its_layout_reaches_the_executor(
    registry: Registry, tmp_path: Path
) -> None:
    model = registry.open_model("echo")
    told: list[str] = []
    model.start = told.append  # type: ignore[method-assign]
    async with Session(model, renderer="index", tools=[RATES], cwd=tmp_path, registry=registry) as session:
        await session.ask("hello")
        result = await session.executor.run(
            BashAction(command="python3 -c 'from tool_index import TOOLS; print(TOOLS)'")
        )
    (prompt,) = told
    assert "`from tool_index import TOOLS` gives the names of all tools" in prompt
    assert "All tools are listed in skills/INDEX.md." in prompt
    assert result.stdout == b"['convert', 'currencies']\n"


@pytest.mark.anyio
async def test_the_tar_store_serves_checkpoint_rewind_and_fork(registry: Registry, tmp_path: Path) -> None:
    async with Session(
        "echo",
        parsers=["line"],
        snapshots="tar",
        snapshots_dir=tmp_path / "kept",
        cwd=tmp_path / "work",
        tools=[],
        registry=registry,
    ) as session:
        await session.ask("run mkdir -p empty; echo one > file; export MARK=before")
        kept = await session.checkpoint("first")
        assert list((tmp_path / "kept").glob("*/*/files.tar")), "another store was used"
        await session.ask("run rmdir empty; echo two > file; export MARK=after")
        forked = await session.fork("first", cwd=tmp_path / "fork")
        assert (await session.rewind("first")).id == kept.id
        assert (tmp_path / "work" / "file").read_text() == "one\n"
        assert (tmp_path / "work" / "empty").is_dir()
        assert "| before" in (await session.ask("run echo $MARK")).text
        async with forked:
            assert "| one\n| before" in (await forked.ask("run cat file; echo $MARK")).text
        assert [one.label for one in session.checkpoints()] == ["first"]


@pytest.mark.anyio
async def test_native_calls_of_the_example_model_reach_the_example_tools(
    registry: Registry, tmp_path: Path
) -> None:
    async with Session("echo", mode="tools", tools=[RATES], cwd=tmp_path, registry=registry) as session:
        end = await session.ask('call convert {"amount": 10, "source": "USD", "target": "EUR"}')
    assert end.text == "I read:\n\n| 8.0\n"


# --- a patched client ----------------------------------------------------------------------------


@by_notation
@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_patched_client_has_the_example_model_and_the_notations(
    parser: str, api: str, stream: bool, registry: Registry, nowhere: openai.OpenAI, tmp_path: Path
) -> None:
    client = patch_openai_with_ptc(nowhere, tmp_path, registry=registry, parsers=[parser], tools=[])
    try:
        if api == "chat":
            messages: Any = [{"role": "user", "content": "run echo said"}]
            made: Any = client.chat.completions.create(model="echo", messages=messages, stream=stream)
        else:
            made = client.responses.create(model="echo", input="run echo said", stream=stream)
        if not stream:
            assert [e["output"] for e in made.agentd["executions"]] == ["said\n"]
            text = made.choices[0].message.content if api == "chat" else made.output_text
        elif api == "chat":
            text = "".join(c.choices[0].delta.content or "" for c in made if c.choices)
            assert NOTATIONS[parser] in text
        else:
            text = list(made)[-1].response.output_text
        assert "| said" in text
    finally:
        client.cleanup_ptc()


def test_an_async_patched_client_is_made_of_examples_alone(registry: Registry, tmp_path: Path) -> None:
    async def ask() -> Any:
        client = openai.AsyncOpenAI(base_url="http://127.0.0.1:9", api_key="none")
        patch_openai_with_ptc(
            client,
            tmp_path / "work",
            executor=("nice", {"niceness": 7}),
            renderer=("index", {"title": "Tools here"}),
            parsers=["line"],
            sinks=[("summary", {"path": str(tmp_path / "summary.jsonl")})],
            tools=[RATES],
            registry=registry,
        )
        try:
            task: Any = [
                {"role": "user", "content": f'run nice; head -1 skills/INDEX.md; python3 -c "{CONVERT}"'}
            ]
            return await client.chat.completions.create(model="echo", messages=task)
        finally:
            client.cleanup_ptc()
            await client.close()

    made = asyncio.run(ask())
    assert made.agentd["executions"][0]["output"] == "7\n# Tools here\n8.0\n"
    assert json.loads((tmp_path / "summary.jsonl").read_text())["blocks"] == 1


# --- the command line ----------------------------------------------------------------------------


@by_notation
def test_the_command_line_takes_the_example_model_and_each_notation(parser: str, agentd: Agentd) -> None:
    events = events_of(agentd("run", "--json", "-m", "echo", "--parser", parser, "run echo said"))
    assert outputs(events) == ["said\n"]
    assert "| said" in events[-1]["text"]


def test_the_command_line_is_made_of_examples_alone(agentd: Agentd, tmp_path: Path) -> None:
    summary = tmp_path / "summary.jsonl"
    task = f'run nice; head -1 skills/INDEX.md; python3 -c "{CONVERT}"; echo kept > file'
    done = agentd(
        *("run", "--json", "--model", "echo", "--executor", "nice", "--parser", "line"),
        *("--renderer", "index", "--sink", "summary", "--snapshots", "tar", "--checkpoints"),
        *("--tool", RATES, "--cwd", "work"),
        *("-o", "niceness=7", "-o", "renderer.index.title=Tools here"),
        *("-o", "tool.rates.digits=0", "-o", "model.shout=true"),
        *("-o", f"sink.summary.path={summary}", "-o", "snapshots.tar.compress=true"),
        task,
    )
    events = events_of(done)
    assert outputs(events) == ["7\n# Tools here\n8.0\n"]
    assert "| # TOOLS HERE" in events[-1]["text"]
    assert json.loads(summary.read_text())["blocks"] == 1
    assert list((tmp_path / "home").rglob("tar-snapshots/*/turn_0001/files.tar")), "another store was used"
    (tmp_path / "work" / "file").write_text("changed")
    done = agentd(
        *("run", "--json", "--model", "echo", "--parser", "line", "--snapshots", "tar"),
        *("--rewind", "last", "--cwd", "work", "run cat file"),
    )
    assert outputs(events_of(done)) == ["kept\n"]


def test_the_example_command_is_a_command_of_agentd(agentd: Agentd) -> None:
    done = agentd("hello", "you", "--loud")
    assert (done.returncode, done.stdout.partition("!")[0]) == (0, "HELLO, YOU"), done.stderr
    shown = agentd("--help").stdout
    assert "Say hello, and how many plugins there are." in shown


def test_an_option_that_an_example_does_not_have_is_told_with_those_it_has(agentd: Agentd) -> None:
    done = agentd("run", "-m", "echo", "-e", "nice", "-o", "nicenes=7", "hello")
    assert done.returncode != 0
    assert (
        "unknown option 'nicenes' of the executor 'nice'; there are: niceness, timeout, limits" in done.stderr
    )


# --- errors, whatever the door -------------------------------------------------------------------

UNKNOWN = [
    (
        "executor",
        lambda r, d: r.create_executor(("nice", {"nicenes": 7}), d),
        "'nicenes' of the executor 'nice'",
    ),
    (
        "parser",
        lambda r, d: r.create_notations([("line", {"x": 1})]),
        "'x' of the parser 'line'; it has none",
    ),
    ("source", lambda r, d: r.create_tool_sources((RATES, {"x": 1})), "'x' of the tool source 'rates'"),
    ("renderer", lambda r, d: r.create_skill_renderer(("index", {"titel": 1})), "did you mean 'title'"),
    ("sink", lambda r, d: r.create_event_sink(("summary", {"pat": "x"})), "did you mean 'path'"),
    (
        "model",
        lambda r, d: r.open_model(("echo", {"shout": "x"})),
        "'shout' of the model 'echo': must be true or",
    ),
    (
        "store",
        lambda r, d: r.create_snapshot_store(("tar", {"compress": 1}), d, None, tuple),
        "'compress' of the snapshot store 'tar': must be true or false, got 1",
    ),
]


@pytest.mark.parametrize(("kind", "make", "told"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
def test_every_example_checks_its_options(
    kind: str, make: Callable[[Registry, Path], object], told: str, registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(registry, tmp_path)
    assert told in str(caught.value)


def test_rates_that_cannot_be_read_are_told_with_the_form(registry: Registry) -> None:
    with pytest.raises(ConfigError, match=r"must be CURRENCY=RATE,CURRENCY=RATE,\.\.\., got 'EUR'"):
        registry.create_tool_sources("rates:EUR")


# --- the daemon's YAML ---------------------------------------------------------------------------

FILES_SERVER = Path(__file__).resolve().parents[1] / "support" / "files_server.py"
AGENT = """\
state_dir: state
agents:
  - name: examples
    model: [echo, {{shout: true}}]
    mode: ptc
    executor: [nice, {{niceness: 7}}]
    parsers: [{parser}]
    renderer: [index, {{title: Tools here}}]
    snapshots: [tar, {{compress: true}}]
    event_sinks: [[summary, {{path: summary.jsonl}}]]
    checkpoints: true
    cwd: work
    mcp_servers:
      - name: files
        type: stdio
        command: {python}
        arguments: [-S, {server}, watched]
    subscriptions:
      - uri: file://{folder}/watched/news
        server: files
        prompt: run (nice; head -1 skills/INDEX.md) > out
"""


@by_notation
def test_yaml_takes_the_example_plugins_and_each_notation(
    parser: str, agentd: Agentd, tmp_path: Path
) -> None:
    (tmp_path / "watched").mkdir()
    (tmp_path / "watched" / "news").write_text("something new")
    (tmp_path / "agents.yaml").write_text(
        AGENT.format(parser=parser, python=sys.executable, server=FILES_SERVER, folder=tmp_path)
    )
    checked = agentd("check", "agents.yaml")
    assert checked.returncode == 0, checked.stderr + checked.stdout
    done = agentd("daemon", "--once", "agents.yaml", timeout=90)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "out").read_text() == "7\n# Tools here\n", done.stderr
    (summary,) = map(json.loads, next(tmp_path.rglob("summary.jsonl")).read_text().splitlines())
    assert (summary["stop_reason"], summary["blocks"], summary["failed"]) == ("answer", 1, 0)
    assert list(tmp_path.rglob("turn_0001/files.tar")), "another store was used"


def test_yaml_names_an_option_that_an_example_does_not_have(agentd: Agentd, tmp_path: Path) -> None:
    text = "agents:\n  - name: a\n    model: echo\n    mode: ptc\n    executor: [nice, {nicenes: 7}]\n"
    (tmp_path / "agents.yaml").write_text(text)
    done = agentd("check", "agents.yaml")
    assert done.returncode != 0
    assert "unknown option 'nicenes' of the executor 'nice'" in done.stderr + done.stdout
