"""The configurations of the documentation handle what there is, once: real servers, models that follow a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd_demo.replay import ReplayServer
from fake_openai import Answer, FakeOpenAI
from places import ROOT
from real_servers import npm_server
from sandbox import CLI, need_srt
from walk import Terminal, free_port, person_path

pytestmark = pytest.mark.slow

CONFIG = ROOT / "docs" / "examples" / "config"
NPM = "@modelcontextprotocol/"
PAGE = "<h1>News</h1> <p>The harbour opens on Monday.</p>"
ORDERS = "order,amount\n1,10\n2,12\n2,12\n3,9000\n"
CHECK = """\
I look for orders that are there twice.

```python:execute
from lib.tools import read_text_file
rows = read_text_file(path="orders.csv")["content"].split()
twice = sorted({row for row in rows if rows.count(row) > 1})
open("report.md", "w").write(f"twice: {twice}")
print(twice)
```
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The environment of a person who has the servers of the examples."""
    servers = {f"{NPM}{name}": npm_server(name) for name in ("server-filesystem", "server-memory")}
    return {
        "PATH": person_path(tmp_path / "bin", servers),
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "STATE": str(tmp_path),
        "OPENAI_API_KEY": "none",
    }


def once(config: Path, env: dict[str, str], base_url: str) -> str:
    """Run the daemon once in the folder of the configuration; return its log."""
    done = subprocess.run(
        ["agentd", "daemon", "--once", config.name],
        env={**env, "OPENAI_BASE_URL": base_url},
        cwd=config.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        executable=Path(sys.executable).with_name("agentd"),
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return done.stderr


def example(name: str, folder: Path) -> Path:
    """Copy an example into a new folder, where it is run."""
    folder.mkdir()
    path = folder / f"{name}.yaml"
    path.write_text((CONFIG / f"{name}.yaml").read_text())
    return path


def test_the_news_example_tells_its_agent_the_page_and_the_agent_writes(
    tmp_path: Path, env: dict[str, str]
) -> None:
    config, port = example("news", tmp_path / "here"), free_port()
    (tmp_path / "here" / "news").mkdir()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "news").write_text(PAGE)
    text = config.read_text()
    assert "https://example.com/news" in text
    config.write_text(text.replace("https://example.com/news", f"http://127.0.0.1:{port}/news"))
    write = json.dumps({"path": "news.md", "content": "Monday: harbour"})
    serve = ["python3", "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", "site"]
    site = Terminal(serve, env=env, cwd=tmp_path)
    try:
        site.see("Serving HTTP")
        with FakeOpenAI(Answer(calls=[("call_1", "write_file", write)]), "Written.") as model:
            log = once(config, env, model.base_url)
    finally:
        site.close()
    assert log.endswith(" done\n")
    assert (tmp_path / "here" / "news" / "news.md").read_text() == "Monday: harbour"
    assert "The harbour opens on Monday." in model.requests[0]["messages"][-1]["content"]
    tools = {tool["function"]["name"] for tool in model.requests[0]["tools"]}
    assert {"fetch", "write_file"} <= tools
    assert "move_file" not in tools  # its tool_filter


def test_the_team_example_wakes_who_subscribes_and_nobody_else(tmp_path: Path, env: dict[str, str]) -> None:
    config = example("team", tmp_path / "here")
    with FakeOpenAI("Noted.", repeat=True) as model:
        log = once(config, env, model.base_url)
    assert sorted(line.split()[3] for line in log.splitlines()) == ["clock:", "librarian:"]
    told = {
        request["messages"][0]["content"]: request["messages"][-1]["content"] for request in model.requests
    }
    (graph,) = (text for prompt, text in told.items() if prompt.startswith("You keep the memory in order."))
    (hour,) = (text for prompt, text in told.items() if prompt.startswith("Once an hour"))
    assert '"entities": []' in graph
    assert "Europe/Berlin" in hour


@pytest.mark.timeout(180)
def test_the_coder_example_checks_a_file_in_the_sandbox_and_keeps_a_checkpoint(
    tmp_path: Path, env: dict[str, str]
) -> None:
    need_srt()
    config = example("coder", tmp_path / "here")
    (tmp_path / "here" / "inbox").mkdir()
    (tmp_path / "here" / "inbox" / "orders.csv").write_text(ORDERS)
    env |= {"PATH": f"{env['PATH']}:{os.environ['PATH']}", "AGENTD_SRT": str(CLI)}
    with ReplayServer([CHECK, "One order is there twice."]) as model:
        log = once(config, env, model.base_url)
    assert log.endswith(" done\n")
    assert (tmp_path / "here" / "analysis" / "report.md").read_text() == "twice: ['2,12']"
    assert "['2,12']" in model.requests[1].last
    assert list((tmp_path / "state").glob("agentd/daemon/coder-*/snapshots/*"))


def test_the_triggers_example_is_told_of_the_files_that_are_there_and_of_nothing_else(
    tmp_path: Path, env: dict[str, str]
) -> None:
    config = example("triggers", tmp_path / "here")
    env["DEPLOY_SECRET"] = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    (tmp_path / "here" / "inbox").mkdir()
    for name in ("orders.csv", "draft-orders.csv", "orders.txt"):
        (tmp_path / "here" / "inbox" / name).touch()
    with FakeOpenAI("Noted.") as model:
        log = once(config, env, model.base_url)
        assert log.endswith(" done\n")
        once(config, env, model.base_url)  # nothing is new
    (request,) = model.requests
    told = request["messages"][-1]["content"]
    assert "Say which files are new." in told
    assert [line for line in told.splitlines() if line.startswith("created: ")] == ['created: "orders.csv"']
