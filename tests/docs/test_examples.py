"""The example programs of the documentation run, unchanged, against a replayed model."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import httpx
import pytest
from agentd.errors import ConfigError
from agentd.session.sync import SyncSession
from agentd_demo.replay import ReplayServer
from fake_openai import Answer, FakeOpenAI
from native import need_native
from places import ROOT

pytestmark = pytest.mark.slow

EXAMPLES = ROOT / "docs" / "examples"

SQUARE_ROOT = [
    "I look around first.\n\n```bash:execute\nls\n```\n",
    "Now the root.\n\n```python:execute\nfrom lib.tools import square_root\nprint(square_root(number=144))\n```\n",
    "The square root of 144 is 12.",
]

# The first example that users of agentd 0.8 know, as it was printed.
KNOWN_BY_USERS = '''
from agentd import patch_openai_with_ptc, display_events, tool
from openai import OpenAI

@tool
def calculate(expression: str) -> str:
    """Evaluate a math expression."""
    import math
    return str(eval(expression, {"__builtins__": {}}, {"sqrt": math.sqrt}))

client = patch_openai_with_ptc(OpenAI(), cwd="./workspace")

stream = client.responses.create(
    model="claude-sonnet-4-20250514",
    input=[{"role": "user", "content": "List files, then calculate sqrt(144)"}],
    stream=True
)

for event in display_events(stream):
    if event.type == "text_delta":
        print(event.text, end="", flush=True)
    elif event.type == "code_execution":
        print(f"\\n$ {event.code}\\n{event.output}\\n")
'''


def _run(program: Path, cwd: Path, turns: list[str]) -> tuple[str, ReplayServer]:
    """Run a program as a user does, with only the model's address set; return what it printed."""
    with ReplayServer(turns) as server:
        return _run_against(server.base_url, program, cwd), server


