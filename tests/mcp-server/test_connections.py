"""Clients that go away, come back, do not read, or send what is none of the protocol's: the others are served."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_serving import HELLO, Wire, command, events, served, shop

pytestmark = pytest.mark.slow  # each test starts a server

LONG = "echo $BASHPID > pid.new; mv pid.new pid; echo begun; until [ -e go ]; do sleep 0.05; done; echo over"
MODERN = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


def until(look: Callable[[], Any]) -> Any:
    """Return what `look` says once that is something. The test's own time-out bounds it."""
    while not (found := look()):
        time.sleep(0.02)
    return found


def begun(folder: Path) -> int:
    """Return the process of the block that has begun, in whichever sandbox."""
    return int(until(lambda: next(folder.glob("w/**/pid"), None)).read_text())


def is_over(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def answered(answer: http.client.HTTPResponse) -> Any:
    """Return the answer to the request of a stream that somebody has come back for; it stays open behind it."""
    messages = (json.loads(event["data"]) for event in events(answer) if event["data"])
    return next(message for message in messages if "id" in message)


@pytest.fixture
def wires() -> Iterator[Callable[[str], Wire]]:
    made: list[Wire] = []

    def make(url: str) -> Wire:
        made.append(Wire(url))
        made[-1].begin()
        return made[-1]

    yield make
    for wire in made:
        wire.hang_up()


@pytest.mark.parametrize("over_http", [["--reconnect", "0.2"]], indirect=True)
def test_a_client_that_goes_away_and_does_not_come_back_ends_its_block(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    wire = wires(over_http)
    wire.call(1, "run_bash", code=LONG)
    process = begun(tmp_path)
    assert not is_over(process)
    wire.hang_up()
    until(lambda: is_over(process))
    again = wire.run(2, "run_bash", code="echo here")  # the session stays
    assert again["result"]["structuredContent"]["output"] == "here\n"


@pytest.mark.parametrize("over_http", [["--reconnect", "600"]], indirect=True)
def test_a_client_that_comes_back_with_the_last_event_it_has_reads_the_rest(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    wire = wires(over_http)
    first = next(events(wire.call(1, "run_bash", code=LONG)))
    assert first["data"] == ""  # the revision's own: an id to come back with
    begun(tmp_path)
    wire.hang_up()
    answer = wire.request("GET", **{"Last-Event-ID": first["id"]})
    next(tmp_path.glob("w/*")).joinpath("go").touch()
    told = answered(answer)
    assert told["id"] == 1
    assert told["result"]["structuredContent"]["output"] == "begun\nover\n"


@pytest.mark.parametrize("over_http", [["--reconnect", "0.2"]], indirect=True)
def test_a_client_that_comes_back_and_goes_again_ends_its_block_and_reads_so_at_last(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    wire = wires(over_http)
    first = next(events(wire.call(1, "run_bash", code=LONG)))
    process = begun(tmp_path)
    wire.hang_up()
    wire.request("GET", **{"Last-Event-ID": first["id"]})
    wire.hang_up()
    until(lambda: is_over(process))
    answer = wire.request("GET", **{"Last-Event-ID": first["id"]})
    told = answered(answer)
    assert told["error"]["code"] == -32800
    assert "did not come back" in told["error"]["message"]


def test_an_event_of_another_session_brings_nothing_back(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    one, two = wires(over_http), wires(over_http)
    first, *_ = events(one.call(1, "run_bash", code="echo a secret"))
    two.run(1, "run_bash", code="echo mine")  # the same id, which names the stream
    answer = two.request("GET", **{"Last-Event-ID": first["id"]})
    assert "secret" not in answer.read().decode()
    answer = one.request("GET", **{"Last-Event-ID": first["id"]})
    assert answered(answer)["result"]["structuredContent"]["output"] == "a secret\n"


@pytest.mark.parametrize("over_http", [["--reconnect", "600"]], indirect=True)
def test_closing_the_connection_is_cancelling_in_the_revision_without_sessions(
    over_http: str, tmp_path: Path
) -> None:
    wire = Wire(over_http)
    params = {"name": "run_bash", "arguments": {"code": LONG}, "_meta": {**MODERN, "progressToken": 1}}
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "run_bash"}
    wire.post("tools/call", params, number=1, **headers)  # the head is here with the first progress
    process = begun(tmp_path)
    assert not is_over(process)
    wire.hang_up()
    until(lambda: is_over(process))


@pytest.mark.parametrize("over_http", [["--reconnect", "0.2"]], indirect=True)
def test_a_client_that_does_not_read_holds_up_no_other(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    slow, other = wires(over_http), wires(over_http)
    flood = "echo $BASHPID > pid.new; mv pid.new pid; while true; do printf '%01000d\\n' 1; done"
    slow.call(1, "run_bash", code=flood)
    process = begun(tmp_path)
    for number in range(20):
        assert other.run(number + 1, "run_bash", code="echo here")["result"]["isError"] is False
    slow.hang_up()
    until(lambda: is_over(process))


def test_what_is_no_message_and_what_is_too_long_is_refused_and_the_session_goes_on(
    over_http: str, wires: Callable[[str], Wire]
) -> None:
    wire = wires(over_http)
    assert wire.request("POST", "{nope").status == 400
    assert wire.request("POST", "[1, 2]").status == 400
    assert wire.request("POST", b"x" * (16 << 20) + b"y").status == 413
    unknown = wire.run(1, "run_perl", code="1")
    assert unknown["error"]["code"] == -32602
    assert "there is no tool 'run_perl'" in unknown["error"]["message"]
    wrong = wire.run(2, "run_bash", cod="1")
    assert "cod: is not known; did you mean 'code'?; code: is missing" in json.dumps(wrong)
    assert wire.run(3, "run_bash", code="echo here")["result"]["structuredContent"]["output"] == "here\n"


def test_two_clients_on_one_session_share_a_sandbox_but_not_the_ids_of_their_requests(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    one = wires(over_http)
    two = Wire(over_http, one.session)
    running = one.call(7, "run_bash", code="x=one; " + LONG)
    begun(tmp_path)
    refused = two.call(7, "run_bash", code="echo mine")
    assert refused.status == 400
    assert "7 is under way in this session" in json.load(refused)["error"]["message"]
    next(tmp_path.glob("w/*")).joinpath("go").touch()
    waited = two.run(8, "run_bash", code="echo $x")
    *_, last = events(running)
    assert json.loads(last["data"])["result"]["structuredContent"]["output"] == "begun\nover\n"
    assert waited["result"]["structuredContent"]["output"] == "one\n"
    two.hang_up()


def test_no_name_leads_to_the_sandbox_of_a_session_and_a_request_without_sessions_has_none(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    wire = wires(over_http)
    wire.run(1, "run_bash", code="echo mine > file")
    (folder,) = (file.parent.name for file in tmp_path.glob("w/*/file"))
    guest = Wire(over_http, "invented")
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "run_bash"}

    def run(**more: str) -> str:
        params = {
            "name": "run_bash",
            "arguments": {"code": "[ -e file ] || echo at $(basename $PWD)", **more},
            "_meta": MODERN,
        }
        return guest.post("tools/call", params, number=1, **headers).read().decode()

    assert "sandbox: letters, digits" in run(sandbox=folder)
    assert "at " in run(sandbox=folder.rpartition(".")[2])
    assert "at default" in run()  # whatever session its headers name
    guest.hang_up()


def test_a_session_that_has_ended_is_not_there_and_its_block_neither(
    over_http: str, tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    wire = wires(over_http)
    wire.call(1, "run_bash", code=LONG)
    process = begun(tmp_path)
    assert wire.request("DELETE").status == 200
    until(lambda: is_over(process))
    assert wire.call(2, "run_bash", code="true").status == 404


def test_an_upstream_server_that_dies_is_an_error_in_the_code_and_is_there_again(
    tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    with served(tmp_path, "--mcp-config", str(shop(tmp_path))) as url:
        wire = wires(url)
        died = wire.run(1, "run_python", code="from lib.tools import close\nclose()")["result"]
        assert died["isError"]
        assert "McpServerError" in died["content"][0]["text"] or "ToolError" in died["content"][0]["text"]
        assert "shop" in died["content"][0]["text"]
        code = "from lib.tools import price\nprint(price(name='tea'))"
        assert wire.run(2, "run_python", code=code)["result"]["structuredContent"]["output"] == "3\n"
        wire.hang_up()


def test_an_upstream_server_that_does_not_start_is_named_and_takes_nothing_from_the_others(
    tmp_path: Path, wires: Callable[[str], Wire]
) -> None:
    servers = json.loads(shop(tmp_path).read_text())
    late = tmp_path / "late"
    servers["mcpServers"]["late"] = {"command": str(late), "args": [str(tmp_path / "shop.py")]}
    (tmp_path / "servers.json").write_text(json.dumps(servers))
    with served(tmp_path, "--mcp-config", str(tmp_path / "servers.json")) as url:
        wire = wires(url)
        code = "from lib.tools import price\nprint(price(name='tea'))"
        assert wire.run(1, "run_python", code=code)["result"]["structuredContent"]["output"] == "3\n"
        found = wire.run(2, "search_tools")["result"]["content"][0]["text"]
        assert "[not there: the MCP server 'late' cannot be started" in found
        late.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        late.chmod(0o755)
        numbers = itertools.count(3)

        def all_there() -> str:  # a search waits for 5 s, in which a busy machine does not start it
            found: str = wire.run(next(numbers), "search_tools")["result"]["content"][0]["text"]
            return "" if "not there" in found else found

        assert "late" in until(all_there)
        wire.hang_up()


# --- over standard input and output --------------------------------------------------------------------------


def tell(served: subprocess.Popen[bytes], *messages: object) -> None:
    assert served.stdin is not None
    for message in messages:
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        served.stdin.write(line + b"\n")
    served.stdin.flush()


def call(number: int, tool: str, **arguments: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


START = (
    {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO},
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
)


def test_a_line_that_is_no_message_or_too_long_is_told_and_the_next_one_is_served(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        tell(process, *START, b"{nope", b"[1, 2]", b'"' + b"x" * (16 << 20) + b'"', b"\xff\xfe", b"")
        tell(process, call(1, "run_bash", code="echo here"))
        assert process.stdin is not None
        told = [json.loads(process.stdout.readline()) for _ in range(6)]
        process.stdin.close()
        assert process.wait(60) == 0
    errors = [
        answer["error"] for answer in told if "error" in answer
    ]  # the first is there before the handshake
    assert [error["code"] for error in errors] == [-32700, -32600, -32600, -32700]
    assert "16,777,216 bytes at most" in errors[2]["message"]
    assert told[-1]["result"]["structuredContent"]["output"] == "here\n"


def test_a_policys_question_is_withdrawn_when_its_call_is_cancelled(tmp_path: Path) -> None:
    able = {**HELLO, "capabilities": {"elicitation": {}}}
    with subprocess.Popen(
        command(tmp_path, "--policy", "ask-writes"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None

        def heard(what: str) -> Any:
            lines = map(json.loads, process.stdout or ())
            return next(message for message in lines if message.get("method") == what)

        tell(process, {**START[0], "params": able}, START[1], call(1, "create_file", path="a", content=""))
        question = heard("elicitation/create")
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
        tell(process, cancel)
        assert heard("notifications/cancelled")["params"]["requestId"] == question["id"]
        _, said = process.communicate(timeout=60)
    assert said == b""  # not a line for each question


def test_a_client_that_never_reads_the_log_is_served_and_reads_messages_alone(tmp_path: Path) -> None:
    tool = "from agentd import tool\nprint('x' * 200_000)\n\n@tool\ndef shout() -> str:\n    'Shout.'\n    return '!'\n"
    (tmp_path / "tools.py").write_text(tool)
    arguments = [*command(tmp_path), "--tool", str(tmp_path / "tools.py")]
    with subprocess.Popen(
        arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        tell(process, *START, call(1, "run_python", code="from lib.tools import shout\nprint(shout())"))
        told = [json.loads(process.stdout.readline()) for _ in range(2)]
        process.stdin.close()
        assert process.wait(60) == 0
    assert told[1]["result"]["structuredContent"]["output"] == "!\n"


@pytest.mark.parametrize("way", ["closes", "killed"])
def test_a_client_that_ends_in_the_middle_leaves_no_server_and_no_block(tmp_path: Path, way: str) -> None:
    arguments = [*command(tmp_path), "--mcp-config", str(shop(tmp_path))]
    script = tmp_path / "client.py"
    lines = [json.dumps(message) for message in (*START, call(1, "run_bash", code=LONG))]
    script.write_text(
        "import subprocess, sys\n"
        f"served = subprocess.Popen({arguments!r}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)\n"
        f"served.stdin.write({chr(10).join([*lines, '']).encode()!r})\n"
        "served.stdin.flush()\n"
        "print(served.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as person:
        assert person.stdout is not None
        assert person.stdin is not None
        server = int(person.stdout.readline())
        block = begun(tmp_path)
        if way == "killed":
            person.kill()
        else:
            person.stdin.close()
        person.wait(60)
        until(lambda: is_over(block))
        until(lambda: is_over(server))
