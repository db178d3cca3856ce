"""The server, driven by the MCP SDK's client, over both transports and both revisions."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_serving import RED, client, command, served, text
from mcp_types import ElicitResult, ErrorData, InputRequiredResult
from native import need_native

pytestmark = [pytest.mark.anyio, pytest.mark.slow]  # each test starts a server or two

MODES = pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["2026-07-28", "handshake"])


@MODES
async def test_bash_and_python_stay_and_both_say_how_they_ended(tmp_path: Path, mode: Any) -> None:
    async with client(tmp_path, mode=mode) as opened:
        await opened.call_tool("run_bash", {"code": "x=7; mkdir sub; cd sub"})
        result = await opened.call_tool("run_bash", {"code": "echo $x $(basename $PWD)"})
        assert text(result) == "7 sub"
        await opened.call_tool("run_python", {"code": "y = 1"})
        assert text(await opened.call_tool("run_python", {"code": "print(y + 1)"})) == "2"
        failed = await opened.call_tool("run_python", {"code": "print('before')\nprint(z)"})
        assert failed.is_error
        assert failed.structured_content is not None
        assert (failed.structured_content["exit_code"], failed.structured_content["status"]) == (1, "failed")
        assert "before" in text(failed)
        assert "NameError" in text(failed)
        silent = await opened.call_tool("run_bash", {"code": "exit 4"})
        assert silent.is_error
        assert text(silent) == "[failed, exit code 4]"  # all that a client has which shows the text alone


async def test_a_call_that_takes_too_long_loses_the_variables_and_says_so(tmp_path: Path) -> None:
    async with client(tmp_path, "--timeout", "2") as opened:
        await opened.call_tool("run_python", {"code": "y = 1"})
        late = await opened.call_tool("run_python", {"code": "import time\ntime.sleep(60)"})
        assert "the kept Python namespace is lost" in text(late)
        gone = await opened.call_tool("run_python", {"code": "print('y' in globals())"})
        assert text(gone).startswith("False")


async def test_python_is_fresh_in_each_call_if_asked_for_and_the_tool_says_which(tmp_path: Path) -> None:
    async with client(tmp_path, "-o", "state=fresh") as opened:
        await opened.call_tool("run_python", {"code": "y = 1"})
        assert text(await opened.call_tool("run_python", {"code": "print('y' in globals())"})) == "False"
        described = {tool.name: tool.description or "" for tool in (await opened.list_tools()).tools}
        assert "each time in a fresh interpreter" in described["run_python"]
    async with client(tmp_path) as opened:
        described = {tool.name: tool.description or "" for tool in (await opened.list_tools()).tools}
        assert "variables stay" in described["run_python"]


async def test_a_file_is_written_as_it_was_given_and_listed(tmp_path: Path) -> None:
    content = "~~~~\n```python:execute\nprint(1)\n```\n~~~\n"
    async with client(tmp_path) as opened:
        made = await opened.call_tool("create_file", {"path": "deep/a.md", "content": content})
        assert not made.is_error, text(made)
        listed = await opened.call_tool("list_files", {})
    assert (tmp_path / "w" / "deep" / "a.md").read_text() == content
    assert text(listed).splitlines()[:2] == ["deep/", f"deep/a.md  {len(content)} bytes"]


@pytest.mark.parametrize(
    "content",
    ["no line feed at the end", "two\r\nlines\r\n", "a lone \r here", "~" * 5000, "bash:execute\necho", ""],
    ids=["no-end", "crlf", "cr", "fences", "header", "empty"],
)
async def test_a_file_has_the_very_characters_that_were_given(tmp_path: Path, content: str) -> None:
    async with client(tmp_path) as opened:
        made = await opened.call_tool("create_file", {"path": '"~a" b', "content": content})
        assert not made.is_error, text(made)
    assert (tmp_path / "w" / '"~a" b').read_bytes() == content.encode()


async def test_a_log_in_one_file_has_all_calls_that_run_code_in_their_order(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    for words in (["one", "two"], ["three"]):
        async with client(tmp_path, "--log", str(log)) as opened:
            for word in words:
                await opened.call_tool("run_bash", {"code": f"echo {word}"})
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    assert [e["code"] for e in logged if e["type"] == "code_start"] == ["echo one", "echo two", "echo three"]


async def test_bash_with_the_line_ends_of_windows_runs(tmp_path: Path) -> None:
    async with client(tmp_path) as opened:
        assert text(await opened.call_tool("run_bash", {"code": "true\r\necho here\r\n"})) == "here"


@pytest.mark.parametrize("output_is_read", [True, False], ids=["silent-client", "client-that-does-not-read"])
async def test_a_signal_ends_the_server_though_its_client_stays(tmp_path: Path, output_is_read: bool) -> None:
    with subprocess.Popen(command(tmp_path), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        requests = [{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}]
        if not output_is_read:  # more answers than the pipe has room for
            requests += [{"jsonrpc": "2.0", "id": n, "method": "tools/list"} for n in range(2, 100)]
        try:
            for request in requests:
                process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            assert b"result" in await anyio.to_thread.run_sync(process.stdout.readline)
            process.send_signal(signal.SIGTERM)
            assert await anyio.to_thread.run_sync(lambda: process.wait(60)) == 143
        finally:
            process.kill()


async def test_what_stands_in_the_workspace_for_the_sandbox_alone_is_not_listed(tmp_path: Path) -> None:
    need_native()
    async with client(tmp_path, "-e", "native") as opened:
        seen = await opened.call_tool("run_bash", {"code": "ls -a; mkdir .claude.d; echo 1 > mine.txt"})
        listed = await opened.call_tool("list_files", {})
        inside = await opened.call_tool("list_files", {"path": ".claude"})
    assert ".bashrc" in text(seen)  # it is there, so that code puts no other in its place
    names = [line.split("  ")[0] for line in text(listed).splitlines() if not line.startswith("skills/")]
    assert names == [".claude.d/", "mine.txt"]
    assert "commands" not in text(inside)


async def test_tools_of_other_servers_are_functions_that_can_be_found(tmp_path: Path, upstream: Path) -> None:
    async with client(tmp_path, "--mcp-config", str(upstream)) as opened:
        found = text(await opened.call_tool("search_tools", {"query": "costs"}))
        assert found.splitlines()[0] == "from lib.tools import price  # price(name: string)"
        code = "from lib.tools import price\nprint(sum(price(name='x' * n) for n in range(10)))"
        assert text(await opened.call_tool("run_python", {"code": code})) == "45"


async def test_a_checkpoint_brings_files_and_shell_back(tmp_path: Path) -> None:
    async with client(tmp_path) as opened:
        await opened.call_tool("run_bash", {"code": "x=1; echo one > a"})
        kept = await opened.call_tool("checkpoint", {"label": "start"})
        assert kept.structured_content is not None
        await opened.call_tool("run_bash", {"code": "x=2; rm a"})
        await opened.call_tool("rewind", {"checkpoint": "start"})
        assert text(await opened.call_tool("run_bash", {"code": "cat a; echo $x"})) == "one\n1"
        wrong = await opened.call_tool("rewind", {"checkpoint": "never"})
        assert wrong.is_error
        assert "never" in text(wrong)


@MODES
async def test_a_policy_asks_the_clients_person_and_code_reads_a_no(
    tmp_path: Path, upstream: Path, mode: Any
) -> None:
    asked: list[str] = []
    answers = iter(["allow once", "deny"])

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message)
        return ElicitResult(action="accept", content={"answer": next(answers)})

    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: tool, name: order}\n")
    options = ("--mcp-config", str(upstream), "--policy", str(rules))
    code = "from lib.tools import order\nprint(order(name='tea'))"
    async with client(tmp_path, *options, mode=mode, elicitation_callback=answer) as opened:
        assert text(await opened.call_tool("run_python", {"code": code})) == "ordered tea"
        denied = await opened.call_tool("run_python", {"code": code})
    assert "ToolDeniedError" in text(denied)
    assert [question.splitlines() for question in asked] == [
        ["May the code call the tool order of 'shop'?", "name: tea"]
    ] * 2


async def test_a_client_that_cannot_ask_denies_and_says_why(tmp_path: Path, upstream: Path) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: tool, name: order}\n")
    async with client(tmp_path, "--mcp-config", str(upstream), "--policy", str(rules)) as opened:
        code = "from lib.tools import order\nprint(order(name='tea'))"
        assert "it has no elicitation" in text(await opened.call_tool("run_python", {"code": code}))


@MODES
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (ElicitResult(action="accept", content={}), "answered None, not one of 'allow once'"),
        (
            ElicitResult(action="accept", content={"answer": "allow always"}),
            "answered 'allow always', not one of",
        ),
        (ElicitResult(action="accept", content={"answer": "deny"}), "the client's person has said no"),
        (ElicitResult(action="decline"), "the person chose: decline"),
    ],
    ids=["empty", "unknown", "deny", "decline"],
)
async def test_an_answer_that_allows_nothing_denies_and_says_what_it_was(
    tmp_path: Path, answer: Any, told: str, mode: Any
) -> None:
    async def give(context: Any, params: Any) -> Any:
        return answer

    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: create}\n")
    async with client(tmp_path, "--policy", str(rules), mode=mode, elicitation_callback=give) as opened:
        denied = await opened.call_tool("create_file", {"path": "a", "content": "x"})
    assert told in text(denied)
    assert not (tmp_path / "w" / "a").exists()


async def test_a_client_that_cannot_ask_now_denies_with_its_own_words(tmp_path: Path) -> None:
    async def give(context: Any, params: Any) -> Any:
        return ErrorData(code=-32000, message="nobody is here")

    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: create}\n")
    async with client(tmp_path, "--policy", str(rules), mode="legacy", elicitation_callback=give) as opened:
        denied = await opened.call_tool("create_file", {"path": "a", "content": "x"})
    assert "the MCP client could not ask: nobody is here" in text(denied)
    assert not (tmp_path / "w" / "a").exists()


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_questions_at_once_and_one_after_the_other_are_answered_between_requests(
    tmp_path: Path, upstream: Path, transport: str
) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: tool, name: order}\n")
    options = ("--mcp-config", str(upstream), "--policy", str(rules))
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> ElicitResult:
        asked.append(params.message.splitlines()[-1])
        return ElicitResult(action="accept", content={"answer": "allow once"})

    code = (
        "from concurrent.futures import ThreadPoolExecutor\nfrom lib.tools import order\n"
        "with ThreadPoolExecutor() as pool:\n"
        "    print(sorted(pool.map(lambda name: order(name=name), ['a', 'b', 'c'])))\n"
        "print(order(name='d'))"
    )
    with ExitStack() as stack:
        url = stack.enter_context(served(tmp_path, *options)) if transport == "http" else ""
        opening = (
            Client(url, elicitation_callback=answer)
            if url
            else client(tmp_path, *options, elicitation_callback=answer)
        )
        async with opening as opened:
            result = await opened.call_tool("run_python", {"code": code})
    assert text(result) == "['ordered a', 'ordered b', 'ordered c']\nordered d"
    assert sorted(asked) == ["name: a", "name: b", "name: c", "name: d"]


async def test_a_state_holds_once_and_for_its_own_call_alone(tmp_path: Path) -> None:
    async def answer(context: Any, params: Any) -> ElicitResult:
        raise AssertionError("the loop is this test's own")

    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: create}\n")
    given = {"path": "a", "content": "x"}
    yes = {"question-1": ElicitResult(action="accept", content={"answer": "allow once"})}
    async with client(tmp_path, "--policy", str(rules), elicitation_callback=answer) as opened:

        async def call(arguments: dict[str, str], **more: Any) -> Any:
            return await opened.session.call_tool("create_file", arguments, allow_input_required=True, **more)

        first = await call(given)
        assert isinstance(first, InputRequiredResult)
        for arguments, state in (({**given, "path": "b"}, first.request_state), (given, "guessed")):
            with pytest.raises(MCPError, match="requestState"):
                await call(arguments, request_state=state, input_responses=yes)
        again = await call(given, request_state=first.request_state)  # without an answer
        assert isinstance(again, InputRequiredResult)
        assert again.request_state != first.request_state
        with pytest.raises(MCPError, match="no call waits"):
            await call(given, request_state=first.request_state, input_responses=yes)
        done = await call(given, request_state=again.request_state, input_responses=yes)
        assert not done.is_error
    assert (tmp_path / "w" / "a").read_text() == "x"
    assert not (tmp_path / "w" / "b").exists()


async def test_a_client_that_does_not_come_back_with_an_answer_ends_its_block(tmp_path: Path) -> None:
    async def answer(context: Any, params: Any) -> ElicitResult:
        raise AssertionError("the loop is this test's own")

    rules = tmp_path / "policy.yaml"
    rules.write_text("timeout_s: 0.2\nrules:\n  - {verdict: ask, kind: create}\n")
    async with client(tmp_path, "--policy", str(rules), elicitation_callback=answer) as opened:
        given = {"path": "a", "content": "x"}
        first = await opened.session.call_tool("create_file", given, allow_input_required=True)
        assert isinstance(first, InputRequiredResult)
        # the sandbox is free again
        assert text(await opened.call_tool("run_bash", {"code": "ls a 2>&- || echo none"})).endswith("none")


async def test_output_is_progress_while_code_runs(tmp_path: Path) -> None:
    heard: list[str | None] = []
    is_heard = anyio.Event()

    async def progress(done: float, total: float | None, message: str | None) -> None:
        heard.append(message)
        is_heard.set()
        (tmp_path / "w" / "go").touch()

    async with client(tmp_path) as opened:
        code = "echo begun; until [ -e go ]; do sleep 0.05; done; echo over"
        result = await opened.call_tool("run_bash", {"code": code}, progress_callback=progress)
    assert is_heard.is_set()
    assert heard[0] == "begun\n"
    assert text(result) == "begun\nover"


async def test_a_call_that_is_cancelled_ends_its_code_and_the_next_one_works(tmp_path: Path) -> None:
    async with client(tmp_path) as opened:
        with anyio.move_on_after(30) as scope:
            async with anyio.create_task_group() as group:

                async def wait() -> None:
                    await opened.call_tool("run_bash", {"code": "echo $BASHPID > pid; sleep 600"})

                group.start_soon(wait)
                while not (tmp_path / "w" / "pid").exists() or not (tmp_path / "w" / "pid").read_text():
                    await anyio.sleep(0.05)
                group.cancel_scope.cancel()
        assert not scope.cancelled_caught
        assert text(await opened.call_tool("run_bash", {"code": "echo here"})) == "here"
        pid = int((tmp_path / "w" / "pid").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_wrong_arguments_are_told_all_at_once(tmp_path: Path) -> None:
    async with client(tmp_path) as opened:
        wrong = await opened.call_tool("create_file", {"pth": "a", "content": 3})
        assert "pth: is not known; did you mean 'path'?; path: is missing; content: must be text" in text(
            wrong
        )
        for path in ("../out", "/etc/x", "a\nb"):
            made = await opened.call_tool("create_file", {"path": path, "content": "x"})
            assert made.is_error
        for path in ("..", "/", "nowhere"):
            assert (await opened.call_tool("list_files", {"path": path})).is_error
    assert not (tmp_path / "out").exists()


# --- over HTTP -----------------------------------------------------------------------------------------------


async def test_each_session_has_a_sandbox_of_its_own_which_ends_with_it(
    over_http: str, tmp_path: Path
) -> None:
    async with Client(over_http, mode="legacy") as one, Client(over_http, mode="legacy") as two:
        assert "sandbox" not in (await one.list_tools()).tools[0].input_schema["properties"]
        await one.call_tool("run_bash", {"code": "x=one; echo $x > a"})
        await two.call_tool("run_bash", {"code": "echo two > a"})
        assert text(await one.call_tool("run_bash", {"code": "cat a; echo $x"})) == "one\none"
        assert text(await two.call_tool("run_bash", {"code": "cat a; echo [$x]"})) == "two\n[]"
        await one.call_tool("run_python", {"code": "y = 1"})
        assert text(await two.call_tool("run_python", {"code": "print('y' in globals())"})) == "False"
        assert len([folder for folder in (tmp_path / "w").iterdir() if folder.is_dir()]) == 2


async def test_a_client_without_sessions_names_its_sandbox(over_http: str) -> None:
    async with Client(over_http) as opened:
        assert "sandbox" in (await opened.list_tools()).tools[0].input_schema["properties"]
        await opened.call_tool("run_bash", {"code": "x=1", "sandbox": "one"})
        assert text(await opened.call_tool("run_bash", {"code": "echo [$x]", "sandbox": "one"})) == "[1]"
        assert text(await opened.call_tool("run_bash", {"code": "echo [$x]"})) == "[]"
        wrong = await opened.call_tool("run_bash", {"code": "true", "sandbox": "../up"})
        assert "letters, digits" in text(wrong)


@pytest.mark.parametrize("over_http", [["--max-sandboxes", "1"]], indirect=True)
async def test_more_sandboxes_than_allowed_are_refused_in_a_result(over_http: str) -> None:
    async with Client(over_http) as opened:
        await opened.call_tool("run_bash", {"code": "true", "sandbox": "one"})
        refused = await opened.call_tool("run_bash", {"code": "true", "sandbox": "two"})
        assert "all 1 sandboxes are in use" in text(refused)
        assert not (await opened.call_tool("run_bash", {"code": "true", "sandbox": "one"})).is_error


@pytest.mark.parametrize("over_http", [["--token-env", "THE_TOKEN"]], indirect=True)
async def test_a_request_without_the_token_a_foreign_host_and_broken_json_are_refused(over_http: str) -> None:
    import http.client
    from urllib.parse import urlsplit

    place = urlsplit(over_http)
    good = {
        "Authorization": "Bearer s3cret",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
    }

    challenges: list[tuple[str, bytes]] = []

    def post(body: str, **headers: str) -> int:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        connection.request("POST", "/mcp", body, headers)
        answer = connection.getresponse()
        if answer.status == 401:
            challenges.append((answer.headers["WWW-Authenticate"], answer.read().partition(b":")[0]))
        connection.close()
        return answer.status

    call = partial_post(post)
    assert await call("{}", **{**good, "Authorization": "Bearer wrong"}) == 401
    assert await call("{}", **{**good, "Authorization": "Basic s3cret"}) == 401
    assert await call("{}", **{"Content-Type": "application/json"}) == 401
    wrong, *missing = challenges
    assert wrong == ('Bearer error="invalid_token"', b"the bearer token is wrong")
    assert missing == [("Bearer", b"a bearer token is needed")] * 2
    assert await call("no json", **{**good, "Authorization": "bearer s3cret"}) == 400  # schemes have no case
    assert await call("{}", **good, Host="evil.example") == 421
    assert await call("{}", **good, Origin="http://evil.example") == 403
    assert await call("no json", **good) == 400


def partial_post(post: Any) -> Any:
    async def call(body: str, **headers: str) -> int:
        return int(await anyio.to_thread.run_sync(lambda: post(body, **headers)))

    return call


def test_an_address_that_others_reach_needs_a_token(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--http", "0.0.0.0:0"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--token-env" in done.stderr


def test_what_is_for_http_alone_is_refused_without_it(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path, "--token-env", "PATH"), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "--token-env and --allowed-host need --http" in done.stderr


def test_a_person_at_a_terminal_is_told_that_it_waits_for_a_client(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command(tmp_path), stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as served:
        os.close(theirs)
        assert served.stderr is not None
        told = served.stderr.readline()
        served.send_signal(signal.SIGINT)
        served.wait(60)
    os.close(ours)
    assert b"waits for it; clients start it by themselves" in told


@MODES
async def test_a_picture_that_code_shows_is_in_the_result(tmp_path: Path, mode: Any) -> None:
    async with client(tmp_path, mode=mode) as opened:
        result = await opened.call_tool("run_python", {"code": RED})
        told, picture = result.content
        assert told.type == "text"
        assert told.text.startswith("shown\n[note: picture 1")
        assert picture.type == "image"
        assert picture.mime_type == "image/png"
        assert base64.b64decode(picture.data).startswith(b"\x89PNG")
        assert len((await opened.call_tool("run_bash", {"code": "true"})).content) == 1
    async with client(tmp_path, "--no-images", mode=mode) as opened:
        assert (await opened.call_tool("run_python", {"code": RED})).is_error
