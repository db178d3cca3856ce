"""The wire: what is no message, what is too long, who does not read."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest
from agentd_acp.wire import MessageWire
from agentd_cli.standard_streams import StandardInput, StandardOutput
from chat_person import block, model
from command_process import Command
from hypothesis import given, settings, strategies as st

HELLO: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}}


class Ends:
    """The other ends of a wire's pipes."""

    def __init__(self, wire: MessageWire, write: int, read: int) -> None:
        self.wire, self.write, self.read = wire, write, read
        self._rest = b""

    def say(self, data: bytes) -> None:
        os.write(self.write, data)

    async def told(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            await anyio.wait_readable(self.read)
            self._rest += os.read(self.read, 1 << 16)
        line, _, self._rest = self._rest.partition(b"\n")
        return dict(json.loads(line))


@asynccontextmanager
async def ends(**options: Any) -> AsyncIterator[Ends]:
    ours, write = os.pipe()
    read, theirs = os.pipe()
    wire = MessageWire(StandardInput(ours), StandardOutput(theirs), **options)
    writing = asyncio.create_task(wire.write_all())
    try:
        yield Ends(wire, write, read)
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
        for descriptor in (ours, write, read, theirs):
            with suppress(OSError):  # the test has closed it
                os.close(descriptor)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("line", "code", "why"),
    [
        (b"{", -32700, "no JSON"),
        (b"\xff\xfe", -32700, "no JSON"),
        (b"null", -32600, "got a null"),
        (b"[1, 2]", -32600, "got a list"),
        (b'{"id": [], "method": "x"}', -32600, "id: must be"),
        (b'{"id": true, "method": "x"}', -32600, "id: must be"),
        (b'{"id": 1, "method": 2}', -32600, "method: must be"),
        (b'{"id": 1}', -32600, "a method, a result or an error"),
        (b"[" * 100_000, -32700, "no JSON"),
        (b'{"x": "' + b"y" * 200_000 + b'"}', -32600, "100,000 bytes; a longer line was passed over"),
    ],
    ids=["cut", "no-utf8", "null", "batch", "id-list", "id-bool", "method", "nothing", "deep", "long"],
)
async def test_what_is_no_message_is_answered_and_the_next_one_is_received(
    line: bytes, code: int, why: str
) -> None:
    async with ends(max_line_bytes=100_000 if b"yyy" in line else 200_000) as wire:
        received = asyncio.create_task(wire.wire.receive())
        await asyncio.to_thread(wire.say, line + b"\n\n" + json.dumps(HELLO).encode() + b"\n")
        told = await wire.told()
        assert told["error"]["code"] == code
        assert why in told["error"]["data"]["details"]
        assert await received == HELLO


@pytest.mark.anyio
async def test_an_error_that_is_none_is_made_one_and_the_end_is_none() -> None:
    async with ends() as wire:
        wire.say(b'{"id": 0, "error": "no"}\n{"id": 1, "error": {"code": -1, "message": "m"}}')
        os.close(wire.write)
        first, second = await wire.wire.receive(), await wire.wire.receive()
        assert first is not None
        assert first["error"]["code"] == -32603
        assert second is not None
        assert second["error"] == {"code": -1, "message": "m"}
        assert await wire.wire.receive() is None


@pytest.mark.anyio
async def test_whoever_sends_waits_for_the_reader_and_is_let_go_when_nobody_reads_any_more() -> None:
    async with ends() as wire:
        long = {"jsonrpc": "2.0", "method": "x", "params": {"text": "y" * 1_000_000}}
        first = asyncio.create_task(wire.wire.send(long))
        second = asyncio.create_task(wire.wire.send({**long, "method": "z"}))
        await asyncio.wait([first], timeout=0.2)
        assert not first.done()
        first.cancel()  # half of it is in the pipe: the rest follows
        assert (await wire.told())["method"] == "x"
        assert (await wire.told())["method"] == "z"
        await second
        third = asyncio.create_task(wire.wire.send(long))
        await asyncio.wait([third], timeout=0.2)
        os.close(wire.read)
        await third  # a notification is dropped
        assert wire.wire.is_gone.is_set()
        with pytest.raises(ConnectionError):
            await wire.wire.send({**long, "id": 1})


