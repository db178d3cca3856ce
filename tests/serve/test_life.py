"""Many requests at once, clients that go away or do not read, and the end of the server."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd_history import History
from agentd_serve.answering import AnswerLimits
from fake_openai import Answer, FakeOpenAI
from pictures import png
from served import Served, is_gone, until

ASK: Any = [{"role": "user", "content": "How many?"}]
GOOD: dict[str, Any] = {"model": "m1", "messages": ASK}
SLEEP = "```bash:execute\necho $$ > {pid}; sleep 300\n```\n"


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []

    def run() -> None:
        try:
            results.append(work())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_a_client_that_goes_away_ends_its_code_and_its_sandbox(tmp_path: Path, streamed: bool) -> None:
    pid = tmp_path / "pid"
    with (
        FakeOpenAI(SLEEP.format(pid=pid), "Fine.", repeat=False) as fake,
        Served(fake, tmp_path / "root") as served,
    ):
        opened = served.begin({**GOOD, "stream": streamed})
        code = int(until(lambda: pid.exists() and pid.read_text()))
        opened.close()
        until(lambda: is_gone(code))
        until(lambda: not any((tmp_path / "root" / "requests").glob("*/*")))
        assert served.client().chat.completions.create(**GOOD).choices[0].message.content == "Fine."


def test_a_client_that_goes_away_while_the_model_writes_ends_the_request_to_the_model(tmp_path: Path) -> None:
    with FakeOpenAI(Answer(text="On and on ", forever=True)) as fake, Served(fake, tmp_path) as served:
        opened = served.begin({**GOOD, "stream": True})
        assert opened.recv(100)
        opened.close()
        assert fake.hung_up.wait(60)


def test_a_second_request_of_one_session_is_told_so_and_the_first_is_not_disturbed(tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with FakeOpenAI(slow, "Other.", "Then.") as fake, Served(fake, tmp_path) as served:
        create = served.client().chat.completions.create
        named = {"X-Agentd-Session": "work"}
        stream = create(**GOOD, stream=True, extra_headers=named)
        next(iter(stream))
        with pytest.raises(openai.ConflictError) as caught:
            create(**GOOD, extra_headers=named)
        assert caught.value.response.headers["retry-after"] == "1"
        status, _, told = served.send(b"", "/agentd/sessions/work", method="DELETE")
        assert (status, told["error"]["code"]) == (409, "conversation_busy")
        assert (
            create(**GOOD, extra_headers={"X-Agentd-Session": "play"}).choices[0].message.content == "Other."
        )
        slow.gate.set()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).endswith("takes time.")
        assert create(**GOOD, extra_headers=named).choices[0].message.content == "Then."


def test_requests_beyond_those_that_run_wait_their_turn_and_beyond_those_are_refused(tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with FakeOpenAI(slow, "Next.") as fake, Served(fake, tmp_path, max_requests=1, queue=1) as served:
        create = served.client().chat.completions.create
        stream = create(**GOOD, stream=True)
        next(iter(stream))
        waiting, answers = in_thread(lambda: create(**GOOD).choices[0].message.content)
        until(lambda: served.settings.ring.anyone.under_way == 2)
        status, headers, told = served.send(GOOD)
        assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
        assert int(headers["retry-after"]) >= 1
        slow.gate.set()
        assert len(list(stream)) > 1
        waiting.join(60)
        assert answers == ["Next."]


def test_a_request_that_has_waited_too_long_is_refused(tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with FakeOpenAI(slow) as fake, Served(fake, tmp_path, max_requests=1, queue_s=0.05) as served:
        stream = served.client().chat.completions.create(**GOOD, stream=True)
        next(iter(stream))
        status, headers, told = served.send(GOOD)
        assert (status, told["error"]["code"]) == (429, "rate_limit_exceeded")
        assert "retry-after" in headers
        slow.gate.set()
        assert len(list(stream)) > 1


def test_a_reader_that_takes_nothing_is_given_up_and_the_others_are_served(tmp_path: Path) -> None:
    limits = AnswerLimits(stall_s=0.5)
    with FakeOpenAI() as fake, Served(fake, tmp_path, answers=limits) as served:
        endless = Answer(text="word " * 1000, forever=True)
        fake.piece = 5000
        fake.decide = lambda request: (
            Answer(text="Fine.") if "How" in request["messages"][-1]["content"] else endless
        )
        body = {"model": "m1", "messages": [{"role": "user", "content": "x"}], "stream": True}
        with served.begin(body) as opened:
            assert opened.recv(100)
            assert served.client().chat.completions.create(**GOOD).choices[0].message.content == "Fine."
            assert fake.hung_up.wait(60)  # what the model writes for it is not read on
        assert served.client().chat.completions.create(**GOOD).choices[0].message.content == "Fine."


def test_a_reader_that_is_slow_gets_all_of_it(tmp_path: Path) -> None:
    text = "word " * 40_000
    with FakeOpenAI(text, piece=2000) as fake, Served(fake, tmp_path) as served:
        with served.begin({**GOOD, "stream": True}) as opened:
            got = b""
            while not got.endswith(b"0\r\n\r\n"):
                got += opened.recv(3000)
        lines = re.sub(rb"\r\n[0-9a-f]+\r\n", b"", got).split(b"data: ")
    pieces = [json.loads(line) for line in lines[1:] if line.startswith(b"{")]
    assert "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces) == text


def test_a_conversation_that_is_idle_ends_and_what_was_its_is_forgotten(tmp_path: Path) -> None:
    with (
        FakeOpenAI("```bash:execute\ntrue\n```\n", "One.") as fake,
        Served(fake, tmp_path, idle_s=0.05) as served,
    ):
        client = served.client()
        first = client.responses.create(model="m1", input="a")
        until(lambda: not any((tmp_path / "requests").glob("*/*")))
        with pytest.raises(openai.BadRequestError, match="there is no response"):
            client.responses.create(model="m1", input="b", previous_response_id=first.id)


def test_beyond_the_most_conversations_the_oldest_ends(tmp_path: Path) -> None:
    limits = {"max_conversations": 2, "max_requests": 2}
    with FakeOpenAI("Fine.", repeat=True) as fake, Served(fake, tmp_path, **limits) as served:
        create = served.client().responses.create
        first, second, third = (create(model="m1", input="a").id for _ in range(3))
        with pytest.raises(openai.BadRequestError):
            create(model="m1", input="b", previous_response_id=first)
        for id in (second, third):
            assert create(model="m1", input="b", previous_response_id=id).output_text == "Fine."


def test_what_nobody_can_be_asked_about_is_denied_and_the_model_reads_why(tmp_path: Path) -> None:
    script = ["```note.txt:create\nhello\n```\n", "Denied."]
    with FakeOpenAI(*script) as fake, Served(fake, tmp_path, policy="ask-writes") as served:
        answer: Any = served.client().chat.completions.create(**GOOD)
    (done,) = answer.agentd["executions"]
    assert done["status"] == "rejected"
    assert "there is nobody" in str(fake.requests[-1]["messages"][-1]["content"])


TOOLS = """
from agentd import tool
@tool
def price(name: str) -> int:
    "What an article costs."
    return len(name)
