"""The process of a stdio server: started by `agentd_mcp_bridge.supervisor`, which ends it with all below it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Final

import anyio
from agentd._concurrency.waiting import AsyncWaiter
from agentd_runner import reaper

from agentd_mcp_bridge import supervisor
from agentd_mcp_bridge.config import StdioTarget

__all__ = ["Child"]

GRACE_S: Final = 2.0  # for a server to end after its standard input was closed; the SDK has the same
_END_S: Final = supervisor.TERM_S + reaper.KILL_S + 1.0
_SUPERVISE: Final = reaper.supervisor_command(supervisor.__name__, str(Path(__file__).parents[1]))


class Child:
    """The supervisor process and through it the server."""

    def __init__(self, target: StdioTarget) -> None:
        environment = target.environment()
        command = _resolve(target, environment)
        lifeline, self._lifeline = os.pipe()
        try:
            # By Popen and not asyncio, which needs a thread per child on Python 3.11. It takes 1 to 3 ms.
            self._process = subprocess.Popen(
                [*_SUPERVISE, str(lifeline), str(GRACE_S), command, *target.args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                cwd=target.cwd,
                bufsize=0,
                pass_fds=[lifeline],
                start_new_session=True,
            )
        except BaseException:
            os.close(self._lifeline)
            raise
        finally:
            os.close(lifeline)
        self.stdin, self.stdout, self.stderr = (
            self._process.stdin,
            self._process.stdout,
            self._process.stderr,
        )
        self.ended = AsyncWaiter()
        self._watch()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # no Linux, or an old one

            def wait() -> None:
                self._process.wait()
                self.ended.set()

            threading.Thread(target=wait, name="agentd-mcp-child", daemon=True).start()
            return

        def reap() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._process.wait()
            self.ended.set()

        loop.add_reader(descriptor, reap)

    async def fate(self, *, within_s: float) -> str:
        """Say in words how the server has ended."""
        with anyio.move_on_after(within_s):
            await self.ended.wait()
        code = self._process.returncode
        if code is None:
            return "closed its standard output, but did not end"
        if code < 0:
            return f"ended, because its supervisor was ended by signal {-code}"
        if code == 127:
            return "could not be started (exit code 127)"
        return f"ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"

    def _let_go(self, *, urgent: bool = False) -> None:
        descriptor, self._lifeline = self._lifeline, -1
        if descriptor >= 0:
            try:
                if urgent:
                    os.write(descriptor, b"k")
            except OSError:
                pass
            os.close(descriptor)

    def kill(self) -> None:
        """End it without waiting."""
        self._let_go(urgent=True)

    async def end(self, *, urgent: bool) -> None:
        """Let the server end by itself, then make it; returns when it is gone."""
        self._let_go(urgent=urgent)
        with anyio.move_on_after(GRACE_S + _END_S):
            await self.ended.wait()
            return
        self._process.kill()  # the supervisor hangs; its child dies with it
        with anyio.move_on_after(1.0):
            await self.ended.wait()


def _resolve(target: StdioTarget, environment: dict[str, str]) -> str:
    """Return the program's path; raise an `OSError` that says what is wrong."""
    if target.cwd is not None and not os.path.isdir(target.cwd):
        raise NotADirectoryError(f"cwd={target.cwd!r} is no directory")
    command = target.command
    if os.sep in command:
        path = Path(target.cwd or ".") / Path(command).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"there is no file {command!r}")
        if not os.access(path, os.X_OK) or path.is_dir():
            raise PermissionError(f"{command!r} is no executable file")
        return str(path.absolute())
    found = shutil.which(command, path=environment.get("PATH", os.defpath))
    if found is None:
        raise FileNotFoundError(f"the command {command!r} is not on PATH ({environment.get('PATH', '')})")
    return found
