"""The microVM's own disk: kept, restored, forked. On the stand-in, whose disk is the folder /opt/disk."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import (
    ConfigError,
    ExecutorError,
    SandboxUnavailableError,
    SnapshotError,
    UnknownSnapshotError,
)
from agentd_executor_msb import probes
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.vm import RESTORED
from kvm import why_no_kvm
from microsandbox import MicrosandboxError
from microsandbox.types import NetworkPolicy
from standin import BWRAP, StandIn, StandInSnapshot, disks, root

Make = Callable[..., MicrosandboxCLIExecutor]
needs_bwrap = pytest.mark.skipif(BWRAP is None, reason="bubblewrap is missing: apt-get install bubblewrap")
pytestmark = [needs_bwrap, pytest.mark.anyio]


async def bash(executor: MicrosandboxCLIExecutor, command: str) -> str:
    from agentd.types import BashAction

    return (await executor.run(BashAction(command=command))).output


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(make: Make, tmp_path: Path) -> MicrosandboxCLIExecutor:
    return make(base_dir=tmp_path / "base")


async def test_a_disk_is_kept_and_another_microvm_begins_with_it(
    source: MicrosandboxCLIExecutor, make: Make, tmp_path: Path
) -> None:
    await bash(source, "echo installed > /opt/disk/package; echo mine > note")
    kept = await source.snapshot_vm("ready")
    await bash(source, "echo later > /opt/disk/package")
    for wanted in (kept, kept.id, "ready"):
        other = make(tmp_path / "other", vm_snapshot=wanted)
        assert await bash(other, "cat /opt/disk/package; ls") == "installed\n"  # a workspace is no part of it
        assert StandIn.created[other.vm_name]["snapshot"] == kept.id
        await other.aclose()
    assert (kept.label, kept.image) == ("ready", "python")
    assert await source.list_vm_snapshots() == [kept]
    assert await source.delete_vm_snapshot("ready") == kept
    assert await source.list_vm_snapshots() == []
    with pytest.raises(UnknownSnapshotError, match="ready"):
        await bash(make(tmp_path / "other", vm_snapshot="ready"), "true")


async def test_a_fork_has_its_own_copies_and_leaves_no_snapshot(
    source: MicrosandboxCLIExecutor, tmp_path: Path
) -> None:
    await bash(source, "echo one > /opt/disk/package; echo one > note; ln -s note link; mkdir empty")
    fork = await source.fork_vm(tmp_path / "second")
    try:
        assert await bash(fork, "cat /opt/disk/package link; ls") == "one\none\nempty\nlink\nnote\n"
        await bash(fork, "echo two > /opt/disk/package; echo two > note")
        assert await bash(source, "cat /opt/disk/package note") == "one\none\n"
        assert await bash(fork, "cat /opt/disk/package note") == "two\ntwo\n"
        assert fork.workspace_dir == tmp_path / "second"
        assert fork.vm_name != source.vm_name
    finally:
        await fork.aclose()
    assert await source.list_vm_snapshots() == []
    assert source.list_snapshots() == []
    assert [folder.name for folder in root().iterdir()] == [source.vm_name]


async def test_a_fork_that_does_not_start_leaves_nothing(
    source: MicrosandboxCLIExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise MicrosandboxError("no room")

    monkeypatch.setattr(StandIn, "restore", staticmethod(refuse))
    with pytest.raises(SandboxUnavailableError, match="no room"):
        await source.fork_vm(tmp_path / "second")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(SnapshotError, match="not empty"):
        await source.fork_vm(tmp_path / "full")
    assert await source.list_vm_snapshots() == []
    assert [folder.name for folder in root().iterdir()] == [source.vm_name]


async def test_a_disk_that_cannot_be_kept_is_said_with_msbs_reason(
    source: MicrosandboxCLIExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise MicrosandboxError("not supported by this backend")

    monkeypatch.setattr(StandInSnapshot, "create", staticmethod(refuse))
    with pytest.raises(SandboxUnavailableError, match=f"{source.vm_name}.*cannot be kept: not supported by"):
        await source.snapshot_vm()


async def test_cancelling_a_snapshot_ends_the_wait_for_msb(
    source: MicrosandboxCLIExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    import anyio

    began, ended = threading.Event(), threading.Event()

    async def hang(*_: object, **__: object) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(StandInSnapshot, "create", staticmethod(hang))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.snapshot_vm)
        assert await anyio.to_thread.run_sync(began.wait, 20)
        tasks.cancel_scope.cancel()
    assert ended.wait(5)


async def test_a_label_never_becomes_a_name_of_msbs(source: MicrosandboxCLIExecutor, tmp_path: Path) -> None:
    kept = await source.snapshot_vm("x/../../evil")
    assert kept.label == "x/../../evil"
    assert (await source.list_vm_snapshots())[0].label == "x/../../evil"
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]
    with pytest.raises(ConfigError, match="control characters"):
        await source.snapshot_vm("a\nb")


async def test_what_is_left_of_a_restored_microvm_whose_host_died_goes_with_the_next(
    source: MicrosandboxCLIExecutor, make: Make, tmp_path: Path
) -> None:
    kept = await source.snapshot_vm()
    for name, stopped in ((RESTORED + "dead", True), (RESTORED + "alive", False), ("agentd-talk", True)):
        (root() / name).mkdir()
        (root() / name / "config.json").write_text("{}")
        if stopped:
            (root() / name / "stopped").touch()
    other = make(tmp_path / "other", vm_snapshot=kept)
    await bash(other, "true")
    names = {folder.name for folder in root().iterdir()}
    assert names == {source.vm_name, other.vm_name, RESTORED + "alive", "agentd-talk"}


async def test_a_restored_microvm_gets_the_rules_of_its_own_settings_and_an_end(
    source: MicrosandboxCLIExecutor, make: Make, tmp_path: Path
) -> None:
    kept = await source.snapshot_vm()
    other = make(tmp_path / "other", vm_snapshot=kept, memory=300, user="1000", idle_timeout_s=60)
    await bash(other, "true")
    given = StandIn.created[other.vm_name]
    assert given["network_policy"] == NetworkPolicy.none()
    assert (given["memory"], given["user"], given["idle_timeout"]) == (300, "1000", 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"secrets": {"A": {"hosts": ["x.com"], "value": "v"}}, "network": ["x.com"]},
            "cannot go with secrets",
        ),
        ({"conversation_id": "talk"}, "cannot go with conversation_id"),
        ({"vm_snapshot": ""}, "vm_snapshot: must be"),
    ],
)
async def test_what_msbs_restore_cannot_do_is_refused_at_once(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        MicrosandboxCLIExecutor(tmp_path, **{"vm_snapshot": "ready", **options})


async def test_an_executor_with_secrets_has_no_fork(make: Make, tmp_path: Path) -> None:
    source = make(network=["x.com"], secrets={"A": {"hosts": ["x.com"], "value": "v"}})
    with pytest.raises(ConfigError, match="cannot go with secrets"):
        await source.fork_vm(tmp_path / "second")
    assert StandIn.calls == []


async def test_a_root_file_system_that_is_a_path_has_no_disk_to_keep(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"msb load"):
        await make(image=tmp_path).snapshot_vm()
    assert StandIn.calls == []


async def test_a_host_without_virtualisation_says_so(
    source: MicrosandboxCLIExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "virtualisation_problem", lambda: "KVM is missing: load it.")
    for work in (source.snapshot_vm(), source.fork_vm(tmp_path / "second")):
        with pytest.raises(SandboxUnavailableError, match="KVM is missing"):
            await work


async def test_an_id_that_msb_will_not_remove_is_an_error(
    source: MicrosandboxCLIExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await source.snapshot_vm()

    async def refuse(*_: object, **__: object) -> None:
        raise MicrosandboxError("in use")

    monkeypatch.setattr(StandInSnapshot, "remove", staticmethod(refuse))
    with pytest.raises(ExecutorError, match="cannot be removed: in use"):
        await source.delete_vm_snapshot(kept)
    assert (disks() / kept.id).exists()


@pytest.fixture
def real(tmp_path: Path) -> Iterator[MicrosandboxCLIExecutor]:
    """An executor in a real microVM with an image of a registry or of `msb load`, which alone has a disk to keep."""
    if reason := why_no_kvm():
        pytest.skip(reason)
    if "AGENTD_TEST_IMAGE" not in os.environ:
        pytest.skip(
            "AGENTD_TEST_IMAGE names no image that msb has (msb image ls); MSB_HOME says where it looks"
        )
    with MicrosandboxCLIExecutor(
        tmp_path / "workspace",
        image=os.environ["AGENTD_TEST_IMAGE"],
        pull="never",
        base_dir=tmp_path / "base",
    ) as made:
        yield made


@pytest.mark.kvm
async def test_a_real_microvms_disk_is_kept_restored_and_forked(
    real: MicrosandboxCLIExecutor, tmp_path: Path
) -> None:
    await bash(real, "echo one > /var/package; echo one > note")
    kept = await real.snapshot_vm("ready")
    fork = await real.fork_vm(tmp_path / "second")
    try:
        assert await bash(fork, "cat /var/package note; echo two > /var/package") == "one\none\n"
        assert await bash(real, "cat /var/package") == "one\n"
    finally:
        await fork.aclose()
    other = MicrosandboxCLIExecutor.from_vm_snapshot(kept, tmp_path / "third")
    try:
        assert await bash(other, "cat /var/package") == "one\n"
    finally:
        await other.aclose()
    await real.delete_vm_snapshot(kept)
