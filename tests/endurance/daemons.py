"""The two daemons of a run: one that is never killed, and one that is killed all the time."""

from __future__ import annotations

import base64
import json
import socket
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from living import HERE

from endurance.model import FAULTY, bash, called, python, task
from endurance.programs import Program
from endurance.world import World

__all__ = ["DAEMONS", "SECRET", "daemon_program", "journal_of", "page_of", "webhook_address", "write_config"]

DAEMONS = ("daemon", "daemon-killed")
PAGES = 2
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


def page_of(world: World, daemon: str, number: int) -> Path:
    """The file of a page that the daemon's agent watches."""
    return world.folder / "work" / daemon / "pages" / f"page-{number}"


def journal_of(world: World, daemon: str) -> Path:
    """The daemon's journal."""
    return world.folder / "state" / daemon / "journal.db"


def webhook_address() -> str:
    """A free port of loopback, which the daemon listens on after each start."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"http://127.0.0.1:{found.getsockname()[1]}/"


def write_config(world: World, daemon: str, webhook: str, *, note: str = "") -> Path:
    """Write the daemon's configuration; `note` is what changes with a reload, for one of its agents."""
    path = world.folder / "work" / daemon / "agents.yaml"
    fresh = path.with_suffix(".fresh")
    fresh.write_text(json.dumps(_configuration(world, daemon, webhook, note)))  # JSON is YAML
    return fresh.replace(path)


def _configuration(world: World, daemon: str, webhook: str, note: str) -> dict[str, Any]:
    pages = page_of(world, daemon, 0).parent
    server = {
        "type": "stdio",
        "name": "files",
        "command": sys.executable,
        "arguments": [
            "-S",
            str(HERE / "files_server.py"),
            str(pages),
            "--log",
            str(pages.with_suffix(".log")),
        ],
    }
    defaults = {
        "model": FAULTY,
        "base_url": world.base_url,
        "model_options": {"max_retries": 1},
        "history": {"max_tokens": 2000},
        "on_error": {"retries": 1000, "backoff_s": 0.1, "max_backoff_s": 1.0},
    }
    sandbox, options = world.executors[-1]
    watcher = {
        "name": "watcher",
        "mcp_servers": [server],
        "subscriptions": [
            {
                "uri": f"file://{pages}/page-{n}",
                "prompt": task(called("look", name=f"page-{n}")),
                "max_in_a_row": None,  # others change them all the time, and the agent has no quiet moment
            }
            for n in range(PAGES)
        ],
    }
    clock = _coding(
        "clock",
        "cron",
        bash("date >> times; tail -n 1 times | wc -l"),
        {"expression": "* * * * *", "catch_up": "one"},
    )
    clock |= {"executor": [sandbox, options] if options else sandbox}
    clock |= {"checkpoints": True}
    inbox = _coding("inbox", "file", python("print(len('news'))"), {"path": str(pages.with_name("inbox"))})
    inbox |= {"executor": "subprocess", "system_prompt": note}
    hooks = _coding(
        "hooks", "webhook", bash("echo taken"), {"port": urlsplit(webhook).port, "secret": "${HOOK_SECRET}"}
    )
    hooks |= {"executor": "subprocess"}
    return {"defaults": defaults, "agents": [watcher, clock, inbox, hooks]}


def _coding(name: str, kind: str, block: str, options: dict[str, Any]) -> dict[str, Any]:
    trigger = {"kind": kind, "name": name, "prompt": task(block), "options": options, "max_waiting": 1000}
    trigger |= {"max_in_a_row": None}  # as above
    return {"name": name, "mode": "ptc", "triggers": [trigger]}


def daemon_program(world: World, daemon: str, webhook: str) -> Program:
    """Return the daemon, with its configuration and pages."""
    page_of(world, daemon, 0).parent.mkdir(parents=True, exist_ok=True)
    page_of(world, daemon, 0).parent.with_name("inbox").mkdir(exist_ok=True)
    for number in range(PAGES):
        page = page_of(world, daemon, number)
        if not page.exists():
            page.write_text("nothing yet")
    config = write_config(world, daemon, webhook)
    state = str(journal_of(world, daemon).parent)
    command = ["-m", "agentd", "daemon", str(config), "--state-dir", state, "--no-repl"]
    return Program(daemon, world, command, r"listens at", {"HOOK_SECRET": SECRET})
