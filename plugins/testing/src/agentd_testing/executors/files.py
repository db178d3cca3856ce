"""Create: files inside the workspace, and nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from agentd.protocols import Executor

from agentd_testing.executors.base import ExecutorBase

__all__ = ["FilesPart"]


class FilesPart(ExecutorBase):
    """What a `create` action does, and what it refuses."""

    @pytest.mark.anyio
    async def test_a_file_is_made_with_its_folders_and_any_bytes(self, executor: Executor) -> None:
        result = await self.create(executor, "a/b/c.bin", b"\0\xff\r\n")
        assert (result.status, result.exit_code) == ("completed", 0), result.output
        assert (executor.workspace_dir / "a/b/c.bin").read_bytes() == b"\0\xff\r\n"
        assert (await self.create(executor, "a/b/c.bin", "nëw")).exit_code == 0
        assert (executor.workspace_dir / "a/b/c.bin").read_text(encoding="utf-8") == "nëw", (
            "a file is replaced whole"
        )

    @pytest.mark.anyio
    async def test_the_path_is_relative_to_bashs_directory(self, executor: Executor) -> None:
        await self.bash(executor, "mkdir d; cd d")
        await self.create(executor, "x.txt")
        assert (executor.workspace_dir / "d/x.txt").exists()

    @pytest.mark.anyio
    async def test_a_script_becomes_executable(self, executor: Executor) -> None:
        await self.create(executor, "run", "#!/bin/sh\necho ran\n")
        assert (await self.bash(executor, "./run")).stdout == b"ran\n"

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "path",
        [
            "../outside.txt",
            "a/../../outside.txt",
            "{outside}",
            "link/outside.txt",
            "file-link",
            "",
            ".",
            "a\0b",
        ],
    )
    async def test_a_path_that_leads_out_is_refused_in_words(
        self, executor: Executor, workspace: Path, path: str
    ) -> None:
        outside = workspace.parent / "outside.txt"
        kept = workspace.parent / "kept.txt"
        kept.write_text("old")
        (workspace / "link").symlink_to(workspace.parent)
        (workspace / "file-link").symlink_to(kept)
        result = await self.create(executor, path.format(outside=outside))
        assert not outside.exists(), f"{path!r} was created OUTSIDE of the workspace"
        assert kept.read_text() == "old", (
            f"{path!r} was written through a link to a file OUTSIDE of the workspace"
        )
        assert result.status == "failed"
        assert result.message, "the message must say why the path was refused"

    @pytest.mark.anyio
    async def test_a_fifo_and_a_folder_in_its_place_are_errors_and_no_hang(
        self, executor: Executor, workspace: Path
    ) -> None:
        os.mkfifo(workspace / "fifo")
        (workspace / "folder").mkdir()
        for path in ("fifo", "folder", "fifo/x"):
            assert (await self.create(executor, path)).status == "failed"
        await self.check_usable(executor)