async def left_waiting(wire: MessageWire, count: int, size: int, **more: Any) -> asyncio.Future[Any]:
    """Have messages wait to be written, as nobody reads. A character takes four bytes in memory."""
    message = {"jsonrpc": "2.0", "result": {"text": "y" * (size - 1) + "😀"}, **more}
    sending = asyncio.gather(*(wire.send({"id": id, **message}) for id in range(count)))
    await asyncio.wait([sending], timeout=0.05)
    return sending


@pytest.mark.anyio
@pytest.mark.parametrize(("count", "size"), [(1_400, 200), (18, 1 << 18)], ids=["many", "large"])
async def test_nothing_is_received_while_answers_wait_for_their_reader_and_all_of_it_afterwards(
    count: int, size: int
) -> None:
    async with ends() as wire:
        sending = await left_waiting(wire.wire, count, size)
        wire.say(json.dumps(HELLO).encode() + b"\n")
        received = asyncio.create_task(wire.wire.receive())
        await asyncio.wait([received], timeout=0.2)
        assert not received.done()
        assert [(await wire.told())["id"] for _ in range(count)] == list(range(count))
        await sending
        assert await received == HELLO


@pytest.mark.anyio
async def test_requests_without_an_answer_and_updates_that_wait_hold_nothing_back() -> None:
    cancel = {"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "s"}}
    async with ends() as wire:
        sending = await left_waiting(wire.wire, 18, 1 << 18, method="session/update")
        lines = b"".join(json.dumps({"id": id, "method": "m"}).encode() + b"\n" for id in range(1_400))
        wire.say(lines)
        for id in range(1_400):
            assert await wire.wire.receive() == {"id": id, "method": "m"}
        wire.say(json.dumps(cancel).encode() + b"\n")
        assert await wire.wire.receive() == cancel
        os.close(wire.read)
        await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.anyio
async def test_the_end_of_a_client_that_does_not_read_is_seen_and_what_it_said_before() -> None:
    async with ends() as wire:
        sending = await left_waiting(wire.wire, 1_400, 200)
        wire.say(json.dumps(HELLO).encode() + b"\n")
        received = asyncio.create_task(wire.wire.receive())
        await asyncio.sleep(0)
        os.close(wire.write)
        assert await received == HELLO
        assert await wire.wire.receive() is None
        wire.wire.give_up()
        await sending


@pytest.mark.anyio
async def test_a_client_that_goes_away_ends_the_wait_for_its_reading() -> None:
    async with ends() as wire:
        sending = await left_waiting(wire.wire, 1_400, 200)
        received = asyncio.create_task(wire.wire.receive())
        await asyncio.sleep(0)
        os.close(wire.read)
        assert await received is None
        await sending
        async with asyncio.timeout(5):
            await wire.wire.finish(within_s=60)  # nothing of what waits can be written


@given(
    texts=st.lists(st.text(max_size=30), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 40), max_size=9),
)
@settings(deadline=None)
def test_messages_are_the_same_for_every_way_of_cutting_the_stream(texts: list[str], cuts: list[int]) -> None:
    async def check() -> None:
        async with ends() as wire:
            messages = [{"id": 1, "method": "m", "params": {"text": text}} for text in texts]
            data = b"".join(json.dumps(m, ensure_ascii=True).encode() + b"\n" for m in messages)
            for cut in cuts:
                wire.say(data[:cut])
                data = data[cut:]
            wire.say(data)
            assert [await wire.wire.receive() for _ in messages] == messages

    asyncio.run(check())