def _run_against(base_url: str, program: Path, cwd: Path) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OPENAI_", "AGENTD_"))}
    env |= {"OPENAI_BASE_URL": base_url, "OPENAI_API_KEY": "none", "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(
        [sys.executable, str(program)], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Most examples choose no executor, and are told once what they have.
    assert ["is no sandbox" in line for line in done.stderr.splitlines()] in ([], [True]), done.stderr
    return done.stdout


def test_the_drop_in_example_runs_blocks_and_shows_what_they_gave(tmp_path: Path) -> None:
    printed, server = _run(EXAMPLES / "drop_in.py", tmp_path, SQUARE_ROOT)
    assert "I look around first." in printed
    assert "\nskills\n" in printed  # what `ls` gave
    assert "12.0" in printed
    assert printed.endswith("The square root of 144 is 12.")
    assert "12.0" in server.requests[2].last  # the model has read it


def test_functions_of_all_kinds_are_imported_by_the_code(tmp_path: Path) -> None:
    code = (
        "from lib.tools import in_stock, price\n"
        "print(price(order={'item': 'tea', 'amount': 2}, currency='USD'), in_stock(items=['tea', 'pie']))\n"
    )
    failing = "from lib.tools import price\nprice(order={'item': 'pie'})"
    turns = [f"```python:execute\n{code}```\n", f"```python:execute\n{failing}\n```\n", "7.56 dollars."]
    printed, server = _run(EXAMPLES / "ptc_with_tools.py", tmp_path, turns)
    assert "7.56 {'tea': True, 'pie': False}" in printed
    assert "[price(" in printed
    assert "we have no pie; there are: tea, coffee, cake" in server.requests[2].last
    assert printed.endswith("7.56 dollars.")


def test_the_tools_of_an_mcp_server_are_imported_by_the_code(tmp_path: Path) -> None:
    call = "convert_time(source_timezone='Europe/Berlin', time='16:30', target_timezone='Asia/Tokyo')"
    turns = [f"```python:execute\nfrom lib.tools import convert_time\nprint({call})\n```\n", "Late in Tokyo."]
    printed, server = _run(EXAMPLES / "ptc_with_mcp.py", tmp_path, turns)
    assert "Asia/Tokyo" in server.requests[1].last
    assert "+7.0h" in printed or "+8.0h" in printed
    assert printed.endswith("Late in Tokyo.")


def test_the_model_calls_functions_natively(tmp_path: Path) -> None:
    calls = [("call_1", "in_stock", '{"item": "tea"}'), ("call_2", "in_stock", '{"item": "milk"}')]
    with FakeOpenAI(Answer(calls=calls), "Tea, but no milk.") as server:
        printed = _run_against(server.base_url, EXAMPLES / "json_tools.py", tmp_path)
    assert '[in_stock {"item": "tea"} -> 12]' in printed
    assert "we have no milk; there are: tea, coffee, cake" in printed
    assert printed.endswith("Tea, but no milk.")
    assert "we have no milk" in server.bodies[1].decode()


def test_the_first_example_that_users_of_0_8_know_runs_as_it_was_printed(tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(KNOWN_BY_USERS)
    code = "from lib.tools import calculate\nprint(calculate(expression='sqrt(144)'))"
    turns = ["First:\n```bash:execute\nls\n```\n", f"Now:\n```python:execute\n{code}\n```\n", "It is 12."]
    printed, _ = _run(program, tmp_path, turns)
    assert "\n$ " in printed
    assert "12.0" in printed
    assert printed.endswith("It is 12.")


@pytest.mark.parametrize("runner", ["asyncio.run(main())", "trio.run(main)"])
def test_the_session_example_runs_on_asyncio_and_on_trio(runner: str, tmp_path: Path) -> None:
    source = (EXAMPLES / "core_session.py").read_text()
    program = tmp_path / "example.py"
    library = runner.partition(".")[0]
    program.write_text(
        source.replace("import asyncio\n", f"import {library}\n").replace("asyncio.run(main())", runner)
    )
    printed, server = _run(program, tmp_path, SQUARE_ROOT)
    assert "[bash: exit code 0]" in printed
    assert "12.0\n[python: exit code 0]" in printed
    assert "answer after 3 turns" in printed
    assert re.search(r"\n[1-9]\d* tokens, 2 blocks\n$", printed)
    assert len(server.requests) == 3


def test_the_sync_session_example_continues_its_conversation_and_saves_the_transcript(tmp_path: Path) -> None:
    turns = [
        "```numbers.txt:create\n1\n2\n3\n```\n```bash:execute\nwc -l numbers.txt\n```\n",
        "Written.",
        "It has 3 lines.",
    ]
    printed, server = _run(EXAMPLES / "sync_session.py", tmp_path, turns)
    assert printed == "numbers.txt: completed\nbash: completed\nIt has 3 lines.\n"
    assert (tmp_path / "workspace" / "numbers.txt").read_text() == "1\n2\n3\n"
    assert "3 numbers.txt" in server.requests[1].last
    assert ("assistant", "Written.") in server.requests[2].messages
    assert '"Written."' in (tmp_path / "transcript.json").read_text()


def test_an_executor_alone_runs_code_without_a_model(tmp_path: Path) -> None:
    lines = _run_against("http://127.0.0.1:9", EXAMPLES / "executor_alone.py", tmp_path).splitlines()
    assert lines == [
        f"0 {tmp_path}/workspace/data",
        "0 6",
        "failed 1 ModuleNotFoundError: No module named 'nothing_of_the_kind'",
        "timeout 124",
    ]


def test_the_readme_shows_the_example_as_it_is() -> None:
    source = (EXAMPLES / "drop_in.py").read_text()
    body = source.split('"""\n\n', 1)[1]
    assert body in (ROOT / "README.md").read_text()


def test_requests_of_a_web_service_open_ask_and_close_sessions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi", reason="fastapi is not installed: pip install fastapi")
    from starlette.testclient import TestClient

    monkeypatch.chdir(tmp_path)
    with FakeOpenAI("```bash:execute\necho 42\n```\n", "It is 42.", "Again.") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        names = runpy.run_path(str(EXAMPLES / "fastapi_sessions.py"))
        with TestClient(names["app"]) as web:
            first, second = (web.post("/conversations").json() for _ in range(2))
            assert web.post(f"/conversations/{first}", params={"task": "go"}).json() == "It is 42."
            assert web.post(f"/conversations/{second}", params={"task": "go"}).json() == "Again."
            web.delete(f"/conversations/{first}")
            assert list(names["sessions"]) == [second]
        [left] = names["sessions"].values()
        with pytest.raises(ConfigError, match="not open"):
            left.run("go")


def test_the_cells_of_a_notebook_are_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "sessions.md").read_text()
    cells = re.findall("```python\n(.*?)```", page.partition("In a notebook (Jupyter)")[2], re.DOTALL)[:3]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    async def notebook() -> None:
        for cell in cells:
            code = compile(cell, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            task = FunctionType(code, names)()
            if task is not None:
                await asyncio.create_task(task)

    with FakeOpenAI("```bash:execute\necho a.txt\n```\n", "One file.") as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        asyncio.run(notebook())
    assert capsys.readouterr().out == "a.txt\nOne file."
    with pytest.raises(ConfigError, match="not open"):
        names["session"].run("go")


def test_an_answer_is_parsed_as_the_recipe_shows(tmp_path: Path) -> None:
    turns = ["```bash:execute\nls\n```\n", "Two files.", '{"files": 2, "lines": 30}']
    printed, _ = _run(EXAMPLES / "typed_answer.py", tmp_path, turns)
    assert printed == "2 30\n"


def test_a_person_is_asked_before_anything_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    look = "from lib.tools import cancel_order, list_orders\n"
    code = (
        "for number, state in list_orders().items():\n    if state == 'open':\n"
        "        print(cancel_order(number=int(number)))\n"
    )
    turns = [
        f"```python:execute\n{look}{code}```\n",
        "```report.txt:create\ntwo\n```\n",
        "The report may not be written.",
    ]
    answers = iter(["s", "n"])
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or next(answers))
    monkeypatch.chdir(tmp_path)
    with FakeOpenAI(*turns) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        names = runpy.run_path(str(EXAMPLES / "approvals.py"))
        names["main"]()
    printed = capsys.readouterr().out
    assert asked == ["allow? [y/s/N] "] * 2
    assert "tool cancel_order\nnumber: 1\n" in printed
    assert "create report.txt\n(a new file, 4 bytes)\ntwo\n" in printed
    assert names["ORDERS"] == {1: "cancelled", 2: "cancelled", 3: "sent"}
    assert not (tmp_path / "shop" / "report.txt").exists()
    assert "was not written" in str(server.requests[-1]["messages"][-1])
    assert "The report may not be written." in printed
    assert "cancel_order: allowed for the session by an answer" in printed


@pytest.fixture
def web_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the page of server-sent events on loopback."""
    uvicorn = pytest.importorskip("uvicorn", reason="pip install uvicorn")
    need_native()
    monkeypatch.chdir(tmp_path)
    config = uvicorn.Config(
        runpy.run_path(str(EXAMPLES / "starlette_events.py"))["app"], log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def test_a_web_page_gets_the_events_of_an_answer_while_it_is_made(
    web_page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = Answer(text="It says 42.", wait_after=4)
    with FakeOpenAI("```bash:execute\necho 42\n```\n", waiting) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        assert "<form>" in httpx.get(web_page).text
        with httpx.stream("POST", f"{web_page}/answer", content="go", timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = []
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line.removeprefix("data: ")))
                if events and events[-1]["type"] == "text_delta":
                    waiting.gate.set()  # what came is here, and the rest is not written yet
    assert [e["output"] for e in events if e["type"] == "code_execution"] == ["42\n"]
    assert "".join(e["text"] for e in events if e["type"] == "text_delta") == "It says 42."
    assert (events[-1]["type"], events[-1]["stop_reason"]) == ("run_end", "answer")


def test_a_visitor_who_leaves_ends_the_answer(web_page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOpenAI(Answer(forever=True)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        with httpx.stream("POST", f"{web_page}/answer", content="go", timeout=60) as answer:
            assert any(line == "event: text_delta" for line in answer.iter_lines())
        assert server.hung_up.wait(60)


def test_a_picture_goes_into_a_task_and_another_one_comes_out_of_code(tmp_path: Path) -> None:
    from pictures import made

    (tmp_path / "photo.png").write_bytes(made())
    code = "```python:execute\nimport agentd\nfrom PIL import Image\n"
    code += 'agentd.show(Image.new("RGB", (30, 20)), "turned")\n```\n'
    with FakeOpenAI(code, "It is.") as server:
        assert _run_against(server.base_url, EXAMPLES / "pictures.py", tmp_path) == "turned 30 20\nIt is."
    assert [str(request).count("data:image/png") for request in server.requests] == [1, 2]


def test_code_asks_a_cheap_model_and_starts_an_agent_as_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "models-from-code.md").read_text()
    code = re.findall(r"```python\n(import json\n.*?)```", page, re.S)[0]
    more = 'print(spawn_agent("Write it.", schema={"type": "integer"}, budgets={"max_turns": 3})["answer"])\n'

    def decide(request: dict[str, Any]) -> Answer:
        if request["model"] == "gpt-4.1-nano":
            is_agent = any("one task" in str(m["content"]) for m in request["messages"][:1])
            return Answer(text="7" if is_agent else '{"complaint": true}')
        told = request["messages"][-1]["content"]
        return Answer(text="Done." if "[result 1" in told else f"```python:execute\n{code}{more}```\n")

    monkeypatch.chdir(tmp_path)
    (tmp_path / "workspace").mkdir()
    (tmp_path / "workspace" / "snippets.json").write_text(json.dumps(["late", "fine"] * 250))
    with FakeOpenAI() as server:
        server.decide = decide
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        session = runpy.run_path(str(EXAMPLES / "models_from_code.py"))["session"]
    assert session.transcript.executions[0].output == "[]\n7\n"
    assert capsys.readouterr().out.startswith("Done.\n503 requests, $0.0")


def test_users_have_folders_and_conversations_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_native()
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(EXAMPLES / "many_users.py"))
    with FakeOpenAI(
        "```bash:execute\necho ada > name.txt\n```\n",
        "Written.",
        "```bash:execute\nls; ls ../.. ..; cat ../transcript.json\n```\n",
        "None.",
        "Ada.",
    ) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        assert asyncio.run(names["answer"]("ada", "Write your name.")) == "Written."
        assert asyncio.run(names["answer"]("../ada", "Which files?")) == "None."
        assert asyncio.run(names["answer"]("ada", "Who am I?")) == "Ada."
    assert [path.name for path in tmp_path.iterdir()] == ["users"]
    homes = sorted((tmp_path / "users").iterdir())
    assert [len(home.name) for home in homes] == [64, 64]
    seen = server.requests[3]["messages"][-1]["content"]
    assert "name.txt" not in seen
    assert "Write your name" not in seen
    assert "Write your name." in str(server.requests[4]["messages"])


def test_spans_of_runs_blocks_and_calls_lie_in_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = pytest.importorskip("opentelemetry.trace", reason="pip install opentelemetry-api")

    class Span(trace.NonRecordingSpan):  # type: ignore[misc, name-defined]
        def __init__(self, name: str, parent: Span | None) -> None:
            super().__init__(trace.SpanContext(trace_id=1, span_id=len(made) + 1, is_remote=False))
            self.name, self.parent, self.known, self.ended = name, parent, {}, 0
            made.append(self)

        def set_attributes(self, attributes: dict[str, Any]) -> None:
            self.known.update(attributes)

        def end(self, end_time: int | None = None) -> None:
            self.ended += 1

    class Tracer:
        def start_span(self, name: str, context: Any = None, **more: Any) -> Span:
            around = trace.get_current_span(context)
            span = Span(name, around if isinstance(around, Span) else None)
            span.known.update(more["attributes"])
            return span

    def double(n: int) -> int:
        """Double it."""
        within.append(trace.get_current_span())
        return 2 * n

    made: list[Span] = []
    within: list[Any] = []
    monkeypatch.chdir(tmp_path)
    names = runpy.run_path(str(EXAMPLES / "tracing.py"))
    code = "```python:execute\nfrom lib.tools import double\nprint(double(n=2))\n```\n"
    with FakeOpenAI(code, "Four.") as server, trace.use_span(request := Span("request", None)):
        session = SyncSession(
            "m",
            base_url=server.base_url,
            api_key="none",
            executor="subprocess",
            tools=[double],
            sinks=[names["Spans"](Tracer())],
        )
        with session:
            assert str(session.ask("go")) == "Four."
    shown = [(s.name, s.parent and s.parent.name, s.ended) for s in made]
    assert shown == [
        ("request", None, 0),
        ("agent run", "request", 1),
        ("python:execute", "agent run", 1),
        ("double", "python:execute", 1),
    ]
    assert within == [request]
    assert made[1].known["stop_reason"] == "answer"
    assert made[2].known["exit_code"] == 0
