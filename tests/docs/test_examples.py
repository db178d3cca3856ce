"""The example programs of the documentation run, unchanged, against a replayed model."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd_demo.replay import ReplayServer
from fake_openai import Answer, FakeOpenAI
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
