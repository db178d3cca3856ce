"""Clients that mean harm: they harm nobody but themselves."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError
from agentd_serve.admission import Admission
from agentd_serve.answering import AnswerLimits
from agentd_serve.conversations import ConversationPool, ServedConversation
from agentd_serve.keys import ServedKey, read_keys
from agentd_serve.refusals import RefusedRequestError
from fake_openai import Answer, FakeOpenAI
from served import Served

ASK: Any = [{"role": "user", "content": "How many?"}]
GOOD: dict[str, Any] = {"model": "m1", "messages": ASK}


class NoState:
    """What a conversation works with, in which nothing runs."""

    ptc = tools = None

    def __init__(self) -> None:
        self.resources = self

    def close(self) -> None:
        """There is nothing to end."""

    async def aclose(self) -> None:
        """There is nothing to end."""


class SlowState(NoState):
    """Ends when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_ending, self.may_end = anyio.Event(), anyio.Event()

    async def aclose(self) -> None:
        self.is_ending.set()
        await self.may_end.wait()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_pool(tmp_path: Path, states: Any = NoState, **settings: Any) -> ConversationPool:
    made = {"most": 100, "idle_s": 1000.0, **settings}
    return ConversationPool(lambda key, folder: states(), tmp_path, **made)


@pytest.fixture(autouse=True)
def plain_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ServedConversation, "state", property(lambda self: self.holder.state))


# --- what one key does to another -------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_key_with_too_many_conversations_at_once_does_not_end_those_of_others(tmp_path: Path) -> None:
    greedy, quiet = ServedKey(name="greedy", max_conversations=1), ServedKey(name="quiet")
    async with make_pool(tmp_path) as pool:
        async with pool.serve(quiet, name="kept"):
            pass
        async with pool.serve(greedy, name="a"), pool.serve(greedy, name="b"), pool.serve(greedy, name="c"):
            await anyio.wait_all_tasks_blocked()
        assert await pool.end_named(quiet, "kept")
        await anyio.wait_all_tasks_blocked()
        assert pool.count == 1  # of the greedy one, as many as it may have


@pytest.mark.anyio
async def test_a_key_that_has_said_most_pays_for_the_room_that_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_serve.conversations._MOST_BYTES", 1000)
    talkative, quiet = ServedKey(name="talkative"), ServedKey(name="quiet")
    async with make_pool(tmp_path) as pool:
        async with pool.serve(quiet, name="kept"):
            pass
        async with pool.serve(talkative, name="first") as one:
            pool.keep_response(one, "r1", [], 900)
        async with pool.serve(talkative, name="second") as one:
            pool.keep_response(one, "r2", [], 900)
        await anyio.wait_all_tasks_blocked()
        assert not await pool.end_named(talkative, "first")
        assert await pool.end_named(quiet, "kept")


@pytest.mark.anyio
async def test_a_key_that_comes_while_an_idle_sandbox_ends_does_not_end_the_server(tmp_path: Path) -> None:
    states: list[SlowState] = []

    def make() -> SlowState:
        states.append(SlowState())
        return states[-1]

    async with make_pool(tmp_path, make, idle_s=0.05) as pool:
        async with pool.serve(ServedKey(name="first")):
            pass
        await states[0].is_ending.wait()
        async with pool.serve(ServedKey(name="second")):
            pass
        states[0].may_end.set()
        await states[1].is_ending.wait()  # it is still looked after
        states[1].may_end.set()


# --- waiting ----------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_client_that_goes_away_as_the_server_drains_is_no_defect() -> None:
    admission = Admission(most=1, waiting=1, wait_s=60)
    ended: list[BaseException] = []

    async def wait() -> None:
        try:
            async with admission.turn():
                pass
        except RefusedRequestError as error:
            ended.append(error)
        except anyio.get_cancelled_exc_class() as error:
            ended.append(error)
            raise

    async with admission.turn(), anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        admission.drain()
    assert len(ended) == 1


def test_a_second_request_of_a_client_that_has_not_taken_its_first_answer_holds_no_place(
    tmp_path: Path,
) -> None:
    limits = AnswerLimits(stall_s=0.5)
    fake = FakeOpenAI(piece=1_000_000)
    fake.decide = lambda request: Answer(text="word " * 3_000_000)
    data = json.dumps(GOOD).encode()
    with fake, Served(fake, tmp_path, answers=limits, max_requests=1, queue=1, queue_s=1.0) as served:
        host = f"{served.address[0]}:{served.address[1]}"
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with served.begin(GOOD) as opened:
            opened.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
            until(lambda: len(fake.requests) == 2)
            fake.decide = lambda request: Answer(text="Fine.")
            until(lambda: served.send(GOOD)[0] == 200)


