"""`HostGate`: says which hosts code may reach, and makes the connections: the name first, then its addresses."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import attrs
from agentd._concurrency.pool import call_in_thread
from agentd.errors import ConfigError

from agentd_executor_native.network.addresses import Address, is_closed, read_address
from agentd_executor_native.network.hosts import Host, HttpTarget, host_and_port
from agentd_executor_native.network.rules import HostRules
from agentd_executor_native.network.streams import SocketStream
from agentd_executor_native.network.tls_ends import TlsEnds

__all__ = [
    "EgressLimits",
    "HostGate",
    "HostRefusedError",
    "HostUnreachableError",
    "OnHostRequest",
    "OnPolicyRequest",
    "Resolver",
]

OnHostRequest: TypeAlias = "Callable[[str, int], bool | Awaitable[bool]]"
OnPolicyRequest: TypeAlias = "Callable[[str, bool], Awaitable[bool]]"
"""Asked with `HOST:PORT`, and whether `allowed_hosts` have it."""

Resolver: TypeAlias = Callable[[str, int], Sequence[Address]]
"""Called in a thread. Raises OSError for a name that has no address."""

MAX_ANSWERS = 200
"""Of `on_host_request`, for a session: code could ask for ever."""

MAX_LISTED = 10_000
"""The same of a policy's answers about hosts that the rules allow: `*.example.com` may be many."""

MAX_REFUSALS = 50
MAX_ADDRESSES = 6
MAX_LOOKUPS = 8
"""At once for a session: the system's resolver cannot be stopped, so each holds a thread until it gives up."""

log = logging.getLogger("agentd.executor.native")


