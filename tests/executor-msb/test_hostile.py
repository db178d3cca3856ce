"""What a hostile guest, a hostile name and a microsandbox that does not answer can do: nothing, in bounded time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError, ExecutorError, RunnerStartError, SandboxUnavailableError
from agentd.types import BashAction
from agentd_executor_msb import executor as executor_module, vm as vm_module
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.factory import create_microsandbox_cli_executor
from agentd_executor_msb.places import slug
from agentd_skills import layout_of
from hypothesis import given, strategies as st
from standin import StandIn, root

Make = Callable[..., MicrosandboxCLIExecutor]


class Silence:
    """An SDK's call that never returns; says when it began and when it was cancelled."""

    def __init__(self) -> None:
        self.began, self.ended = threading.Event(), threading.Event()

    async def __call__(self, *_: object, **__: object) -> None:
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def test_a_link_that_code_left_in_the_place_of_the_skills_is_not_mounted(make: Make, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    executor = make()
    executor.execute_bash(f"ln -s {tmp_path}/private skills")
    later = make(conversation_id="later")
    with pytest.raises(ConfigError, match=r"skills_dir: .* leads out of the workspace"):
        later.attach(tools=None, layout=layout_of(later.workspace_dir / "skills"))


def test_a_volume_that_code_could_turn_into_a_link_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "w" / "data"
    data.mkdir(parents=True)
    for host in (tmp_path / "w", data):
        with pytest.raises(ConfigError, match="lies in the workspace"):
            MicrosandboxCLIExecutor(tmp_path / "w", volumes=[(str(host), "/data")])


@pytest.mark.parametrize("guest", ["//workspace", "/data\n", "/a:b", "/a\0b", "data", "/"])
def test_a_mount_has_one_plain_name_in_the_guest(tmp_path: Path, guest: str) -> None:
    with pytest.raises(ConfigError, match="a place in the microVM"):
        MicrosandboxCLIExecutor(tmp_path / "w", volumes=[("/usr", guest)])


@pytest.mark.parametrize("network", [None, 5, {"api.github.com"}, {"allow": "all"}])
def test_a_network_that_is_no_setting_is_refused_before_anything_starts(tmp_path: Path, network: Any) -> None:
    with pytest.raises(ConfigError, match="network: must be"):
        MicrosandboxCLIExecutor(tmp_path, network=network)


@pytest.mark.parametrize("name", ["", 5])
def test_a_conversation_without_a_name_is_nobodys(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ConfigError, match="conversation_id: must be"):
        create_microsandbox_cli_executor(name)
    with pytest.raises(ConfigError, match="conversation_id: must be"):
        MicrosandboxCLIExecutor(tmp_path, conversation_id=name)


@given(st.text(min_size=1), st.text(min_size=1))
def test_any_two_conversations_have_two_plain_names_on_every_file_system(one: str, other: str) -> None:
    assert (slug(one).lower() == slug(other).lower()) == (one == other)
    assert set(slug(one)) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-.")
    assert slug(one)[0] not in "-."
    assert len(slug(one)) < 100
    assert slug(slug(one)) == slug(one) or "." in slug(one)


@pytest.mark.parametrize(
    ("method", "bound", "kind", "words"),
    [
        ("get", "ANSWER_S", SandboxUnavailableError, "did not start in time"),
        ("create", "BOOT_S", SandboxUnavailableError, "did not start in time"),
        ("exec", "ANSWER_S", RunnerStartError, "no answer within"),
        ("exec_stream", "ANSWER_S", RunnerStartError, "no answer within"),
    ],
)
def test_an_sdk_that_never_answers_is_an_error_after_a_while(
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    bound: str,
    kind: type[Exception],
    words: str,
) -> None:
    silence, executor = Silence(), make()
    with monkeypatch.context() as patched:
        patched.setattr(vm_module, bound, 0.2)
        patched.setattr(StandIn, method, silence.__call__)
        with pytest.raises(kind, match=words):
            executor.execute_bash("true")
    assert silence.ended.wait(5)
    executor.close()
    assert list(root().iterdir()) == [] if root().exists() else True


def test_a_microvm_that_does_not_stop_is_named_and_does_not_hold_up_the_program(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make()
    executor.execute_bash("true")
    silence = Silence()
    with monkeypatch.context() as patched:
        patched.setattr(executor_module, "DOWN_S", 0.2)
        patched.setattr(StandIn, "destroy", silence.__call__)
        with pytest.raises(ExecutorError, match=f"could not be removed.*msb rm -f {executor.vm_name}"):
            executor.close()
    assert silence.ended.wait(5)


@pytest.mark.anyio
async def test_cancelling_while_it_boots_ends_the_boot_and_the_next_action_boots_anew(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    silence, executor = Silence(), make()
    with monkeypatch.context() as patched:
        patched.setattr(StandIn, "create", silence.__call__)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(executor.run, BashAction(command="true"))
            assert await anyio.to_thread.run_sync(silence.began.wait, 20)
            tasks.cancel_scope.cancel()
        assert await anyio.to_thread.run_sync(silence.ended.wait, 5)
    assert (await executor.run(BashAction(command="echo on"))).output == "on\n"


@pytest.mark.anyio
async def test_two_first_actions_make_one_microvm(make: Make) -> None:
    executor = make()
    async with anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(executor.run, BashAction(command="true"))
    assert [what for what, _ in StandIn.calls] == ["create", "exec_stream"]