"""


def test_code_calls_the_tools_of_the_server(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TOOLS)
    code = "```python:execute\nfrom lib.tools import price\nprint(price('abc'))\n```\n"
    tools = [f"python:{tmp_path / 'shop.py'}"]
    with FakeOpenAI(code, "1", code, "2") as fake, Served(fake, tmp_path / "root", tools=tools) as served:
        for _ in range(2):
            answer: Any = served.client().chat.completions.create(**GOOD)
            assert [done["output"] for done in answer.agentd["executions"]] == ["3\n"]


def test_a_model_may_call_the_tools_of_the_server_natively(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(TOOLS)
    script = [Answer(calls=[("call_1", "price", '{"name": "abc"}')]), "It costs 3."]
    settings: Any = {"tools": [f"python:{tmp_path / 'shop.py'}"], "acting": {"mode": "tools"}}
    with FakeOpenAI(*script) as fake, Served(fake, tmp_path / "root", **settings) as served:
        answer = served.client().chat.completions.create(**GOOD)
        assert answer.choices[0].message.content == "It costs 3."
    assert fake.requests[-1]["messages"][-1] == {"role": "tool", "tool_call_id": "call_1", "content": "3"}


# --- the end ---------------------------------------------------------------------------------------------


def test_the_end_of_a_server_lets_answers_finish_and_begins_no_more(tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with FakeOpenAI(slow) as fake, Served(fake, tmp_path) as served:
        stream = served.client().chat.completions.create(**GOOD, stream=True)
        next(iter(stream))
        served.begin_to_end()
        until(lambda: served.send(b"", "/health", method="GET")[0] == 503)
        status, headers, told = served.send(GOOD)
        assert (status, told["error"]["code"]) == (503, "shutting_down")
        assert int(headers["retry-after"]) >= 1
        slow.gate.set()
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).endswith("takes time.")


def test_what_does_not_end_in_time_is_ended_and_told_so(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with FakeOpenAI(SLEEP.format(pid=pid)) as fake, Served(fake, tmp_path / "root", grace_s=0.1) as served:
        asking, answers = in_thread(lambda: served.send({**GOOD, "stream": True}))
        code = int(until(lambda: pid.exists() and pid.read_text()))
        served.begin_to_end()
        asking.join(60)
        (status, _, told) = answers[0]
        assert status == 200
        assert (
            json.loads(told.decode().strip().splitlines()[-1].removeprefix("data: "))["error"]["code"]
            == "shutting_down"
        )
    assert is_gone(code)
    assert not (tmp_path / "root" / "requests").exists()


@contextmanager
def command(
    tmp_path: Path, fake: FakeOpenAI, *more: str, is_told: bool = True
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command. `is_told` are its model, its server and its executor."""
    told = ["-m", "m1", "-e", "subprocess", "--base-url", fake.base_url] if is_told else []
    names = ("AGENTD_MODEL", "OPENAI_MODEL", "OPENAI_BASE_URL", "AGENTD_EXECUTOR")
    own = {name: value for name, value in os.environ.items() if name not in names}
    where = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_STATE_HOME": str(tmp_path / "state")}
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "agentd",
            "serve",
            *told,
            "--port",
            "0",
            "--cwd",
            str(tmp_path / "root"),
            *more,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**own, **where},
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, line + process.stderr.read()
        try:
            yield process, found[0]
        finally:
            process.kill()


