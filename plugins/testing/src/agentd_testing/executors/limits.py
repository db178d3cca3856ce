"""Limits that are watched: a disk fill and a fork bomb are ended with a reason, and honest work is not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentd.protocols import Executor
from agentd.types import ActionResult, Limits

from agentd_testing.executors.base import ExecutorBase

__all__ = ["LimitsPart"]

SMALL = Limits(timeout_s=40.0, grace_s=0.3, workspace_mib=64, workspace_inodes=1_000, processes=300)

# Each is bounded by itself, for a place in which the limit does not hold.
_FILL = """
import os, time
for number in range(100):
    with open(os.path.join({folder}, f"fill{{number}}"), "wb") as file:
        try: os.posix_fallocate(file.fileno(), 0, 4 << 20)
        except OSError: file.write(bytes(4 << 20))
    time.sleep(0.02)
"""
_MANY_FILES = """
import os, time
for number in range(8_000):
    os.close(os.open(f"empty{number}", os.O_CREAT))
    if number % 50 == 0: time.sleep(0.05)
"""
_BOMB = """
import os, time
end = time.monotonic() + 15
for _ in range(10):
    try: os.fork(){leave}
    except BlockingIOError: time.sleep(0.1)  # the user's own limit: it lives on with what it has
while time.monotonic() < end: time.sleep(0.5)
"""
_MEASURED = "import time; time.sleep(1.2)"  # longer than it takes to look a few times

_NPM = """
mkdir -p app/dep && cd app
echo '{"name": "dep", "version": "1.0.0", "main": "index.js"}' > dep/package.json
echo 'module.exports = 42' > dep/index.js
echo '{"name": "app", "version": "1.0.0", "scripts": {"test": "node test.js"},' > package.json
echo '"dependencies": {"dep": "file:./dep"}}' >> package.json
echo 'require("assert").strictEqual(require("dep"), 42); console.log("passed")' > test.js
npm install --offline --no-audit --no-fund && npm test
"""
_WHEEL = """
import zipfile
with zipfile.ZipFile("tiny-1.0-py3-none-any.whl", "w") as wheel:
    wheel.writestr("tiny.py", "answer = 42")
    wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n")
    wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("tiny-1.0.dist-info/RECORD", "")
