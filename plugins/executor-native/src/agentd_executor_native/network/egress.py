"""`Egress`: the network of one sandbox, served by one thread of this process for all sessions.

The sandbox's only way out is a listening socket that it has made in its own network namespace and handed over
(`inside/proxy_port`). Connections to it are accepted here: nothing on the host listens for them, in no namespace, on no
path.
"""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import ssl
import threading
import weakref
from collections.abc import Callable
from functools import partial

from agentd_executor_native.network import socks
from agentd_executor_native.network.addresses import Address, is_public
from agentd_executor_native.network.gate import (
    EgressLimits,
    HostGate,
    HostRefusedError,
    HostUnreachableError,
    OnHostRequest,
    OnPolicyRequest,
    Resolver,
    log,
    look_up,
)
from agentd_executor_native.network.hosts import HostSyntaxError
from agentd_executor_native.network.http_relay import HttpRelay
from agentd_executor_native.network.rules import HostRules
from agentd_executor_native.network.secrets import HostSecrets
from agentd_executor_native.network.streams import SocketStream
from agentd_executor_native.network.tls_ends import TlsEnds, trusted_by_machine
from agentd_executor_native.network.tunnel import serve_tunnel

__all__ = ["Egress"]

SO_NETNS_COOKIE = 71  # Linux 5.14; not in the socket module
CLOSE_S = 5.0
OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Egress:
    """What one session may reach, and the connections that it has.

    :param rules: of `allowed_hosts`.
    :param on_host_request: called with `(host, port)` in a thread, once for each that is not allowed by the rules;
        `True` allows it for this session. It may be asynchronous: then it has an event loop of its own. Not asked for
        addresses that are not public: only `rules` allow those.
    :param secrets: their hosts are allowed thereby. The sandbox must show the file of `trusted_authorities`.
    :param resolve: looks a name up; `may_lead_to` says which addresses it may have; `to_servers` verifies the servers
        that get secrets. For tests, which must not leave this machine.
    :raises ConfigError: if there are secrets, and the package that makes certificates is not installed.
    """

    def __init__(
        self,
        rules: HostRules,
        *,
        on_host_request: OnHostRequest | None = None,
        limits: EgressLimits | None = None,
        secrets: HostSecrets | None = None,
        resolve: Resolver = look_up,
        may_lead_to: Callable[[Address], bool] = is_public,
        to_servers: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or EgressLimits()
        self._tls_ends = None
        if secrets is not None and secrets.entries:
            self._tls_ends = TlsEnds(secrets, to_servers or ssl.create_default_context())
            rules = HostRules.parse("allowed_hosts", [*rules.entries, *secrets.hosts])
        self._gate = HostGate(
            rules,
            on_host_request=on_host_request,
            limits=self._limits,
            resolve=resolve,
            may_lead_to=may_lead_to,
            tls_ends=self._tls_ends,
        )
        self._listener: socket.socket | None = None
        self.forget_loop()
        _known.add(self)

    def forget_loop(self) -> None:
        """Start anew without a thread: for a forked child, which has none of its parent's."""
        if self._listener is not None:
            self._listener.close()
        self._listener = None
        self._thread: _EgressThread | None = None
        self._channels: set[socket.socket] = set()  # of sandboxes that have not handed anything over yet
        self._accepting: asyncio.Task[None] | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(self._limits.connections)
        self._gate.forget_loop()

    # --- from any thread

    def attach_policy(self, policy: OnPolicyRequest) -> None:
        """Have a policy decide about each host, of `rules` as well."""
        self._gate.policy = policy

    def child_end(self) -> socket.socket:
        """Return the end of a new socket pair for `hand_over_port` in the sandbox; close it once that has started.

        For each start of the session's sandbox: what its predecessor listened on is closed.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.receive_from(ours)
        return theirs

    def receive_from(self, end: socket.socket) -> None:
        """Serve what a sandbox hands over at the other end of this one, which is this object's from now on."""
        end.setblocking(False)
        self._in_loop().call_soon_threadsafe(self._await_port, end)

    def serve(self, listener: socket.socket) -> None:
        """Serve the connections of a listening socket, which is this object's from now on."""
        self._in_loop().call_soon_threadsafe(self._serve_port, listener)

    def trusted_authorities(self) -> str | None:
        """Return the file of certificates that programs in the sandbox must trust; None if they need not."""
        if self._tls_ends is None:
            return None
        return f"{self._tls_ends.authority.pem}\n{trusted_by_machine()}"

    def take_refused(self) -> list[str]:
        """Return what was refused since the last call, a sentence each; each is told once, and fifty at most."""
        return self._gate.take_refused()

    def close(self) -> None:
        """End all connections. May be called again."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        ended = asyncio.run_coroutine_threadsafe(self._end(), thread.loop)
        try:
            ended.result(CLOSE_S)
        except TimeoutError:
            log.warning("the network of a session has not ended within %g s", CLOSE_S)
        _release(self)

    def _in_loop(self) -> asyncio.AbstractEventLoop:
        if self._thread is None:
            self._thread = _lease(self)
            self._all_slots = self._thread.slots  # also for what is still on its way when this is closed
        return self._thread.loop

    # --- in the loop

    def _await_port(self, channel: socket.socket) -> None:
        self._channels.add(channel)
        asyncio.get_running_loop().add_reader(channel, self._receive_port, channel)

    def _receive_port(self, channel: socket.socket) -> None:
        self._forget_channel(channel)
        with channel:
            try:
                _, descriptors, _, _ = socket.recv_fds(channel, 1, 1, socket.MSG_CMSG_CLOEXEC)
            except OSError as error:
                log.warning("the sandbox has no network: %s", error)
                return
            for descriptor in descriptors:  # none if the sandbox has not started
                self._take_port(socket.socket(fileno=descriptor))

    def _forget_channel(self, channel: socket.socket) -> None:
        self._channels.discard(channel)
        asyncio.get_running_loop().remove_reader(channel)

    def _take_port(self, listener: socket.socket) -> None:
        problem = _problem_of(listener)
        if problem:
            log.error("the sandbox has no network: %s", problem)
            listener.close()
        else:
            self._serve_port(listener)

    def _serve_port(self, listener: socket.socket) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        listener.setblocking(False)
        self._listener = listener
        accepting = self._accept(listener, self._all_slots)
        self._accepting = asyncio.get_running_loop().create_task(accepting)
        self._accepting.add_done_callback(lambda _: _shut_and_close(listener))

    async def _accept(self, listener: socket.socket, all_slots: asyncio.Semaphore) -> None:
        while True:
            await self._slots.acquire()
            connection = await _accept_one(listener, all_slots)
            task = asyncio.create_task(self._serve(connection))
            self._serving.add(task)
            task.add_done_callback(partial(self._served, connection, all_slots))

    def _served(
        self, connection: socket.socket, all_slots: asyncio.Semaphore, task: asyncio.Task[None]
    ) -> None:
        connection.close()  # here, too: a task that is cancelled before its first step never got to it
        self._serving.discard(task)
        self._slots.release()
        all_slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a connection of the sandbox failed", exc_info=error)

    async def _serve(self, connection: socket.socket) -> None:
        task = asyncio.current_task()
        assert task is not None
        with SocketStream(connection) as client:
            watch = _IdleWatch(client, task, self._limits.idle_s)
            try:
                if await client.fill_some():
                    is_socks = client.buffered[0] == socks.VERSION
                    await (self._serve_socks if is_socks else self._serve_http)(client)
            except OSError:  # a side has gone, or took too long
                pass
            finally:
                watch.end()

    async def _serve_http(self, client: SocketStream) -> None:
        relay = HttpRelay(client, self._gate)
        target = await relay.serve()
        if target is not None:
            try:
                await serve_tunnel(client, self._gate, target, relay.confirm)
            except (HostRefusedError, HostUnreachableError) as error:
                await relay.refuse(error)

    async def _serve_socks(self, client: SocketStream) -> None:
        try:
            async with asyncio.timeout(self._limits.opening_s):
                target = await socks.read_socks_target(client)
            await serve_tunnel(
                client, self._gate, target, lambda: client.write(socks.socks_reply(socks.GRANTED))
            )
        except socks.SocksSyntaxError as error:
            await client.say_and_end(error.answer)
        except (HostSyntaxError, HostRefusedError):
            await client.say_and_end(socks.socks_reply(socks.REFUSED))
        except HostUnreachableError:
            await client.say_and_end(socks.socks_reply(socks.UNREACHABLE))

    async def _end(self) -> None:
        for channel in list(self._channels):
            self._forget_channel(channel)
            channel.close()
        tasks = [*self._serving, *self._gate.tasks()]
        if self._accepting is not None:
            tasks.append(self._accepting)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _IdleWatch:
    """Cancels a connection that nothing goes through."""

    def __init__(self, client: SocketStream, task: asyncio.Task[None], idle_s: float) -> None:
        self._client, self._task, self._idle_s = client, task, idle_s
        self._timer = task.get_loop().call_later(idle_s, self._look)

    def _look(self) -> None:
        left_s = self._idle_s - self._client.clock.idle_s
        if left_s <= 0:
            self._task.cancel()
        else:
            self._timer = self._task.get_loop().call_later(left_s, self._look)

    def end(self) -> None:
        self._timer.cancel()


async def _accept_one(listener: socket.socket, all_slots: asyncio.Semaphore) -> socket.socket:
    """Return the next connection once there is room for it in this process."""
    while True:
        try:
            connection, _ = listener.accept()
            break
        except BlockingIOError:
            await _wait_for_one(listener)
        except OSError as error:
            if error.errno in OUT_OF:
                await asyncio.sleep(0.1)
            elif error.errno != errno.ECONNABORTED:
                raise
    try:
        await all_slots.acquire()
    except BaseException:
        connection.close()
        raise
    return connection


async def _wait_for_one(listener: socket.socket) -> None:
    """Wait for a connection without accepting it: what `sock_accept` has accepted is lost if it is cancelled then."""
    loop = asyncio.get_running_loop()
    one_waits: asyncio.Future[None] = loop.create_future()
    loop.add_reader(listener, _say_once, one_waits)
    try:
        await one_waits
    finally:
        loop.remove_reader(listener)


def _say_once(one_waits: asyncio.Future[None]) -> None:
    if not one_waits.done():
        one_waits.set_result(None)


def _shut_and_close(listener: socket.socket) -> None:
    try:
        listener.shutdown(socket.SHUT_RDWR)  # whoever else has a copy
    except OSError:
        pass
    listener.close()


def _problem_of(listener: socket.socket) -> str:
    """Say why a socket from a sandbox is not served: it must not be one that others reach, too."""
    if listener.family != socket.AF_INET or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it has handed over something that does not listen for TCP"
    if listener.getsockname()[0] != "127.0.0.1":
        return "it listens on more than its loopback"
    try:
        with socket.socket() as own:
            spaces = {one.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8) for one in (listener, own)}
    except OSError:  # Linux before 5.14 cannot tell
        return ""
    return "it shares the host's network" if len(spaces) == 1 else ""


# --- the thread -------------------------------------------------------------------------------


class _EgressThread:
    """A daemon thread with an event loop, for as long as an `Egress` is open. asyncio's own, whatever the host runs:
    its calls on sockets need no buffers but ours."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.users: set[Egress] = set()
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = 1024 if soft == resource.RLIM_INFINITY else min(1024, soft // 4)  # each takes two descriptors
        self.slots = asyncio.Semaphore(max(16, most))
        self._thread = threading.Thread(target=self._run, name="agentd-network", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it, from another thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


_lock = threading.Lock()
_thread: _EgressThread | None = None
_known: weakref.WeakSet[Egress] = weakref.WeakSet()
_parents: list[_EgressThread] = []


def _lease(egress: Egress) -> _EgressThread:
    global _thread
    with _lock:
        if _thread is None:
            _thread = _EgressThread()
        _thread.users.add(egress)
        return _thread


def _release(egress: Egress) -> None:
    global _thread
    with _lock:
        if _thread is None or egress not in _thread.users:
            return
        _thread.users.discard(egress)
        if _thread.users:
            return
        unused, _thread = _thread, None
    unused.stop()


def _after_fork_in_child() -> None:
    global _lock, _thread
    if _thread is not None:
        _parents.append(_thread)  # its loop must not be collected: the parent waits on the same epoll
    _lock, _thread = threading.Lock(), None
    for egress in list(_known):
        egress.forget_loop()


os.register_at_fork(after_in_child=_after_fork_in_child)