@pytest.mark.slow
def test_a_signal_ends_the_command_in_order(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = [SLEEP.format(pid=pid).replace("sleep 300", "sleep 2"), "Done."]
    with (
        FakeOpenAI(*script) as fake,
        command(tmp_path, fake) as (process, url),
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        asking, answers = in_thread(lambda: client.chat.completions.create(**GOOD).choices[0].message.content)
        until(lambda: pid.exists() and pid.read_text())
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert answers == ["Done."]
        assert process.wait(60) == 143
        assert not (tmp_path / "root" / "requests").exists()


@pytest.mark.slow
def test_a_log_that_nobody_reads_holds_nothing_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while os.write(writer, bytes(4096)):
            pass
    os.set_blocking(writer, True)
    arguments = ["-m", "m1", "-e", "subprocess", "--base-url", "http://127.0.0.1:1/v1", "--port", str(port)]
    with subprocess.Popen(
        [sys.executable, "-m", "agentd", "serve", *arguments, "--cwd", str(tmp_path / "root")],
        stderr=writer,
        env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path), "XDG_STATE_HOME": str(tmp_path)},
    ) as process:
        os.close(writer)
        try:
            until(lambda: answers_at(port))
            process.terminate()
            assert process.wait(60) == 143
        finally:
            process.kill()
            os.close(reader)


