"""One patched client, made and used before the process forks: it works in every child, and goes on in the parent."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd_openai import patch_openai_with_ptc, unpatch_openai
from fake_openai import Answer, FakeOpenAI
from openai import OpenAI
from places import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

SAID = re.compile(r"task (\S+) said hello from (\d+) in (\d+)")
SUPPORT = ROOT / "tests/support"
PROGRAM = [sys.executable, "-W", "ignore::DeprecationWarning", str(SUPPORT / "forking_app.py")]
TASKS = 6  # that the program gives Celery


def decide(body: dict[str, Any]) -> Answer:
    """Have a block run, then say what it has printed."""
    texts = [str(message["content"]) for message in body["messages"] if message["role"] != "system"]
    task = re.findall(r"task \S+", texts[0])[0]
    found = re.findall(r"hello from (\d+)", texts[-1])
    if found:
        return Answer(text=f"{task} said hello from {found[0]}")
    return Answer(text="```bash:execute\necho hello from $$\n```\n")


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(repeat=True) as server:
        server.decide = decide
        yield server


@pytest.fixture
def env(server: FakeOpenAI, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "FORKING_APP_URL": server.base_url, "FORKING_APP_DIR": str(tmp_path)}


def said(lines: list[str]) -> list[tuple[str, str]]:
    """Return task and process of each line, all of which must be answers."""
    found = [SAID.fullmatch(line) for line in lines]
    assert all(found), lines
    return [(match[1], match[3]) for match in found if match is not None]


def run(env: dict[str, str], *arguments: str) -> list[tuple[str, str]]:
    done = subprocess.run(
        [*PROGRAM, *arguments], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return said(done.stdout.splitlines())


def test_children_of_a_fork_use_the_client_at_the_same_time_as_its_parent(env: dict[str, str]) -> None:
    answers = run(env, "os.fork")
    assert len(answers) == 10
    assert len({process for _, process in answers}) == 3
    assert answers[-1][0] == "last"


@pytest.mark.slow
def test_a_forked_child_cannot_go_on_with_the_stream_of_its_parent_which_goes_on_there(
    server: FakeOpenAI, tmp_path: Path
) -> None:
    client = patch_openai_with_ptc(OpenAI(base_url=server.base_url, api_key="none"), cwd=tmp_path)
    messages: Any = [{"role": "user", "content": "task 0"}]
    stream = client.chat.completions.create(model="m", messages=messages, stream=True)
    next(iter(stream))
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)  # it must not wait for ever
        try:
            deque(stream, maxlen=0)
        except ConfigError as error:
            os._exit(7 if "parent of this process" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    said = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert "task 0 said hello from" in said
    unpatch_openai(client)


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_of_multiprocessing_use_the_client(env: dict[str, str], method: str) -> None:
    answers = run({**env, "FORKING_APP_WARM": "1"}, method)
    assert [task for task, _ in answers] == ["first", "0", "1", "2", "3", "last"]
    assert answers[0][1] == answers[-1][1]
    assert answers[0][1] not in {process for _, process in answers[1:-1]}


def ask_over(path: Path, task: int) -> str:
    connection = http.client.HTTPConnection("localhost", timeout=30)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(30)
    connection.sock.connect(str(path))
    connection.request("GET", f"/?{task}")
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 200, text
    return text


def wait_until(there: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 40
    while not there.exists():
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)


def end(process: subprocess.Popen[str]) -> str:
    """Ask it to end, and return what it has said."""
    process.send_signal(signal.SIGTERM)
    try:
        return process.communicate(timeout=30)[0]
    finally:
        process.kill()


@pytest.mark.slow
def test_workers_of_gunicorn_use_a_client_that_was_used_before_they_were_forked(
    env: dict[str, str], tmp_path: Path
) -> None:
    place = tmp_path / "gunicorn.sock"
    command = ["-m", "gunicorn", "--preload", "-w", "2", "--bind", f"unix:{place}", "--no-control-socket"]
    process = subprocess.Popen(
        [sys.executable, *command, "forking_app:application"],
        env={**env, "FORKING_APP_WARM": "1"},
        cwd=SUPPORT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        wait_until(place, process)
        answers = said([ask_over(place, task) for task in range(8)])
    finally:
        log = end(process)
    assert [task for task, _ in answers] == [str(task) for task in range(8)]
    assert str(process.pid) not in {worker for _, worker in answers}
    assert process.returncode == 0, log


@pytest.mark.slow
def test_workers_of_celery_use_a_client_that_was_used_before_they_were_forked(
    env: dict[str, str], tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "celery"],
        env={**env, "FORKING_APP_WARM": "1", "C_FORCE_ROOT": "1"},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for number in range(TASKS):
            wait_until(tmp_path / f"said{number}", process)
    finally:
        log = end(process)
    answers = said([(tmp_path / f"said{number}").read_text() for number in range(TASKS)])
    assert str(process.pid) not in {worker for _, worker in answers}
    assert process.returncode == 0, log
