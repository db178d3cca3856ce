"""The microVM's life: as long as the session, found again by its conversation, gone after it. On the stand-in."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd.errors import (
    ConfigError,
    ExecutorError,
    RunnerDiedError,
    RunnerStartError,
    SandboxUnavailableError,
)
from agentd.types import BashAction
from agentd_executor_msb import thread as thread_module
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.thread import sdk_thread
from agentd_executor_msb.vm import MicroVM
from microsandbox import MicrosandboxError
from places import SUPPORT
from standin import GUEST_PYTHON, StandIn

Make = Callable[..., MicrosandboxCLIExecutor]


def done(name: str) -> list[str]:
    return [what for what, which in StandIn.calls if which == name]


def test_nothing_starts_before_the_first_action_and_one_microvm_serves_all(make: Make) -> None:
    executor = make()
    assert StandIn.calls == []
    for _ in range(3):
        executor.execute_bash("true")
    executor.close()
    assert done(executor.vm_name) == ["create", "exec_stream", "destroy"]


def test_a_microvm_without_a_conversation_ends_with_its_host_and_leaves_no_record(make: Make) -> None:
    executor = make()
    executor.execute_bash("true")
    given = StandIn.created[executor.vm_name]
    assert (given["detached"], given["ephemeral"], given["idle_timeout"]) == (False, True, None)


def test_a_conversation_is_found_again_after_its_host_was_killed(
    make: Make, tmp_path: Path, survivors: Callable[[str], list[str]]
) -> None:
    workspace = tmp_path / "workspace"
    host = textwrap.dedent(f"""
        import sys
        sys.path.insert(0, {str(SUPPORT)!r})
        import microsandbox, standin
        from agentd_executor_msb import probes
        from agentd_executor_msb.executor import MicrosandboxCLIExecutor
        from agentd.types import BashAction
        microsandbox.Sandbox = standin.StandIn
        probes.virtualisation_problem = lambda: ""
        guest = {{}} if standin.BWRAP else {{"guest_dir": {str(workspace)!r}}}
        executor = MicrosandboxCLIExecutor(
            {str(workspace)!r}, conversation_id="talk", python=standin.GUEST_PYTHON, timeout=20, **guest)
        executor.execute_bash("echo first > note")
        executor.run_sync(
            BashAction(command="echo up; exec sleep 988301"), on_output=lambda _: print("up", flush=True))
    """)
    process = subprocess.Popen([sys.executable, "-c", host], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    executor = make(workspace, conversation_id="talk")
    assert executor.execute_bash("cat note") == ("first\n", 0)
    assert done(executor.vm_name) == ["connect", "exec_stream"]  # not made anew
    executor.close()
    assert done(executor.vm_name)[-1] == "destroy"
    assert survivors("988301") == []  # what ran when the host died has ended with it


def test_a_conversations_microvm_with_other_settings_is_refused(make: Make, tmp_path: Path) -> None:
    first = make(conversation_id="talk")
    first.execute_bash("true")
    second = make(conversation_id="talk", memory=2048)
    with pytest.raises(ConfigError, match=rf"other settings.*msb rm -f {first.vm_name}"):
        second.execute_bash("true")


def test_a_conversations_microvm_is_kept_awake_while_it_is_used(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = threading.Event()

    async def touch(_self: StandIn) -> None:
        touched.set()

    monkeypatch.setattr(StandIn, "touch", touch)
    executor = make(conversation_id="talk", idle_timeout_s=10)
    object.__setattr__(
        executor.settings, "idle_timeout_s", 0.03
    )  # a test need not wait for the least allowed
    executor.execute_bash("true")
    assert StandIn.created[executor.vm_name]["detached"] is True
    assert touched.wait(5)


def test_names_of_conversations_never_leave_their_place_or_meet() -> None:
    names = ["talk", "x/../../evil", "x-evil", "x/evil", "é", "a" * 300, ".", "talk/"]
    found = {MicrosandboxCLIExecutor("/tmp", conversation_id=name).vm_name for name in names}
    assert len(found) == len(names)
    assert all("/" not in name and len(name) <= 128 for name in found)


def test_a_dead_runner_is_replaced_in_the_same_microvm(make: Make) -> None:
    executor = make()
    with pytest.raises(RunnerDiedError):
        # The runner is the parent of the spawner, which is the parent of the supervisor.
        executor.execute_python(
            "import os, signal\n"
            "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
            "    line = open(f'/proc/{pid}/cmdline').read()\n"
            "    if 'agentd runner' in line: os.kill(int(pid), signal.SIGKILL)"
        )
    assert "a new one was started" in executor.execute_bash("true")[0]
    assert done(executor.vm_name) == ["create", "exec_stream", "exec_stream"]


def test_a_microvm_that_has_gone_is_made_anew(make: Make) -> None:
    executor = make()
    executor.execute_bash("true")
    sdk_thread().run(StandIn(executor.vm_name).destroy())
    connection = executor._connection
    assert connection is not None
    with pytest.raises(RunnerDiedError):
        executor.run_sync(
            BashAction(command="echo on; exec sleep 60"), on_output=lambda _: connection.kill("it has gone")
        )
    executor.execute_bash("true")
    assert done(executor.vm_name).count("create") == 2


def test_a_forgotten_executor_removes_its_microvm(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = threading.Event()
    down = MicroVM.down

    async def told(vm: MicroVM) -> None:
        await down(vm)
        gone.set()

    monkeypatch.setattr(MicroVM, "down", told)
    executor = MicrosandboxCLIExecutor(
        make().workspace_dir, python=GUEST_PYTHON, guest_dir=make().settings.guest_dir
    )
    executor.execute_bash("true")
    name = executor.vm_name
    del executor
    gc.collect()
    assert gone.wait(10)
    assert done(name)[-1] == "destroy"


def test_an_image_without_python_or_bash_is_named(make: Make) -> None:
    with pytest.raises(RunnerStartError, match="has no python3-none; agentd needs Python"):
        make(python="python3-none").execute_bash("true")


def test_what_the_image_sets_is_seen_and_what_the_user_sets_wins(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # the host's loopback is not the guest's
    executor = make(envs={"MINE": "yes", "PIP_NO_INPUT": "0"})
    output, _ = executor.execute_bash("echo $IMAGE_SAYS $MINE $PIP_NO_INPUT [$HTTPS_PROXY] $HOME")
    assert output == f"hello yes 0 [] {executor.settings.guest_dir}/.agentd/home\n"


def test_code_sees_a_placeholder_where_a_secret_is(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MSB_HOME", str(tmp_path / "msb"))
    monkeypatch.setenv("GITHUB_TOKEN", "the-value")
    executor = make(network=["api.github.com"], secrets={"GITHUB_TOKEN": ["api.github.com"]})
    output, _ = executor.execute_bash('echo "$GITHUB_TOKEN"; env; cat /proc/[0-9]*/environ | tr "\\0" "\\n"')
    assert output.splitlines()[0] == "$MSB_GITHUB_TOKEN"
    assert "the-value" not in output
    assert "the-value" not in repr(executor.settings)
    (entry,) = StandIn.created[executor.vm_name]["secrets"]
    assert (entry.value, entry.allow) == ("the-value", ("api.github.com",))


def test_more_volumes_are_mounted_and_read_only_ones_stay_as_they_are(make: Make, tmp_path: Path) -> None:
    if not StandIn.can_mount:
        pytest.skip("bubblewrap is missing: apt-get install bubblewrap")
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    (tmp_path / "in" / "data").write_text("given")
    executor = make(volumes=[(str(tmp_path / "in"), "/in", "ro"), f"{tmp_path}/out:/out"])
    output, _ = executor.execute_bash("cat /in/data; echo made > /out/new; echo x > /in/data")
    assert output.startswith("given")
    assert "Read-only" in output
    assert (tmp_path / "out" / "new").read_text() == "made\n"


def test_a_forked_child_is_told_and_takes_nothing_down(make: Make) -> None:
    executor = make()
    executor.execute_bash("true")
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        said = "nothing"
        try:
            executor.close()
            thread_module.sdk_thread()
        except SandboxUnavailableError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert "'spawn'" in answer.read()
    os.waitpid(pid, 0)
    assert executor.execute_bash("echo here") == ("here\n", 0)
    assert "destroy" not in done(executor.vm_name)


def test_an_end_is_noticed_while_a_forked_child_holds_copies_of_the_pipes(make: Make) -> None:
    executor = make()
    executor.execute_bash("true")
    read, write = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    try:
        with pytest.raises(RunnerDiedError):
            executor.run_sync(BashAction(command="kill -9 $(pgrep -f 'agentd runner')", timeout_s=5))
    finally:
        os.close(write)
        os.close(read)
        os.waitpid(pid, 0)


def test_a_microvm_that_cannot_be_removed_is_named_with_the_command(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = make()
    executor.execute_bash("true")

    async def refuse(_self: StandIn, **_: object) -> None:
        raise MicrosandboxError("busy")

    with monkeypatch.context() as patched:
        patched.setattr(StandIn, "destroy", refuse)
        with pytest.raises(ExecutorError, match=f"busy.*msb rm -f {executor.vm_name}"):
            executor.close()
    executor.close()
    assert done(executor.vm_name)[-1] == "destroy"


def test_what_the_sdk_raises_while_starting_is_agentds_error_and_nothing_is_left(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise MicrosandboxError("the disk is full")

    for method, kind, words in (
        ("create", SandboxUnavailableError, "did not start: the disk is full"),
        ("exec", RunnerStartError, "cannot run a command: the disk is full"),
        ("exec_stream", RunnerStartError, "cannot run a command: the disk is full"),
    ):
        executor = make()
        with monkeypatch.context() as patched:
            patched.setattr(StandIn, method, staticmethod(fail) if method == "create" else fail)
            with pytest.raises(kind, match=words):
                executor.execute_bash("true")
        executor.close()
        assert done(executor.vm_name)[-1:] in ([], ["destroy"])
        assert not executor._vm.known
