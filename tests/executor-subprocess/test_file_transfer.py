"""Files of any size go into an executor's place and come out of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from agentd.errors import ExecutorError
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host.file_transfer import PART_BYTES


async def read(executor: SubprocessExecutor, path: str) -> bytes:
    return b"".join([part async for part in executor.download(path)])


@pytest.mark.anyio
async def test_a_file_goes_in_and_comes_out(
    executor: SubprocessExecutor, tmp_path: Path, anyio_backend: str
) -> None:
    data = os.urandom(2 * PART_BYTES + 12345)
    absolute = str(tmp_path / "elsewhere" / "it's \n \xe9.bin")
    for path in ("deep/in/it.bin", absolute):
        await executor.upload(path, data)
        assert (Path(executor.workspace_dir) / path).read_bytes() == data
        assert await read(executor, path) == data
    assert os.listdir(tmp_path / "elsewhere") == [os.path.basename(absolute)]


@pytest.mark.anyio
async def test_parts_of_any_size_sync_and_async(executor: SubprocessExecutor, anyio_backend: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x" * (PART_BYTES + 1)
        yield b""
        yield b"end"

    await executor.upload("a", parts())
    assert await read(executor, "a") == b"x" * (PART_BYTES + 1) + b"end"
    await executor.upload("b", [b"one", b"two"])
    await executor.upload("empty", b"")
    assert (await read(executor, "b"), await read(executor, "empty")) == (b"onetwo", b"")


@pytest.mark.anyio
async def test_where_the_shell_is_does_not_matter_and_nothing_of_it_changes(
    executor: SubprocessExecutor, anyio_backend: str
) -> None:
    executor.execute_bash("mkdir sub; cd sub; X=1")
    await executor.upload("file", b"data")
    assert executor.execute_bash("cat ../file; echo $X ${PWD##*/}") == ("data1 sub\n", 0)


@pytest.mark.anyio
async def test_a_file_that_is_there_keeps_its_mode(executor: SubprocessExecutor, anyio_backend: str) -> None:
    executor.create_file("run.sh", "#!/bin/sh\necho old\n")
    executor.execute_bash("chmod 750 run.sh")
    await executor.upload("run.sh", b"#!/bin/sh\necho new\n")
    assert executor.execute_bash("./run.sh; stat -c %a run.sh") == ("new\n750\n", 0)


@pytest.mark.anyio
async def test_what_cannot_be_is_an_error_with_its_reason_and_leaves_nothing(
    executor: SubprocessExecutor, anyio_backend: str
) -> None:
    with pytest.raises(ExecutorError, match=r"'missing' cannot be read .*FileNotFoundError"):
        await read(executor, "missing")
    executor.execute_bash("mkdir folder")
    with pytest.raises(ExecutorError, match=r"'folder' cannot be .*IsADirectoryError"):
        await executor.upload("folder", b"data")

    async def broken() -> AsyncIterator[bytes]:
        yield b"first"
        raise RuntimeError("the source has ended")

    with pytest.raises(RuntimeError, match="the source has ended"):
        await executor.upload("half", broken())
    assert sorted(os.listdir(executor.workspace_dir)) == [".agentd", "folder"]


@pytest.mark.anyio
async def test_a_small_limit_for_output_only_makes_the_parts_smaller(
    tmp_path: Path, anyio_backend: str
) -> None:
    with SubprocessExecutor(tmp_path, limits={"output_bytes": 1000}) as executor:
        await executor.upload("file", b"0123456789" * 250)
        parts = [part async for part in executor.download("file")]
    assert [len(part) for part in parts] == [1000, 1000, 500]
    assert b"".join(parts) == b"0123456789" * 250


@pytest.mark.anyio
async def test_a_file_larger_than_what_the_host_holds_comes_out_whole(
    tmp_path: Path, anyio_backend: str
) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "big").write_bytes(data)
    with SubprocessExecutor(tmp_path, limits={"host_mib": 1}) as small:
        assert await read(small, "big") == data
        await small.upload("copy", bytearray(data))
    assert (tmp_path / "copy").read_bytes() == data


@pytest.mark.anyio
async def test_text_is_no_content(executor: SubprocessExecutor, anyio_backend: str) -> None:
    with pytest.raises(TypeError, match="data: must be bytes or parts of bytes, got str"):
        await executor.upload("a", "text")  # type: ignore[arg-type]
