"""An agent under a policy: what is denied, what a webhook allows, and what is wrong with the keys."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from agentd_daemon.config.loading import examine
from agentd_demo.replay import ReplayServer
from fake_openai import FakeOpenAI
from living import agent, living

pytestmark = pytest.mark.anyio
BLOCKS = "```secret.env:create\nx\n```\n\n```a.txt:create\ny\n```\n"


@contextmanager
def webhook(answer: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Answer each question in the same way, on loopback; yields the address and what was asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            body = json.dumps({"answer": answer}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("answer", ["once", "deny"])
async def test_an_agent_does_what_its_policy_and_the_webhook_allow(answer: str, tmp_path: Path) -> None:
    policy = {"rules": [{"verdict": "deny", "name": "*.env"}], "default": "ask"}
    with ReplayServer([BLOCKS, "Done."]) as model, webhook(answer) as (url, asked):
        config = agent(
            model, mode="ptc", cwd=str(tmp_path / "work"), policy=policy, approver=("webhook", {"url": url})
        )
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Write two files.")
            await daemon.runs_end(1)
    assert [(question["kind"], question["name"]) for question in asked] == [("create", "a.txt")]
    assert (tmp_path / "work" / "a.txt").exists() is (answer == "once")
    assert not (tmp_path / "work" / "secret.env").exists()
    assert "was not written" in model.requests[-1].last


@pytest.mark.parametrize(
    ("approver", "wrong"),
    [
        ("daemon", ""),
        (["daemon", {"hold_s": 1}], ""),
        (["webhook", {"url": "https://x.example/", "token": "t", "hold_s": 2.5}], ""),
        ("deamon", "must be 'daemon' or 'webhook', got 'deamon'; did you mean 'daemon'?"),
        ("terminal", "must be 'daemon' or 'webhook': a daemon has no terminal to ask at"),
        ("webhook", "the webhook needs an address: [webhook, {url: 'https://...'}]"),
        (["daemon", {"hold_s": 0}], "option 'hold_s' must be a number of seconds above 0"),
        (["daemon", {"hold": 1}], "did you mean 'hold_s'?"),
        (["daemon", {"token": "secret-1"}], "option 'token' goes with 'url': it is the webhook's"),
        (["daemon", {"url": "ftp://secret-1"}], "the webhook's url must begin with https:// or http://"),
        (["daemon", {"token": ["secret-1"], "url": "http://x/"}], "must be a string"),
    ],
)
def test_an_approver_is_checked_and_none_of_its_values_are_shown(
    approver: object, wrong: str, tmp_path: Path
) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text(
        json.dumps({"agents": [{"name": "a", "model": "m", "policy": "yolo", "approver": approver}]})
    )
    told = [str(problem) for problem in examine([file]).problems]
    assert [line for line in told if wrong and line.endswith(wrong)] == told
    assert bool(told) is bool(wrong)
    assert "secret-1" not in "".join(told)


def test_all_that_is_wrong_with_a_policy_is_told_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "agents.yaml"
    file.write_text(
        "agents:\n"
        "- name: a\n  model: m\n  policy:\n    preset: ask-writs\n    rules:\n    - {verdict: alow}\n"
        "  approver: terminal\n"
        "- {name: b, model: m, approver: [webhook, {}]}\n"
        "- {name: c, model: m, policy: nothere}\n"
        "- {name: d, model: m, policy: read-only, approver: [webhook, {url: 'http://x/'}]}\n"
        "- {name: e, model: m, policy: read-only, approver: [webhook, {}]}\n"
    )
    told = [str(problem) for problem in examine([file]).problems]
    places = [line.partition(": ")[2].partition(": ")[0] for line in told]
    assert places == [
        *("agents[0].policy.preset", "agents[0].policy.rules[0].verdict", "agents[0].approver"),
        *("agents[1].approver", "agents[2].policy", "agents[4].approver"),
    ]
    assert "did you mean 'ask-writes'?" in told[0]


async def test_an_agent_with_images_sees_what_its_code_shows(tmp_path: Path) -> None:
    code = "```python:execute\nimport agentd\nfrom PIL import Image\n"
    code += "agentd.show(Image.new('L', (30, 20)), 'dark')\n```\n"
    with FakeOpenAI(code, "Dark.") as model:
        config = agent(model, mode="ptc", cwd=str(tmp_path / "work"), images=True)
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "Look.")
            await daemon.runs_end(1)
    assert [json.dumps(request).count("data:image/png") for request in model.requests] == [0, 1]