"""


class LimitsPart(ExecutorBase):
    """What is ended, with which words, and what is left alone."""

    @pytest.fixture
    def small(self, workspace: Path) -> Iterator[Executor]:
        """An executor in which little is allowed."""
        made = self.make_executor(workspace, limits=SMALL)
        try:
            yield made
        finally:
            made.close()

    @pytest.fixture
    def default(self, workspace: Path) -> Iterator[Executor]:
        """An executor with the limits that everybody gets."""
        made = self.make_executor(workspace, limits=Limits())
        try:
            yield made
        finally:
            made.close()

    def check_ended(self, result: ActionResult, limit: str) -> None:
        """Assert that the block was ended for this limit, and that the result says so."""
        assert (result.status, result.exit_code) == ("failed", 137), (
            f"a block that exceeds {limit} must be ended; it gave {result.output[-300:]!r}"
        )
        assert f"limit {limit} is {getattr(SMALL, limit)}" in result.message, (
            f"the message must name the limit {limit} and its value, got {result.message!r}"
        )

    # --- what is ended ---------------------------------------------------------------------------

    @pytest.mark.anyio
    @pytest.mark.parametrize("folder", ["'.'", "os.environ['TMPDIR']"])
    async def test_a_disk_fill_is_ended_and_the_session_can_tidy_up(
        self, small: Executor, folder: str
    ) -> None:
        fill = _FILL.format(folder=folder)
        result = await self.python(small, fill)
        self.check_ended(result, "workspace_mib")
        assert "Delete files" in result.message, "the message must say what to do next"
        self.check_ended(await self.python(small, fill.replace("fill{", "more{")), "workspace_mib")
        tidy = f"import os, glob\nfor path in glob.glob({folder} + '/*[0-9]'): os.remove(path)\n"
        result = await self.python(small, tidy + _MEASURED)
        assert result.status == "completed", "a block that takes away must be let"
        result = await self.python(small, fill.replace("100", "5") + _MEASURED)
        assert result.status == "completed", "what was taken away may be added again"

    @pytest.mark.anyio
    async def test_too_many_files_are_ended(self, small: Executor) -> None:
        self.check_ended(await self.python(small, _MANY_FILES), "workspace_inodes")
        await self.check_usable(small)

    @pytest.mark.anyio
    async def test_a_fill_in_a_background_process_is_ended_with_its_block(
        self, small: Executor, marker: str
    ) -> None:
        code = _FILL.format(folder="'.'").replace("\n", "\\n")
        await self.python(small, f'open("fill.py", "w").write("""{code}""")'.replace("\\n", "\n"))
        command = f"(setsid python3 fill.py; sleep {marker}) & (setsid sleep {marker} &); sleep {marker}"
        self.check_ended(await self.bash(small, command), "workspace_mib")
        await self.check_gone(small, marker)

    @pytest.mark.anyio
    async def test_many_short_blocks_do_not_fill_the_disk_unseen(self, small: Executor) -> None:
        words, number = "", 0
        while number < 60 and not words:  # 240 MiB at most, and at least three looks
            result = await self.bash(small, f"head -c 4194304 /dev/zero > f{number}; sleep 0.05")
            words, number = result.message, number + 1
        assert "limit workspace_mib is 64" in words, "blocks that are shorter than a look add up"
        await self.check_usable(small)

    @pytest.mark.anyio
    @pytest.mark.parametrize("leave", ["", " or os.setsid()"])
    async def test_a_fork_bomb_is_ended_and_the_session_goes_on(self, small: Executor, leave: str) -> None:
        result = await self.python(small, _BOMB.format(leave=leave))
        self.check_ended(result, "processes")
        await self.check_usable(small)

    # --- what is left alone ----------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_what_was_there_before_and_what_takes_no_room_does_not_count(
        self, workspace: Path, small: Executor
    ) -> None:
        with (workspace / "before").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 100 << 20)
        time.sleep(0.02)  # longer than a tick of the clock for files
        code = (
            "import os\nos.truncate(os.open('sparse', os.O_CREAT | os.O_WRONLY), 1 << 30)\n"
            "open('one', 'wb').write(bytes(8 << 20))\n"
            "for n in range(50): os.link('one', f'link{n}')\n"
            "os.symlink('/', 'root'); os.symlink('.', 'round')\n"
        )
        result = await self.python(small, code + _MEASURED)
        assert result.status == "completed", f"nothing was filled here: {result.message}"

    @pytest.mark.anyio
    async def test_what_others_write_meanwhile_does_not_count(
        self, workspace: Path, small: Executor, tmp_path: Path
    ) -> None:
        with (workspace / "before").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 100 << 20)
        time.sleep(0.02)  # longer than a tick of the clock for files

        def write() -> None:
            until = time.monotonic() + 30
            while not (workspace / "begun").exists() and time.monotonic() < until:
                time.sleep(0.005)
            with (tmp_path / "other").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 200 << 20)

        other = threading.Thread(target=write)
        other.start()
        code = "open('begun', 'w'); open('one', 'wb').write(bytes(8 << 20))\n"
        result = await self.python(small, code + _MEASURED)
        other.join()
        assert result.status == "completed", f"nothing was filled here: {result.message}"

    @pytest.mark.anyio
    async def test_a_tree_that_is_deep_and_changes_does_no_harm(self, small: Executor) -> None:
        code = (
            "import os, time, threading\nend = time.monotonic() + 1.2\n"
            "for n in range(700): os.mkdir('d' * 20); os.chdir('d' * 20)\n"
            "os.chdir(os.environ['HOME'] + '/../..'); os.mkdir(b'\\xff\\n *'); os.mkfifo('fifo')\n"
            "os.mkdir('closed', 0)\n"
            "while time.monotonic() < end:\n"
            "    os.mkdir('a'); os.rename('a', 'b'); os.rmdir('b'); time.sleep(0.001)\n"
        )
        result = await self.python(small, code)
        assert result.status == "completed", result.output
        result = await self.python(small, _FILL.format(folder="'.'"))
        self.check_ended(result, "workspace_mib")

    @pytest.mark.anyio
    async def test_a_parallel_build_runs_under_the_default_limits(self, default: Executor) -> None:
        command = (
            "seq 300 | xargs -P 24 -I{} sh -c 'mkdir -p out/{}; head -c 200000 /dev/zero > out/{}/o; "
            "cat out/{}/o | (cat > out/{}/p)'; ls out | wc -l"
        )
        result = await self.bash(default, command)
        assert (result.stdout.strip(), result.status) == (b"300", "completed"), result.output

    @pytest.mark.anyio
    async def test_pip_install_runs_under_the_default_limits(self, default: Executor) -> None:
        if (await self.bash(default, "python3 -m pip --version")).exit_code:
            pytest.skip("the executor's place has no pip for its python3")
        await self.python(default, _WHEEL)
        result = await self.bash(default, "python3 -m pip install -q --no-index ./tiny-1.0-*.whl")
        assert result.status == "completed", result.output
        assert (await self.python(default, "import tiny; print(tiny.answer)")).stdout == b"42\n"

    @pytest.mark.anyio
    async def test_npm_test_runs_under_the_default_limits(self, default: Executor) -> None:
        if (await self.bash(default, "npm --version")).exit_code:
            pytest.skip("the executor's place has no npm: install Node.js there")
        result = await self.bash(default, _NPM)
        assert result.status == "completed", result.output
        assert b"passed" in result.stdout