def answers_at(port: int) -> bool:
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        return bool(answer.status == 200)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "numbers", [(signal.SIGTERM, signal.SIGINT), (signal.SIGKILL,)], ids=["twice", "killed"]
)
def test_what_a_server_leaves_that_ends_at_once_the_next_one_removes(
    tmp_path: Path, numbers: tuple[int, ...]
) -> None:
    requests = tmp_path / "root" / "requests"
    pid = tmp_path / "pid"
    mine = "```bash:execute\necho mine > file; mkdir closed; touch closed/file; chmod 500 closed\n```\n"
    script = [mine + SLEEP.format(pid=pid), "Fine."]
    with FakeOpenAI(*script) as fake, Served(fake, tmp_path / "root") as living:
        with (
            command(tmp_path, fake) as (process, url),
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            asking, _ = in_thread(lambda: client.chat.completions.create(**GOOD))
            until(lambda: pid.exists() and pid.read_text())
            for number in numbers:
                process.send_signal(number)
            process.wait(60)
            asking.join(60)
        left = {one.name for one in requests.iterdir()}
        assert len([name for name in left if name.endswith(".lock")]) == 2
        kept = living.client().responses.create(model="m1", input="a")
        with command(tmp_path, fake):
            until(lambda: len(left & {one.name for one in requests.iterdir()}) == 1)
            assert kept.output_text == "Fine."
            assert len([*requests.glob("*/*")]) == 1  # that of the one that lives


@pytest.mark.slow
def test_what_agentd_toml_says_holds_and_a_project_may_only_make_it_stricter(tmp_path: Path) -> None:
    with FakeOpenAI("```bash:execute\ntrue\n```\n", repeat=True) as fake:
        own = tmp_path / "config" / "agentd"
        own.mkdir(parents=True)
        (own / "agentd.toml").write_text(
            f'model = "mine"\nbase-url = "{fake.base_url}"\nexecutor = "subprocess"\nhistory = "drop:2000"\n'
        )
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "agentd.toml").write_text('model = "theirs"\nmax-turns = 2\n')
        with (
            command(tmp_path, fake, is_told=False) as (_, url),
            openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
        ):
            assert [model.id for model in client.models.list()] == ["theirs"]
            answer: Any = client.chat.completions.create(model="theirs", messages=ASK)
            assert len(answer.agentd["executions"]) == 2  # the project's number of turns
    with (
        command(tmp_path, fake, "--no-config") as (_, url),
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        assert [model.id for model in client.models.list()] == ["m1"]


def test_a_history_bounds_what_the_model_is_told_of_a_long_conversation(tmp_path: Path) -> None:
    said = [
        {"role": role, "content": f"{number} " + "word " * 500}
        for number in range(20)
        for role in ("user", "assistant")
    ]
    history = History(rule="drop", max_tokens=4000)
    with FakeOpenAI("Fine.", repeat=True) as fake:
        for given in (None, history):
            with Served(fake, tmp_path, history=given) as served:
                answer = served.client().chat.completions.create(model="m1", messages=[*said, *ASK])  # type: ignore[list-item]
                assert answer.choices[0].message.content == "Fine."
        whole, bounded = (request["messages"] for request in fake.requests)
    assert len(whole) > 40
    assert len(bounded) < 20
    assert bounded[-1]["content"] == ASK[0]["content"]


def test_the_model_sees_the_pictures_that_code_shows(tmp_path: Path) -> None:
    shown = base64.b64encode(png()).decode()
    code = (
        f"```python:execute\nimport agentd, base64\nagentd.show(base64.b64decode('{shown}'), name='a')\n```\n"
    )
    settings: Any = {"session": {"executor": "subprocess", "images": True}}
    with FakeOpenAI(code, "It is red.") as fake, Served(fake, tmp_path, **settings) as served:
        assert (
            served.client().responses.create(model="m1", input="Which colour?").output_text.endswith("red.")
        )
    (picture,) = [
        part["image_url"]["url"]
        for message in fake.requests[-1]["messages"]
        if isinstance(message["content"], list)
        for part in message["content"]
        if part["type"] == "image_url"
    ]
    assert picture.startswith("data:image/png;base64,")


def refused(*arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "agentd", "serve", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.slow
def test_what_is_wrong_on_the_command_line_is_told_before_anything_is_served(tmp_path: Path) -> None:
    assert "--keys" in refused("-m", "m1", "--host", "0.0.0.0")
    (tmp_path / "keys.yaml").write_text("keys: [{name: a}]")
    assert "keys.yaml:1:8" in refused("-m", "m1", "--keys", str(tmp_path / "keys.yaml"))
    assert "no model" in refused()
    assert "the executor 'srt' does not work: " in refused("-m", "m1", "-e", "srt", AGENTD_SRT="/no/srt")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "take another port, or 0 for a free one" in refused(
            "-m", "m1", "--port", port, "--base-url", "http://127.0.0.1:1/v1"
        )
    assert "srtt" in refused("-m", "m1", "-e", "srtt", "--base-url", "http://127.0.0.1:1/v1")
    assert "0<=x<=65535" in refused("-m", "m1", "--port", "99999")
    assert "polcy" in refused("-m", "m1", "--policy", "polcy", "--base-url", "http://127.0.0.1:1/v1")