def conversation(agentd: Command, *lines: bytes, last: int, arguments: tuple[str, ...] = ()) -> Any:
    """Say lines to the command, wait for the answer with the id `last`, and return what it has said on both streams."""
    said = []
    with (
        open(agentd.cwd.parent / "errors", "w+b") as errors,
        subprocess.Popen(
            [*agentd.command, "acp", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=agentd.env,
            cwd=agentd.cwd,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"\n".join(lines) + b"\n")
        process.stdin.flush()
        for line in process.stdout:
            said.append(json.loads(line))
            if said[-1].get("id") == last:
                break
        process.stdin.close()
        said += [json.loads(line) for line in process.stdout]
        code = process.wait(60)
        errors.seek(0)
        told = errors.read().decode()
    assert code == 0, told
    return said, told


@pytest.mark.slow
def test_bad_lines_to_the_command_are_errors_and_requests_around_them_are_answered(agentd: Command) -> None:
    wrong = {"cwd": ["x" * 5_000_000], "mcpServers": []}
    bad = json.dumps({**HELLO, "id": 2, "method": "session/new", "params": wrong}).encode()
    final = json.dumps({"jsonrpc": "2.0", "id": 3, "method": "no/such"}).encode()
    said, _ = conversation(agentd, b"{", b"y" * (33 << 20), json.dumps(HELLO).encode(), bad, final, last=3)
    by_id = {answer["id"]: answer for answer in said}
    assert [answer["error"]["code"] for answer in said if answer["id"] is None] == [-32700, -32600]
    assert by_id[1]["result"]["protocolVersion"] == 1
    assert by_id[2]["error"]["code"] == -32602
    assert len(json.dumps(by_id[2])) < 2_000  # not the value that was wrong
    assert by_id[3]["error"]["code"] == -32601


@pytest.mark.slow
def test_what_tools_and_sinks_print_is_not_in_the_protocol(agentd: Command) -> None:
    model(agentd, "Hello.")
    (agentd.cwd / "loud.py").write_text(
        "import os\nfrom agentd import tool\nprint('printed')\nos.write(1, b'written')\n"
        '@tool\ndef quiet() -> int:\n    "Nothing."\n    return 1\n'
    )
    new = {"jsonrpc": "2.0", "id": 2, "method": "session/new"}
    new["params"] = {"cwd": str(agentd.cwd), "mcpServers": []}
    said, errors = conversation(
        agentd,
        json.dumps(HELLO).encode(),
        json.dumps(new).encode(),
        last=2,
        arguments=("--tool", "loud.py", "--sink", "console"),
    )
    assert [answer["id"] for answer in said if "id" in answer] == [1, 2]
    assert "printed" in errors
    assert "written" in errors


@pytest.mark.slow
def test_an_editor_that_does_not_read_for_long_gets_all_that_counts_and_little_else(agentd: Command) -> None:
    model(agentd, block("bash:execute", "seq 300000; touch done"), "Read " + "it. " * 50_000)
    new = {"jsonrpc": "2.0", "id": 2, "method": "session/new"}
    new["params"] = {"cwd": str(agentd.cwd), "mcpServers": []}
    with subprocess.Popen(
        [*agentd.command, "acp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=agentd.env,
        cwd=agentd.cwd,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for message in (HELLO, new):
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            while (said := json.loads(process.stdout.readline())).get("id") != message["id"]:
                pass
        session = said["result"]["sessionId"]
        prompt: dict[str, Any] = {"jsonrpc": "2.0", "id": 3, "method": "session/prompt"}
        prompt["params"] = {"sessionId": session, "prompt": [{"type": "text", "text": "count"}]}
        process.stdin.write(json.dumps(prompt).encode() + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + 100
        while not (agentd.cwd / "done").exists():  # the code runs on; meanwhile nothing is read
            assert time.monotonic() < deadline
            time.sleep(0.05)
        texts, calls = [], 0
        for line in process.stdout:
            message = json.loads(line)
            if message.get("id") == 3:
                assert message["result"]["stopReason"] == "end_turn"
                break
            update = message["params"]["update"]
            if update["sessionUpdate"] == "agent_message_chunk":
                texts.append(update["content"]["text"])
            calls += len(line) if update["sessionUpdate"].startswith("tool_call") else 0
        process.stdin.close()
        assert process.wait(60) == 0
    assert "".join(texts) == ("Read " + "it. " * 50_000)
    assert calls < 1_000_000  # of the two million characters that the code has printed