def _positive(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ConfigError(f"{attribute.name}: must be a number above 0, got {value!r}")


@attrs.frozen
class EgressLimits:
    """Bounds of one session's network.

    A connection holds at most two blocks of 64 KiB in this process, so a session has no more than 8 MiB in flight.

    :param connections: at once; further ones wait in the kernel.
    :param head_bytes: of a request's or an answer's first line and headers together; more is refused (431, 502).
    :param opening_s: seconds in which a connection must have said where it wants to, and sent its first message.
    :param lookup_s: seconds for the name. :param connect_s: seconds for all of its addresses together.
    :param idle_s: seconds without a byte in either direction after which a connection ends.
    :param ask_s: seconds that `on_host_request` has; no answer is a no.
    """

    connections: int = attrs.field(default=64, validator=_positive)
    head_bytes: int = attrs.field(default=1 << 16, validator=_positive)
    opening_s: float = attrs.field(default=20.0, validator=_positive)
    lookup_s: float = attrs.field(default=10.0, validator=_positive)
    connect_s: float = attrs.field(default=20.0, validator=_positive)
    idle_s: float = attrs.field(default=300.0, validator=_positive)
    ask_s: float = attrs.field(default=120.0, validator=_positive)


class HostRefusedError(Exception):
    """Code may not reach a host."""

    def __init__(self, host: Host, port: int, why: str = "is not in allowed_hosts") -> None:
        super().__init__(f"{host_and_port(host, port)} {why}")


class HostUnreachableError(Exception):
    """A host that code may reach does not answer."""

    def __init__(self, host: Host, port: int, why: str) -> None:
        super().__init__(f"{host_and_port(host, port)} cannot be reached: {why}")


def look_up(name: str, port: int) -> list[Address]:
    """The system's resolver, with its files and its order."""
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [read_address(str(entry[4][0])) for entry in found]


class HostGate:
    """The rules of one session, what was answered at run time, and the way out."""

    def __init__(
        self,
        rules: HostRules,
        *,
        on_host_request: OnHostRequest | None,
        limits: EgressLimits,
        resolve: Resolver,
        may_lead_to: Callable[[Address], bool],
        tls_ends: TlsEnds | None = None,
    ) -> None:
        self.rules = rules
        self.limits = limits
        self._tls_ends = tls_ends
        self._on_host_request = on_host_request
        self._resolve = resolve
        self._may_lead_to = may_lead_to
        self._answers: dict[tuple[Host, int], bool] = {}
        self.policy: OnPolicyRequest | None = None
        self._refused: dict[str, None] = {}
        self.forget_loop()

    def forget_loop(self) -> None:
        """Drop what belongs to an event loop that is no more: the parent's, in a forked child."""
        self._asking: dict[tuple[Host, int], asyncio.Task[bool]] = {}
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self._looking_up: set[asyncio.Task[Sequence[Address]]] = set()

    def tasks(self) -> list[asyncio.Task[Any]]:
        """Return what goes on without a connection that waits for it."""
        return [*self._asking.values(), *self._looking_up]

    # --- may it

    async def admit(self, host: Host, port: int) -> None:
        """Return if code may reach a host. :raises HostRefusedError: if not."""
        allowed = self.rules.allows(host, port)
        if self.policy is not None and (allowed or self._may_be_public(host)):
            if not await self._asked(host, port):
                raise self.refusal(host, port, "is not allowed by the session's policy")
            return
        if allowed:
            return
        if not self._may_be_asked_for(host) or not await self._asked(host, port):
            raise self.refusal(host, port)

    def _may_be_asked_for(self, host: Host) -> bool:
        """Tell whether somebody may allow a host at run time: never an address that no name may have either.

        Whoever answers may be a program that says yes to everything, and knows little of this machine's network.
        """
        return self._on_host_request is not None and self._may_be_public(host)

    def _may_be_public(self, host: Host) -> bool:
        return isinstance(host, str) or (not is_closed(host) and self._may_lead_to(host))

    def refusal(self, host: Host, port: int, why: str = "is not in allowed_hosts") -> HostRefusedError:
        """Make the error, and remember it for `take_refused`."""
        error = HostRefusedError(host, port, why)
        if len(self._refused) < MAX_REFUSALS and str(error) not in self._refused:
            log.info("%s", error)
            self._refused[str(error)] = None
        return error

    def take_refused(self) -> list[str]:
        """Return what was refused since the last call, a sentence each. From any thread."""
        refused, self._refused = self._refused, {}
        return list(refused)

    async def _asked(self, host: Host, port: int) -> bool:
        key = (host, port)
        if key in self._answers:
            return self._answers[key]
        if key not in self._asking:
            most = MAX_LISTED if self.rules.allows(host, port) else MAX_ANSWERS
            if len(self._answers) + len(self._asking) >= most:
                return False
            asked = self._ask if self.policy is None else self._ask_policy
            self._asking[key] = asyncio.create_task(asked(host, port))
        return await asyncio.shield(self._asking[key])  # others wait for the same answer

    async def _ask_policy(self, host: Host, port: int) -> bool:
        """Have the session's policy decide, which has a time-out of its own; `on_host_request` is not asked then."""
        assert self.policy is not None
        answer = False
        try:
            answer = await self.policy(host_and_port(host, port), self.rules.allows(host, port)) is True
        except Exception:
            log.exception("the policy failed over %s: refused", host_and_port(host, port))
        finally:
            self._asking.pop((host, port), None)
        self._answers[(host, port)] = answer
        return answer

    async def _ask(self, host: Host, port: int) -> bool:
        answer = False
        assert self._on_host_request is not None
        question = partial(_answer, self._on_host_request, str(host), port)
        try:
            async with asyncio.timeout(self.limits.ask_s):
                answer = await call_in_thread(question, abandon=True, unbounded=True) is True
        except TimeoutError:
            log.warning(
                "on_host_request(%r, %d) has not answered within %g s: refused",
                *(str(host), port, self.limits.ask_s),
            )
        except Exception:
            log.exception("on_host_request(%r, %d) failed: refused", str(host), port)
        finally:
            self._asking.pop((host, port), None)
        self._answers[(host, port)] = answer
        return answer

    def tls_ends_for(self, target: HttpTarget) -> TlsEnds | None:
        """Return the proxy's ends of TLS if code has a secret for a host: then what it says there must be read."""
        ends = self._tls_ends
        return ends if ends is not None and ends.secrets.concern(target) else None

    # --- the way there

    async def connect(self, host: Host, port: int) -> SocketStream:
        """Connect to a host if code may reach it.

        :raises HostRefusedError: if it may not, or if the name leads to addresses that are not public.
        :raises HostUnreachableError: if nobody answers there.
        """
        await self.admit(host, port)
        addresses = [host] if not isinstance(host, str) else await self._addresses(host, port)
        each_s = self.limits.connect_s / len(addresses)
        problem = ""
        for address in addresses:
            try:
                return await _connect(address, port, each_s)
            except TimeoutError:
                problem = problem or f"no answer within {self.limits.connect_s:g} s"
            except OSError as error:
                problem = os.strerror(error.errno) if error.errno else "it cannot be connected to"
        raise HostUnreachableError(host, port, problem)

    async def _addresses(self, name: str, port: int) -> list[Address]:
        """Return the addresses of a name that it may lead to."""
        task = asyncio.create_task(self._look_up(name, port))
        self._looking_up.add(task)
        task.add_done_callback(self._looked_up)
        try:
            async with asyncio.timeout(self.limits.lookup_s):
                found = await asyncio.shield(task)
        except TimeoutError:
            raise HostUnreachableError(name, port, "its name could not be looked up in time") from None
        except (OSError, UnicodeError) as error:
            why = (
                error.strerror if isinstance(error, OSError) and error.strerror else "its name has no address"
            )
            raise HostUnreachableError(name, port, why) from None
        unique = list(dict.fromkeys(found))
        good = [one for one in unique if not is_closed(one) and self._leads_to(one, port)]
        if unique and not good:
            raise self.refusal(name, port, "leads to no public address; its address is not in allowed_hosts")
        if not good:
            raise HostUnreachableError(name, port, "its name has no address")
        return good[:MAX_ADDRESSES]

    def _leads_to(self, address: Address, port: int) -> bool:
        return self._may_lead_to(address) or self.rules.allows_address(address, port)

    async def _look_up(self, name: str, port: int) -> Sequence[Address]:
        async with self._lookups:
            return await call_in_thread(partial(self._resolve, name, port), abandon=True, unbounded=True)

    def _looked_up(self, task: asyncio.Task[Sequence[Address]]) -> None:
        self._looking_up.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may be waiting for it any more


def _answer(ask: OnHostRequest, host: str, port: int) -> object:
    """Ask in a thread; an asynchronous function gets an event loop of its own, so that it may take its time."""
    answer = ask(host, port)
    if not inspect.isawaitable(answer):
        return answer

    async def awaited() -> object:
        return await answer

    return asyncio.run(awaited())


async def _connect(address: Address, port: int, within_s: float) -> SocketStream:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(within_s):
            await asyncio.get_running_loop().sock_connect(connection, (str(address), port))
        return SocketStream(connection)
    except BaseException:
        connection.close()
        raise
