"""Snapshots: the workspace of any executor is kept and restored the same way, whatever runs in it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd._concurrency.pool import call_in_thread
from agentd.errors import UnknownSnapshotError
from agentd.protocols import Executor
from agentd.types import BashAction
from agentd_runner.host.snapshotting import WorkspaceSnapshots

from agentd_testing.executors.base import LIMITS, ExecutorBase

__all__ = ["SnapshotsPart"]

UNTIL_TOLD = "echo on; until [ -e go ]; do sleep 0.01; done; echo off > after.txt"


class SnapshotsPart(ExecutorBase):
    """What `WorkspaceSnapshots` promises; skipped for an executor that does not have its methods."""

    @pytest.fixture
    def keeper(self, executor: Executor, tmp_path: Path) -> Any:
        """The executor, with its snapshots in the test's folder."""
        if not isinstance(executor, WorkspaceSnapshots):
            pytest.skip(
                "this executor has no snapshots; inherit agentd_runner.host.WorkspaceSnapshots for them"
            )
        executor.base_dir = tmp_path / "base"
        return executor

    @pytest.mark.anyio
    async def test_a_workspace_is_restored_by_label_turn_and_id(self, keeper: Any) -> None:
        await self.bash(keeper, "echo one > file; mkdir empty")
        first = await keeper.asnapshot("first")
        for name in ("first", first.turn, first.id, first):
            await self.bash(keeper, "echo two > file; rmdir empty; touch more")
            changes = await keeper.adiff("first")
            assert (changes.added, changes.removed, changes.changed) == (("more",), ("empty",), ("file",))
            assert (await keeper.arestore(name)).id == first.id, (
                "restore must return the snapshot: agentd 0.8 returned False for a label, without a word"
            )
            result = await self.bash(keeper, "cat file; ls; echo written >> file")
            assert result.stdout == b"one\nempty\nfile\n", (
                "code must see what was restored, and may write to it"
            )

    def test_the_same_without_an_event_loop(self, keeper: Any, workspace: Path) -> None:
        (workspace / "file").write_text("one")
        kept = keeper.snapshot("first")
        (workspace / "file").write_text("two")
        assert keeper.diff("first").changed == ("file",)
        keeper.restore("first")
        assert (workspace / "file").read_text() == "one"
        assert keeper.snapshot_manager.workspace_dir == keeper.workspace_dir == workspace.resolve()
        assert [one.id for one in keeper.list_snapshots()] == [kept.id]
        assert keeper.delete_snapshot("first").id == kept.id
        assert keeper.list_snapshots() == []
        with pytest.raises(UnknownSnapshotError):
            keeper.restore("first")

    @pytest.mark.anyio
    async def test_another_executor_over_the_workspace_finds_the_snapshots(
        self, keeper: Any, workspace: Path
    ) -> None:
        kept = await keeper.asnapshot("mine")
        later: Any = self.make_executor(workspace, limits=LIMITS)
        try:
            later.base_dir = keeper.base_dir
            assert [one.id for one in await later.alist_snapshots()] == [kept.id]
            assert (await later.adelete_snapshot("mine")).id == kept.id
        finally:
            later.close()

    @pytest.mark.anyio
    async def test_a_snapshot_is_taken_while_a_block_runs_and_a_socket_lies_in_the_workspace(
        self, keeper: Any, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(workspace)  # a socket's path must be short
        with socket.socket(socket.AF_UNIX) as tools:
            tools.bind("tools.sock")
            began = threading.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run_until_told, keeper, began)
                assert await call_in_thread(lambda: began.wait(30), unbounded=True)
                kept = await keeper.asnapshot("amid")
                (workspace / "go").touch()
        assert ("tools.sock", "socket") in [(one.path, one.reason) for one in kept.stats.left_out], (
            "a socket has no content: it is left out and reported, and the snapshot goes on"
        )
        assert (workspace / "after.txt").read_text() == "off\n", "the block must not notice the snapshot"

    async def _run_until_told(self, executor: Any, began: threading.Event) -> None:
        action = BashAction(command=UNTIL_TOLD)
        result = await executor.run(action, on_output=lambda _: began.set())
        assert result.exit_code == 0, result.output

    @pytest.mark.anyio
    async def test_a_label_is_a_name_and_no_path(self, keeper: Any, tmp_path: Path) -> None:
        await self.create(keeper, "file", "kept")
        await keeper.asnapshot("x/../../evil")
        assert not [path for path in tmp_path.rglob("*") if "evil" in path.name], (
            "a label led out of the store"
        )
        await self.create(keeper, "file", "changed")
        await keeper.arestore("x/../../evil")
        assert (keeper.workspace_dir / "file").read_text() == "kept"

    @pytest.mark.anyio
    async def test_a_symlink_to_a_file_outside_is_kept_as_a_link_and_never_followed(
        self, keeper: Any, tmp_path: Path
    ) -> None:
        denied = tmp_path / "denied.txt"
        denied.write_text("s3cr3t of the host")
        link = keeper.workspace_dir / "link"
        await self.bash(keeper, f"ln -s {denied} link")
        await keeper.asnapshot("linked")
        await self.bash(keeper, "rm link")
        await keeper.arestore("linked")
        assert link.is_symlink()
        assert os.readlink(link) == str(denied)
        assert denied.read_text() == "s3cr3t of the host"
        for path in tmp_path.rglob("*"):
            if path.is_file() and not path.is_symlink() and path != denied:
                assert b"s3cr3t" not in path.read_bytes(), f"the link was followed: its target is in {path}"

    @pytest.mark.anyio
    async def test_what_the_sandbox_puts_into_the_workspace_is_no_part_of_a_snapshot(
        self, keeper: Any, workspace: Path
    ) -> None:
        await self.bash(keeper, "echo x > mine")
        await keeper.asnapshot("running")
        await keeper.aclose()
        before = sorted(os.listdir(workspace))
        await keeper.arestore("running")
        assert sorted(os.listdir(workspace)) == before == ["mine"], (
            "name what the sandbox puts there in `snapshot_exclude`: a restore would leave it in the user's folder"
        )
