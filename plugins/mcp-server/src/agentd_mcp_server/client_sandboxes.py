"""All sandboxes of a server: one a client, opened when it is first needed, put away when it has been idle for long, or
when all places are taken and a newcomer needs one."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import anyio
from agentd.errors import ConfigError

from agentd_mcp_server.abilities import ClientAbilities
from agentd_mcp_server.client_sandbox import ClientSandbox, PutAway
from agentd_mcp_server.making_room import Seat, who_makes_room
from agentd_mcp_server.offered_lists import Offer

__all__ = ["DEFAULT", "GRACE_S", "ClientSandboxes", "name_of_session"]

_log = logging.getLogger("agentd.mcp")
DEFAULT: Final = "default"
GRACE_S: Final = 60.0
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_NOTHING: Final = Offer()
_LOOK_S: Final = 15.0
_MOST_REMEMBERED: Final = 1000
"""Of those put away: what they were like."""


def name_of_session(session: str) -> str:
    """Return the name of a session's sandbox. It has a full stop, so no client can give it."""
    return f"session.{hashlib.sha256(session.encode()).hexdigest()[:16]}"


class ClientSandboxes:
    """The sandboxes by name. An async context manager that closes them all.

    :param settings: returns the arguments of `Session` for a sandbox's name.
    :param most: how many may be open at once. For one more, the one that has been idle for longest is put away.
    :param grace_s: how long it must have been idle: no request, no connection of its client, no job.
    :param idle_s: one that has served nothing for so long is put away in any case.
    :param offer: what of the servers behind clients are offered.
    :param are_shared: there are several clients, and those without a session may work in one sandbox.
    """

    def __init__(
        self,
        settings: Callable[[str], Mapping[str, Any]],
        *,
        most: int = 32,
        grace_s: float = GRACE_S,
        idle_s: float = 1800.0,
        offer: Offer = _NOTHING,
        are_shared: bool = False,
    ) -> None:
        self._are_shared = are_shared
        self._settings = settings
        self._most = most
        self._grace_s = grace_s
        self._idle_s = idle_s
        self._offer = offer
        self._sandboxes: dict[str, ClientSandbox] = {}
        self._opening: dict[str, anyio.Lock] = {}
        self._ending: dict[str, anyio.Event] = {}
        self._away: OrderedDict[str, PutAway] = OrderedDict()
        self._attended: Counter[str] = Counter()
        self._addresses: dict[str, str] = {}
        self._group = anyio.create_task_group()

    async def __aenter__(self) -> ClientSandboxes:
        await self._group.__aenter__()
        self._group.start_soon(self._look)
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            for name in list(self._sandboxes):
                await self.close(name)
            for ended in list(self._ending.values()):
                await ended.wait()
        await self._group.__aexit__(*exc_info)

    @property
    def start(self) -> Callable[..., object]:
        """Starts a task that ends with the sandboxes at the latest."""
        return self._group.start_soon

    def __contains__(self, name: str) -> bool:
        return name in self._sandboxes

    @contextmanager
    def attended(self, name: str) -> Iterator[None]:
        """While entered, somebody who works in this sandbox is connected: it makes room for nobody."""
        self._attended[name] += 1
        try:
            yield
        finally:
            self._attended[name] -= 1
            if self._attended[name] <= 0:
                del self._attended[name]
            if name in self._sandboxes:
                self._sandboxes[name].last_attended = anyio.current_time()

    async def find(
        self, name: str = DEFAULT, abilities: ClientAbilities | None = None, address: str = ""
    ) -> ClientSandbox:
        """Return the sandbox of this name; if it is not there, it is opened, for a client with these abilities.

        :param address: of the client.
        :raises ConfigError: for a wrong name, or if there are too many.
        """
        check_name(name)
        return await self._find(name, abilities, address)

    async def find_of_session(
        self,
        session: str,
        abilities: ClientAbilities,
        ended: Callable[[Callable[[], Awaitable[None]]], None],
        address: str = "",
    ) -> ClientSandbox:
        """Return the sandbox of a session, which no name leads to.

        :param ended: takes what is to be called at the session's end, once for each sandbox that is opened.
        """
        name = name_of_session(session)
        is_new = name not in self._sandboxes
        sandbox = await self._find(name, abilities, address)
        if is_new:
            ended(partial(self._end, name))
        return sandbox

    async def _find(self, name: str, abilities: ClientAbilities | None, address: str) -> ClientSandbox:
        sandbox = self._sandboxes.get(name)
        if sandbox is not None:
            return sandbox
        lock = self._opening.setdefault(name, anyio.Lock())  # one that opens slowly holds up no other
        async with lock:
            try:
                if name in self._sandboxes:
                    return self._sandboxes[name]
                return await self._open(name, abilities, address)
            finally:
                if not lock.statistics().tasks_waiting:
                    self._opening.pop(name, None)

    async def _open(self, name: str, abilities: ClientAbilities | None, address: str) -> ClientSandbox:
        if (ending := self._ending.get(name)) is not None:  # its folder is in use until then
            await ending.wait()
        if self._is_full:
            leaving, wait_s = self._who_makes_room(address)
            if leaving is None:
                raise ConfigError(
                    f"all {self._most} sandboxes are in use, and none has been idle for {self._grace_s:g} s; try again "
                    f"in {wait_s:g} s, end a client's session, or start the server with more (--max-sandboxes)"
                )
            _log.info("the sandbox %r makes room for another one", leaving)
            await self._put_away(leaving, "its place was needed for another client")
        away = self._away.pop(name, None)
        sandbox = ClientSandbox(
            self._settings(name), abilities, self.start, self._offer, is_shared=self._are_shared, away=away
        )
        try:
            await sandbox.open()
        except BaseException:
            if away is not None:
                self._remember(name, away)
            with anyio.CancelScope(shield=True):
                await sandbox.aclose()
            raise
        self._sandboxes[name] = sandbox
        self._addresses[name] = address
        return sandbox

    # --- places --------------------------------------------------------------------------------------

    @property
    def _is_full(self) -> bool:
        opening = sum(name not in self._sandboxes for name in self._opening)
        return len(self._sandboxes) + opening > self._most

    def wait_s(self, address: str) -> float:
        """Return how many seconds a new client at this address has to wait for a place; 0 if it need not."""
        if len(self._sandboxes) + sum(name not in self._sandboxes for name in self._opening) < self._most:
            return 0.0
        return self._who_makes_room(address)[1]

    def _who_makes_room(self, address: str) -> tuple[str | None, float]:
        now = anyio.current_time()
        seats = [
            Seat(
                name,
                self._addresses.get(name, ""),
                None if sandbox.is_at_work or self._attended[name] else now - sandbox.idle_since,
            )
            for name, sandbox in self._sandboxes.items()
        ]
        return who_makes_room(seats, address, grace_s=self._grace_s)

    async def _put_away(self, name: str, why: str) -> None:
        """End a sandbox that its client may come back to. It goes on if this is cancelled."""
        sandbox = self._sandboxes.pop(name)
        ended = self._ending[name] = anyio.Event()

        async def put_away() -> None:
            try:
                with anyio.CancelScope(shield=True):
                    self._remember(name, await sandbox.put_away(why))
                    await self._close(name, sandbox)
            finally:
                del self._ending[name]
                ended.set()

        self._group.start_soon(put_away)
        await ended.wait()

    def _remember(self, name: str, away: PutAway) -> None:
        self._away[name] = away
        while len(self._away) > _MOST_REMEMBERED:
            self._away.popitem(last=False)

    # --- the end -------------------------------------------------------------------------------------

    async def check(self) -> None:
        """Raise now what every sandbox would raise for wrong settings. None is opened."""
        sandbox = ClientSandbox(self._settings(""))
        try:
            sandbox.check()
        finally:
            await sandbox.aclose()

    async def _end(self, name: str) -> None:
        """End the sandbox of a session that is over: nobody comes back to it."""
        if (ending := self._ending.get(name)) is not None:
            await ending.wait()
        self._away.pop(name, None)
        await self.close(name)

    async def close(self, name: str) -> None:
        """End a sandbox, if there is one of this name."""
        sandbox = self._sandboxes.pop(name, None)
        if sandbox is not None:
            await self._close(name, sandbox)

    async def _close(self, name: str, sandbox: ClientSandbox) -> None:
        """What goes wrong with it is logged: others go on."""
        self._addresses.pop(name, None)
        try:
            await sandbox.aclose()
        except Exception:
            _log.exception("the sandbox %r has not ended as it should", name)

    async def _look(self) -> None:
        while True:
            await anyio.sleep(min(_LOOK_S, self._idle_s))
            for name, sandbox in list(self._sandboxes.items()):
                idle_s = anyio.current_time() - sandbox.last_used
                if name in self._sandboxes and not sandbox.is_busy and idle_s > self._idle_s:
                    await self._put_away(name, f"it had served nothing for {self._idle_s:g} s")


def check_name(name: str) -> None:
    """Raise `ConfigError` for what is no name of a sandbox."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"sandbox: letters, digits, _ and -, at most 64, got {name!r:.80}")
