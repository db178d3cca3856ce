"""The tutorial on the daemon, walked through: its commands and YAML, real servers, a model that follows a script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from agentd_daemon.commands.daemon import daemon
from agentd_daemon.commands.status import status
from agentd_daemon.config.loading import examine
from agentd_daemon.journal import Journal
from agentd_daemon.telling import task_of
from fake_openai import Answer, FakeOpenAI
from places import ROOT
from real_servers import npm_server
from walk import Block, Terminal, blocks_of, free_port, person_path

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "daemon.md"
TUTORIAL = ROOT / "docs" / "tutorial-daemon.md"
FILESYSTEM = "@modelcontextprotocol/server-filesystem"


def writing_model(request: dict[str, Any]) -> Answer:
    """Put what the page says on top of what it has written before; then say so."""
    messages = request["messages"]
    if messages[-1]["role"] == "tool":
        return Answer(text="I have written it down.")
    (news,) = re.findall(r"<content>.*\n# News\n\n([^\n]+)\n</content>", messages[-1]["content"], re.S)
    before = [json.loads(c["function"]["arguments"]) for m in messages for c in m.get("tool_calls") or ()]
    content = f"- {news}\n" + (before[-1]["content"] if before else "")
    return Answer(calls=[("call_1", "write_file", json.dumps({"path": "news.md", "content": content}))])


def working_in(folder: Path) -> list[str]:
    """The command lines of the processes whose directory this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == str(folder):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


class Person:
    """Does what the blocks say, and compares what is seen with what the page shows."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.env = folder, env
        self.server: Terminal | None = None
        self.daemon: Terminal | None = None
        self.printed = ""

    def run(self, command: str) -> str:
        done = subprocess.run(
            ["bash", "-ec", command],
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), command
        return done.stdout

    def terminal(self, command: str) -> Terminal:
        return Terminal(["bash", "-ec", command], env=self.env, cwd=self.folder)

    def do(self, block: Block) -> None:
        match block.title:
            case "install":
                for wanted in block.text.split()[2:]:
                    assert version(wanted.strip('"').partition(">=")[0])
            case "key":
                assert "OPENAI_API_KEY" in self.env
            case "news.yaml":
                (self.folder / "news.yaml").write_text(block.text)
            case "first terminal":
                self.server = self.terminal(block.text)
                self.server.see("Serving HTTP on 127.0.0.1")
            case "first terminal shows":
                assert self.server is not None
                self.server.see(*rows(block.text))
            case "second terminal" if block.text == "agentd news.yaml\n":
                self.stop()
                self.daemon = self.terminal(block.text)
                self.daemon.see("1 agent; ", "news>")
                self.printed = self.daemon.text()
            case "second terminal" | "third terminal":
                self.printed = self.run(block.text)
            case "seen":
                assert rows(self.printed)[-len(rows(block.text)) :] == rows(block.text)
            case "status":
                deadline = time.monotonic() + 60
                while "unknown" in self.printed and time.monotonic() < deadline:  # as the page says
                    self.printed = self.run("agentd status news.yaml")
                found = re.sub(
                    r"pid \d+", "pid 4711", self.printed
                )  # a pipe has no columns, and `-` for what is empty
                assert [re.sub("(  -)+$", "", row).split() for row in rows(found)] == [
                    row.split() for row in rows(block.text)
                ]
            case "screen":
                assert self.daemon is not None
                self.daemon.see(*rows(block.text))
            case title:
                raise AssertionError(f"nobody knows what to do with a block {title!r}")

    def stop(self) -> None:
        """Leave the daemon by Ctrl-D: nothing that it started is left."""
        if self.daemon is not None:
            self.daemon.type("\x04")
            assert self.daemon.end() == 0
            self.daemon.close()
            assert not [line for line in working_in(self.folder) if "http.server" not in line]
            self.daemon = None

    def leave(self) -> None:
        """Close all terminals, whatever runs there."""
        for terminal in filter(None, (self.daemon, self.server)):
            terminal.close()


def rows(text: str) -> list[str]:
    return [row.rstrip() for row in text.rstrip().splitlines()]


@pytest.mark.skipif(not Path("/proc/self/cwd").exists(), reason="looks for processes in /proc: Linux")
def test_the_walk_from_nothing_to_a_news_agent_does_what_the_page_says(tmp_path: Path) -> None:
    port = free_port()
    page = TUTORIAL.read_text().replace("8000", str(port))
    folder = tmp_path / "walk"
    folder.mkdir()
    path = person_path(tmp_path / "bin", {FILESYSTEM: npm_server("server-filesystem")})
    with FakeOpenAI() as model:
        model.decide = writing_model
        env = {
            "PATH": path,
            "HOME": str(tmp_path),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": model.base_url,
        }
        person = Person(folder, env)
        try:
            for block in blocks_of(page):
                person.do(block)
            person.stop()
        finally:
            person.leave()
    assert len(model.requests) == 4
    told = [message["content"] for message in model.requests[2]["messages"] if message["role"] == "user"]
    assert len(told) == 2  # the second daemon goes on with the conversation of the first


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)
def test_the_unit_of_the_page_is_one_that_systemd_understands(tmp_path: Path) -> None:
    (unit,) = (b for b in blocks_of(PAGE.read_text()) if b.kind == "ini")
    text = unit.text.replace("%h/news/.venv/bin/agentd", str(Path(sys.executable).with_name("agentd")))
    file = tmp_path / unit.title
    file.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", str(file)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_configuration_of_the_start_page_is_right(tmp_path: Path) -> None:
    _, _, section = (ROOT / "docs" / "index.md").read_text().partition("## The daemon\n")
    found = re.search(r"```yaml\n(.*?)```", section, re.S)
    assert found is not None
    (tmp_path / "agents.yaml").write_text(found[1])
    result = examine([tmp_path / "agents.yaml"])
    assert (result.problems, result.warnings) == ((), ())


@pytest.mark.parametrize("command", [daemon, status], ids=lambda command: str(command.name))
def test_the_command_line_page_has_every_option_of_the_daemon_s_commands(command: click.Command) -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    _, _, section = page.partition(f"\n## `agentd {command.name}`\n")
    section = section.partition("\n## ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.opts != ["--debug"]:
            assert f"`{parameter.opts[0]}" in section, parameter.opts


def test_an_agent_is_told_of_an_attempt_as_the_page_says(tmp_path: Path) -> None:
    (told,) = (block.text for block in blocks_of(PAGE.read_text()) if block.title == "told")
    with Journal.open(tmp_path / "journal.db") as journal:
        trigger = journal.begin(journal.accept("news", origin="repl", task="Go on.").id)
        journal.retry_later(trigger.id, "the provider is down")
        again = attrs.evolve(journal.begin(trigger.id), id="1k1435m9x8a")
    assert task_of(again, None, 1000) == " ".join(told.split()) + "\n\nGo on."
