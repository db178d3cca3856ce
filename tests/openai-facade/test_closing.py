"""What `close()` of a patched client ends, and what it leaves."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from agentd.errors import ModelStreamError
from agentd_openai import patch_openai_with_mcp, patch_openai_with_ptc, unpatch_openai
from agentd_openai.methods import PatchedMethods
from fake_openai import FakeOpenAI
from ways import WAYS, call

WHO = "```bash:execute\necho $PPID | tee pid\n```\n"


@pytest.fixture(autouse=True)
def without_collector() -> Iterator[None]:
    """Whatever ends here is ended by what was called."""
    gc.disable()
    yield
    gc.enable()


def is_gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return not Path(f"/proc/{pid}").exists()


def runner_of(client: Any) -> int:
    """Have a block say which process has started it, and return its pid; that one stays for the next one."""
    messages: Any = [{"role": "user", "content": "go"}]
    answer = client.chat.completions.create(model="m", messages=messages)
    pid = int(answer.agentd["executions"][0]["output"])
    assert Path(f"/proc/{pid}").exists()
    return pid


@pytest.mark.parametrize("way", WAYS)
def test_close_ends_the_sandbox_at_once(way: str, serve: Any, patched: Any, tmp_path: Path) -> None:
    client = patched(serve(WHO, "done"), asynchronous=way.startswith("async"), cwd=tmp_path)
    call(way, client)  # which closes an async client itself
    if not way.startswith("async"):
        client.close()
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_the_end_of_with_ends_it(serve: Any, tmp_path: Path) -> None:
    server: FakeOpenAI = serve(WHO, "done")
    with server.client() as client:
        pid = runner_of(patch_openai_with_ptc(client, cwd=tmp_path, tools=[]))
    assert is_gone(pid)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_async_client_ends_what_is_under_way(backend: str, serve: Any, tmp_path: Path) -> None:
    server: FakeOpenAI = serve("```bash:execute\necho $$ > pid; sleep 60\n```\n", "done")

    async def main() -> int:
        errors: list[str] = []
        async with server.async_client() as client, anyio.create_task_group() as tasks:
            patch_openai_with_ptc(client, cwd=tmp_path, tools=[])

            async def ask() -> None:
                try:
                    await client.responses.create(model="m", input="go")
                except Exception as exc:
                    errors.append(str(exc))

            tasks.start_soon(ask)
            with anyio.fail_after(20):
                while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                    await anyio.sleep(0.01)
                await client.close()
            pid = int((tmp_path / "pid").read_text())
        assert "closed" in errors[0]
        return pid

    assert is_gone(anyio.run(main, backend=backend))


@pytest.mark.parametrize("end", ["close", "cleanup_ptc"])
@pytest.mark.parametrize("way", [w for w in WAYS if w.startswith("sync")])
def test_a_call_in_another_thread_ends_with_an_error(
    way: str, end: str, serve: Any, patched: Any, tmp_path: Path
) -> None:
    server = serve("```bash:execute\necho $$ > pid; sleep 60\n```\n", "done")
    client = patched(server, cwd=tmp_path)
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            call(way, client)
        except BaseException as exc:
            errors.append(exc)

    thread = threading.Thread(target=ask)
    thread.start()
    until = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    getattr(client, end)()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(errors[0], openai.APIConnectionError)
    assert isinstance(errors[0], ModelStreamError)
    assert "was ended before its answer was whole" in str(errors[0])
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_copies_of_one_connection_end_together(serve: Any, patched: Any) -> None:
    client = patched(serve(WHO, "done"))
    copy = client.with_options(timeout=5)
    pid = runner_of(copy)
    client.close()
    assert is_gone(pid)


@pytest.mark.parametrize("first", ["original", "copy"])
def test_a_copy_with_connections_of_its_own_keeps_what_they_share(
    first: str, serve: Any, patched: Any
) -> None:
    client = patched(serve(WHO, "done", WHO, "done"))
    copy = client.with_options(http_client=openai.DefaultHttpxClient())
    order = (client, copy) if first == "original" else (copy, client)
    pid = runner_of(order[0])
    order[0].close()
    assert runner_of(order[1]) == pid
    order[1].close()
    assert is_gone(pid)


def test_a_client_with_both_patches_ends_once(serve: Any, patched: Any) -> None:
    client = patched(serve(WHO, "done"))
    patch_openai_with_mcp(client)
    pid = runner_of(client)
    client.close()
    client.close()
    assert is_gone(pid)


def test_after_unpatching_close_is_the_sdks_own(serve: Any, patched: Any) -> None:
    client = patched(serve())
    unpatch_openai(client)
    assert "close" not in vars(client)
    client.close()
    assert client.is_closed()


def test_somebody_elses_close_is_called_and_comes_back(serve: Any, tmp_path: Path) -> None:
    client = serve().client()
    own, closed = client.close, []
    client.close = theirs = lambda: (closed.append(True), own())
    patch_openai_with_ptc(client, cwd=tmp_path, tools=[])
    client.close()
    assert closed
    assert client.is_closed()
    unpatch_openai(client)
    assert client.close is theirs


def test_a_close_that_was_put_there_later_stays(serve: Any, patched: Any) -> None:
    client = patched(serve())
    ours: Callable[[], None] = client.close
    client.close = later = lambda: ours()
    unpatch_openai(client)
    assert client.close is later
    client.close()


@pytest.mark.parametrize("way", WAYS)
def test_what_a_run_has_said_goes_with_it(
    way: str, serve: Any, patched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the garbage collector: it would come late, and a conversation may be large."""
    calls: list[weakref.ref[Any]] = []
    make = PatchedMethods.call

    def noted(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        calls.append(weakref.ref(made))
        return made

    monkeypatch.setattr(PatchedMethods, "call", noted)
    client = patched(serve(WHO, "done"), asynchronous=way.startswith("async"))
    call(way, client)
    end = time.monotonic() + 5
    while calls[0]() is not None and time.monotonic() < end:  # a thread may be about to let go of it
        time.sleep(0.01)
    assert calls[0]() is None
