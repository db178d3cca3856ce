"""`MicroVM`: one microVM of the SDK, found or made, entered, removed. Its methods run in the SDK's thread.

There are two ways to live. A microVM of a session alone is *attached*: msb ends it when this program ends,
however it does. One of a named conversation is *detached*, so that a later process finds it again; it is
told every now and then that somebody still wants it, and ends by itself `idle_timeout_s` after nobody has.
Both are *ephemeral*: msb removes what it keeps of them when they have stopped.

One that begins with a kept disk is *restored*. msb makes these neither attached nor ephemeral: it ends like a
detached one, and what is left of those whose host has died is removed when the next one is restored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from agentd.errors import ConfigError, RunnerStartError, SandboxUnavailableError

from agentd_executor_msb.disks import VmSnapshot, find_disk, keep_disk
from agentd_executor_msb.probes import explain
from agentd_executor_msb.settings import MsbSettings

__all__ = ["MicroVM"]

LABEL = "agentd.settings"
STOP_S = 10.0
ANSWER_S = 30.0
BOOT_S = 900.0  # the image may have to be pulled
RESTORED = "agentd.restored-"  # no conversation's microVM has a name like this
# What an action needs to know of the guest: the interpreter, bash, then the environment, NUL between all.
_LOOK = 'command -v "$1" || echo; command -v bash || echo; exec env -0'


class MicroVM:
    """A microVM by name.

    :param options: returns the keyword arguments of `Sandbox.create`; called when one is made.
    :param fingerprint: what settings it was made with; one of the same name with others is refused.
    :param lasting: whether it may outlive this process.
    """

    def __init__(
        self,
        name: str,
        settings: MsbSettings,
        options: Callable[[], dict[str, Any]],
        fingerprint: str,
        *,
        lasting: bool,
    ) -> None:
        self.name = name
        self.settings = settings
        self.lasting = lasting
        self._options = options
        self._fingerprint = fingerprint
        self._sandbox: Any = None  # the SDK's; while it is held, an attached microVM lives
        self._lock = asyncio.Lock()
        self._owner = 0  # the process that has begun to make or find it; a forked child is another
        self._keeper: asyncio.Task[None] | None = None

    @property
    def known(self) -> bool:
        """Whether this object, in this process, has begun to make or find its microVM, so that `down` is due."""
        return self._owner == os.getpid()

    async def up(self) -> None:
        """Find it, or make and boot it. Returns at once if it runs.

        :raises SandboxUnavailableError: if it cannot be had; `ConfigError` if its settings are refused.
        """
        from microsandbox import MicrosandboxError

        self._owner = os.getpid()
        async with self._lock:  # two actions may be the first
            try:
                await self._find_or_make()
            except MicrosandboxError as error:
                raise explain(error, self.settings) from error
            except TimeoutError as error:
                raise SandboxUnavailableError(
                    f"the microVM {self.name!r} did not start in time; see `msb doctor` and `msb logs {self.name}`"
                ) from error
        if self._touched and (self._keeper is None or self._keeper.done()):
            self._keeper = asyncio.ensure_future(self._keep())

    async def _find_or_make(self) -> None:
        found = await asyncio.wait_for(self._find(), ANSWER_S)
        if found is None:
            try:
                self._sandbox = await asyncio.wait_for(self._make(), BOOT_S)
            except BaseException:  # cancelled, too: a microVM that nobody waits for must not go on booting
                with contextlib.suppress(Exception):
                    await asyncio.wait_for(self._remove(), ANSWER_S)
                raise
        elif self._sandbox is None:
            self._refuse_others(found)
            self._sandbox = await asyncio.wait_for(found.connect(), ANSWER_S)

    @property
    def _touched(self) -> bool:
        return self.lasting or self.settings.vm_snapshot is not None

    async def _find(self) -> Any:
        """Return the SDK's handle of it, if it runs."""
        from microsandbox import Sandbox, SandboxNotFoundError, SandboxStatus

        try:
            handle = await Sandbox.get(self.name)
        except SandboxNotFoundError:
            return None
        if handle.status == SandboxStatus.PAUSED:
            await handle.resume()
            return handle
        return handle if handle.status in (SandboxStatus.RUNNING, SandboxStatus.STARTING) else None

    def _refuse_others(self, handle: Any) -> None:
        if handle.config().get("labels", {}).get(LABEL) != self._fingerprint:
            raise ConfigError(
                f"the microVM {self.name!r} runs with other settings or another workspace; use another "
                f"conversation_id, or remove it with: msb rm -f {self.name}"
            )

    async def _make(self) -> Any:
        from microsandbox import Sandbox

        if self.settings.vm_snapshot is not None:
            disk = await find_disk(self.settings.vm_snapshot)
            await _remove_left_over()
            idle_timeout = self.settings.idle_timeout_s
            return await Sandbox.restore(
                disk.id, name=self.name, idle_timeout=idle_timeout, **self._options()
            )
        return await Sandbox.create(
            self.name,
            **self._options(),
            labels={LABEL: self._fingerprint},
            ephemeral=True,
            detached=self.lasting,
            idle_timeout=self.settings.idle_timeout_s if self.lasting else None,
            replace=True,  # a stopped one of this name is what a failed boot has left
        )

    async def _keep(self) -> None:
        sandbox = self._sandbox
        while True:
            await asyncio.sleep(self.settings.idle_timeout_s / 3)
            try:
                await asyncio.wait_for(sandbox.touch(), ANSWER_S)
            except Exception:  # it has stopped: the next action makes another
                return

    async def look(self, python: str) -> tuple[str, dict[str, str]]:
        """Return the interpreter's path in the guest and the environment that msb and the image give.

        That has the image's PATH, the certificates of msb's proxy and the placeholders of secrets.

        :raises RunnerStartError: if the image has no such interpreter, or no bash.
        """
        output = await self._answer(
            self._sandbox.exec("/bin/sh", ["-c", _LOOK, "sh", python], user=self.settings.user)
        )
        path, bash, rest = [*bytes(output.stdout_bytes).split(b"\n", 2), b"", b""][:3]
        for wanted, got in ((python, path), ("bash", bash)):
            if not got.startswith(b"/"):
                said = output.stderr_bytes.decode("utf-8", "replace").strip()
                raise RunnerStartError(
                    f"the image {self.settings.image!r} has no {wanted}; agentd needs Python 3.11 or newer and bash "
                    f"in it{f' ({said})' if said else ''}"
                )
        pairs = (entry.decode("utf-8", "surrogateescape").partition("=") for entry in rest.split(b"\0"))
        return path.decode(), {name: value for name, equals, value in pairs if equals}

    async def stream(self, command: Sequence[str], env: Mapping[str, str]) -> Any:
        """Start a command with piped input; return the SDK's handle of it."""
        from microsandbox import Stdin

        return await self._answer(
            self._sandbox.exec_stream(
                command[0],
                list(command[1:]),
                env=dict(env),
                cwd="/",
                user=self.settings.user,
                stdin=Stdin.pipe(),
            )
        )

    async def keep(self, label: str | None) -> VmSnapshot:
        """Have msb keep its disk; it must be up. :raises SandboxUnavailableError: if msb cannot."""
        # What code has written may be in the guest's memory still.
        await self._answer(self._sandbox.exec("/bin/sh", ["-c", "sync"], user=self.settings.user))
        return await keep_disk(self.name, label)

    async def _answer(self, question: Awaitable[Any]) -> Any:
        from microsandbox import MicrosandboxError

        try:
            return await asyncio.wait_for(question, ANSWER_S)
        except (MicrosandboxError, TimeoutError) as error:
            said = str(error) or f"no answer within {ANSWER_S:g} s"
            raise RunnerStartError(f"the microVM {self.name!r} cannot run a command: {said}") from error

    async def down(self) -> None:
        """Stop it and remove what is left. Nothing happens if it has gone."""
        if self._keeper is not None:
            self._keeper.cancel()
        self._sandbox = None
        await self._remove()
        self._owner = 0

    async def _remove(self) -> None:
        from microsandbox import MicrosandboxError, Sandbox, SandboxNotFoundError

        try:
            handle = await Sandbox.get(self.name)
            try:
                # Not at once by force: what the guest has not written to its mounts yet would be lost.
                await handle.destroy(timeout=STOP_S)
            except SandboxNotFoundError:
                raise
            except MicrosandboxError:
                await handle.destroy(force=True, timeout=STOP_S)
        except SandboxNotFoundError:  # an ephemeral one removes itself when it stops
            pass

    def __repr__(self) -> str:
        return f"<MicroVM {self.name!r}{', up' if self._sandbox is not None else ''}>"


async def _remove_left_over() -> None:
    """Remove what msb keeps of restored microVMs that have stopped. Those that run are somebody's."""
    from microsandbox import MicrosandboxError, Sandbox, SandboxStatus

    found, cursor = [], None
    while True:
        page = await asyncio.wait_for(Sandbox.list_with(cursor=cursor), ANSWER_S)
        found += [handle for handle in page.sandboxes if handle.name.startswith(RESTORED)]
        if (cursor := page.next_cursor) is None:
            break
    for handle in found:
        if handle.status in (SandboxStatus.STOPPED, SandboxStatus.CRASHED):
            try:
                await asyncio.wait_for(handle.remove(), ANSWER_S)
            except (MicrosandboxError, TimeoutError):  # another process does so, or it has just been started
                pass
