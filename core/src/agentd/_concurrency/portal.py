"""The portal of synchronous callers: one event loop thread of the process that serves them all."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal, BlockingPortalProvider

__all__ = ["PortalLease"]


class PortalLease:
    """A share in the one event loop thread that serves all synchronous callers of the process.

    The thread starts with the first lease and ends with the last. `on_exit` is called when the main thread
    has ended while the lease is still open; it should close it. It is called before the interpreter waits
    for other threads, which atexit handlers are not: anyio's idle worker threads would be waited for in
    vain. In a forked child, the leases of its parent are closed: that thread is not there.
    """

    def __init__(self, on_exit: Callable[[], None] | None = None) -> None:
        self._provider = _shared.provider()
        self.portal: BlockingPortal = self._provider.__enter__()
        self._thread = self.portal.call(threading.current_thread)
        self._on_exit = on_exit
        self._open = True
        _shared.leases.add(self)

    @property
    def is_open(self) -> bool:
        """Whether the portal can be used."""
        return self._open

    def close(self) -> None:
        """Give the share back. From any thread; may be called again."""
        with _shared.lock:
            was_open, self._open = self._open, False
        if was_open:
            _shared.leases.discard(self)
            if threading.current_thread() is self._thread:
                # a client was collected there: the thread cannot wait for its own end
                threading.Thread(target=self._provider.__exit__, args=(None, None, None), daemon=True).start()
            else:
                self._provider.__exit__(None, None, None)

    def exit(self) -> None:
        """What happens at the end of the main thread."""
        try:
            if self._on_exit is not None:
                self._on_exit()
        finally:
            self.close()


class _Shared:
    """What the leases of a process share. Empty until the first one is made."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.leases: weakref.WeakSet[PortalLease] = weakref.WeakSet()
        self._provider: BlockingPortalProvider | None = None

    def provider(self) -> BlockingPortalProvider:
        from anyio.from_thread import BlockingPortalProvider

        with self.lock:
            if self._provider is None:
                self._provider = BlockingPortalProvider(backend="asyncio")
                watcher = threading.Thread(target=self._at_end, name="agentd-exit", daemon=True)
                watcher.start()
                atexit.register(watcher.join, 10.0)
            return self._provider

    def _at_end(self) -> None:
        threading.main_thread().join()
        for lease in list(self.leases):
            with suppress(Exception):  # the interpreter is ending: the others still want to be closed
                lease.exit()


_shared = _Shared()


def _forget_in_child() -> None:
    global _shared
    for lease in list(_shared.leases):
        lease._open = False
    _shared = _Shared()


os.register_at_fork(after_in_child=_forget_in_child)