def test_a_client_that_takes_no_comments_either_is_given_up_and_is_no_defect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    limits = AnswerLimits(stall_s=0.5, alive_s=0.01)
    code = "```bash:execute\nsleep 300\n```\n"
    fake = FakeOpenAI("word " * 2_000_000 + "\n\n" + code, piece=20_000_000)
    with fake, Served(fake, tmp_path, answers=limits, max_requests=1, queue=0) as served:
        opened = served.begin({**GOOD, "stream": True})
        until(lambda: fake.requests)
        fake.decide = lambda request: Answer(text="Fine.")
        until(lambda: served.send(GOOD)[0] == 200)
        opened.close()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def until(is_so: Any) -> None:
    """Wait until something is so that nobody tells of."""
    waiting = threading.Event()
    for _ in range(3000):
        if is_so():
            return
        waiting.wait(0.02)
    raise AssertionError("it is not so")


# --- what they send ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin", ["http://[", "http://a]b", "null", "http://x@127.0.0.1", "http://127.0.0.1\\@x"]
)
def test_an_origin_that_is_no_address_is_refused(
    tmp_path: Path, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOpenAI("Fine.") as fake, Served(fake, tmp_path) as served:
        status, _, told = served.send(GOOD, Origin=origin)
        assert (status, told["error"]["code"]) == (403, "foreign_origin")
    assert not caplog.records


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_a_number_that_cannot_be_told_the_models_server_is_refused(tmp_path: Path, number: str) -> None:
    with FakeOpenAI("Fine.") as fake, Served(fake, tmp_path) as served:
        body = json.dumps({**GOOD, "temperature": 0.5}).replace("0.5", number)
        status, _, told = served.send(body.encode())
        assert (status, told["error"]["code"]) == (400, "invalid_json")
        assert fake.requests == []


@pytest.mark.parametrize("name", ["Authorization", "X-Agentd-Session", "Host", "Content-Type"])
def test_a_header_that_says_who_asks_is_there_once(tmp_path: Path, name: str) -> None:
    with FakeOpenAI("Fine.") as fake, Served(fake, tmp_path) as served:
        data = json.dumps(GOOD).encode()
        host = f"{served.address[0]}:{served.address[1]}"
        given = {"Host": host, "Content-Type": "application/json", "Authorization": "Bearer x"}
        lines = [f"{key}: {value}" for key, value in {"X-Agentd-Session": "a", **given}.items()]
        twice = next(line for line in lines if line.startswith(name))
        head = "\r\n".join(
            ["POST /v1/chat/completions HTTP/1.1", *lines, twice, f"Content-Length: {len(data)}"]
        )
        with socket.create_connection(served.address, timeout=60) as opened:
            opened.sendall(f"{head}\r\n\r\n".encode() + data)
            assert opened.recv(100).startswith(b"HTTP/1.1 400 ")
        assert fake.requests == []


# --- files of keys ----------------------------------------------------------------------------------------


def test_a_key_of_any_letters_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "ключ-ключ-ключ-à"
    monkeypatch.setenv("A_KEY", key)
    hashed = hashlib.sha256(b"\xc3\xa0 and more\xc2\xa0").hexdigest()
    file = tmp_path / "keys.yaml"
    file.write_text(f'keys:\n  - {{name: a, env: A_KEY}}\n  - {{name: b, sha256: "{hashed}"}}\n')
    ring = read_keys(file, ("m1",))
    found = ring.find("Bearer " + key.encode().decode("latin-1"))
    assert found is not None
    assert found.name == "a"
    other = ring.find("Bearer  \xc3\xa0 and more\xc2\xa0\t")
    assert other is not None
    assert other.name == "b"
    assert ring.find("Bearer " + key) is None  # which no header can have


@pytest.mark.parametrize(
    "text",
    [
        f'keys: [{{name: a, sha256: "{"0" * 64}", max_cost_usd: 1{"0" * 400}}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", max_cost_usd: .inf}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", max_cost_usd: .nan}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", max_requests: true}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", 7: 1}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", [7]: 1}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", budgets: {{7: 1}}}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", budgets: {{max_turns: [1]}}}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", budgets: {{max_turns: "1"}}}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", budgets: {{max_cost_usd: 1{"0" * 400}}}}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", models: [[m1]]}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", models: [{{m1: 1}}]}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", policy: 7}}]',
        f'keys: [{{name: a, sha256: "{"0" * 64}", policy: "a\\0b"}}]',
        'keys: [{name: a, env: "A\\0B"}]',
        'keys: [{name: a, env: "A=B"}]',
        "keys: [{name: a, env: 7}]",
        f"keys: [{{name: a, sha256: {'1' * 64}}}]",
        f'keys: [{{name: ../a, sha256: "{"0" * 64}"}}]',
        f'keys: [{{name: "a\\n", sha256: "{"0" * 64}"}}]',
        f'keys: [&a {{name: a, sha256: "{"0" * 64}"}}, *a]',
        "keys: &a [*a]",
        "keys: {a: 1}",
        "7: [1]\nkeys: [7]",
        "keys: [null]",
        "[" * 5000,
        "keys: [" * 300,
        "",
        "\x00",
        "keys:\n\t- a",
    ],
)
def test_a_file_of_keys_of_any_shape_is_refused_in_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        read_keys(file, ("m1",))
