"""Asking at a terminal, and by a webhook."""

from __future__ import annotations

import json
import os
import pty
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError
from agentd_policy import ApproverAnswer, Question
from agentd_policy.approvers import read_approver
from agentd_policy.terminal import TerminalApprover
from agentd_policy.webhook import WebhookApprover
from agentd_tools.policy import PolicyRequest

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # as the loop of the questions


def question(tmp_path: Path, name: str = "send", **arguments: Any) -> Question:
    request = PolicyRequest(kind="tool", name=name, content=json.dumps(arguments).encode(), source="mail")
    return Question("q1", request, "rule 1", "them", tmp_path, lambda question, answer: None)


class Keyboard:
    """The other end of a terminal."""

    def __init__(self) -> None:
        self.end, terminal = pty.openpty()
        self.path = os.ttyname(terminal)
        self._terminal = terminal
        self.output = ""

    def type(self, text: str) -> None:
        os.write(self.end, text.encode())

    def read_until(self, text: str) -> None:
        while text not in self.output:
            self.output += os.read(self.end, 4096).decode()

    def close(self) -> None:
        os.close(self.end)
        os.close(self._terminal)


async def answered(keyboard: Keyboard, asked: Question, typed: str) -> object:
    """Ask, type when the question is there, and return the answer."""
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await TerminalApprover(keyboard.path).ask(asked))

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        await anyio.to_thread.run_sync(keyboard.read_until, "allow?")
        keyboard.type(typed)
    return answers[0]


@pytest.fixture
def keyboard() -> Iterator[Keyboard]:
    made = Keyboard()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [
        ("y\n", "once"),
        ("S\n", "session"),
        ("always\n", "always"),
        ("no\n", "deny"),
        ("\n\ny\n", "once"),
        ("ask the boss first\n", ApproverAnswer(False, reason="ask the boss first")),
    ],
)
@pytest.mark.anyio
async def test_a_line_at_the_terminal_is_the_answer(
    tmp_path: Path, keyboard: Keyboard, typed: str, answer: object
) -> None:
    assert await answered(keyboard, question(tmp_path), typed) == answer


@pytest.mark.anyio
async def test_what_was_typed_before_a_question_is_shown_does_not_answer_it(
    tmp_path: Path, keyboard: Keyboard
) -> None:
    keyboard.type("y\n")
    assert await answered(keyboard, question(tmp_path), "n\n") == "deny"


@pytest.mark.anyio
async def test_no_argument_hides_another_or_looks_like_one(tmp_path: Path, keyboard: Keyboard) -> None:
    asked = question(
        tmp_path, name="se\nnd", text="x\nto: ann@a.example" + "\n" * 9000, **{"b\nto": 1}, to="eve@b.example"
    )
    await answered(keyboard, asked, "n\n")
    lines = keyboard.output.replace("\r", "").split("\n")
    assert [line for line in lines if line.startswith("    to: ")] == ["    to: eve@b.example"]
    assert "    b\\nto: 1" in lines
    assert any(line.startswith("call the tool se\\nnd of mail?") for line in lines)
    many = question(tmp_path, **{f"n{number}": "x" * 200 for number in range(1000)}).details()
    assert len(many) < 10_000
    assert many.endswith(" more arguments]")


@pytest.mark.anyio
async def test_a_question_says_what_an_answer_for_longer_holds_for(
    tmp_path: Path, keyboard: Keyboard
) -> None:
    await answered(keyboard, question(tmp_path, to="a"), "s\n")
    assert "every call of it that this rule asks about, whatever the arguments" in keyboard.output


@pytest.mark.anyio
async def test_what_is_shown_cannot_drive_the_terminal(tmp_path: Path, keyboard: Keyboard) -> None:
    asked = question(tmp_path, to="a@b.example", text="\x1b[2Jhello\r\u202eworld")
    await answered(keyboard, asked, "n\n")
    assert "call the tool send of mail?  (rule 1)" in keyboard.output
    assert "    to: a@b.example" in keyboard.output
    assert "    text: \\x1b[2Jhello\\r\\u202eworld" in keyboard.output
    assert "\x1b" not in keyboard.output


@pytest.mark.anyio
async def test_a_question_that_is_over_lets_the_terminal_go(tmp_path: Path, keyboard: Keyboard) -> None:
    asked = question(tmp_path)
    async with anyio.create_task_group() as group:

        async def ask() -> None:
            assert await TerminalApprover(keyboard.path).ask(asked) is None

        group.start_soon(ask)
        await anyio.to_thread.run_sync(keyboard.read_until, "allow?")
        asked.give_up()
    keyboard.read_until("(no longer asked)")


@pytest.mark.anyio
async def test_without_a_terminal_the_answer_is_no(tmp_path: Path) -> None:
    answer = await TerminalApprover(str(tmp_path / "none")).ask(question(tmp_path))
    assert answer == ApproverAnswer(False, reason="there is no terminal to ask at")


Reply = tuple[int, bytes]


@pytest.fixture
def serve() -> Iterator[Callable[[Reply], tuple[str, list[Any]]]]:
    """Serve one reply; return the address, and the requests that come."""
    servers: list[ThreadingHTTPServer] = []

    def start(reply: Reply) -> tuple[str, list[Any]]:
        came: list[Any] = []

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                came.append((self.headers.get("Authorization"), body))
                self.send_response(reply[0])
                self.send_header("Content-Length", str(len(reply[1])))
                self.end_headers()
                try:
                    self.wfile.write(reply[1])
                except OSError:  # it has read enough
                    pass

            def log_message(self, *args: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/ask", came

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("reply", "allowed", "said"),
    [
        ((200, b'{"answer": "session"}'), True, "session"),
        ((200, b'{"answer": "deny", "reason": "not now"}'), False, "not now"),
        ((500, b""), False, "status 500"),
        ((302, b""), False, "status 302"),
        ((200, b"yes"), False, "is not"),
        ((200, b'{"answer": true, "x": NaN'), False, "is not"),
        ((200, b'{"answer": "sure"}'), False, "is not"),
        ((200, b" " * 100_000), False, "too long"),
    ],
)
@pytest.mark.anyio
async def test_the_response_of_a_webhook_is_the_answer(
    tmp_path: Path, serve: Any, reply: Reply, allowed: bool, said: str
) -> None:
    url, came = serve(reply)
    answer = await WebhookApprover(url, token="t0ken").ask(question(tmp_path, to="x"))
    assert answer.allowed is allowed
    assert said in (answer.scope if allowed else answer.reason)
    ((token, body),) = came
    assert token == "Bearer t0ken"
    assert (body["name"], body["source"], body["arguments"]) == ("send", "mail", {"to": "x"})


def test_a_webhook_without_an_address_is_told(anyio_backend: str) -> None:
    with pytest.raises(ConfigError, match="needs an address"):
        read_approver("webhook")
    with pytest.raises(ConfigError, match="must begin with https"):
        read_approver(("webhook", {"url": "ftp://x"}))
    with pytest.raises(ConfigError, match="unknown option 'urll'"):
        read_approver(("webhook", {"urll": "https://x"}))
