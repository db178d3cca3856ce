"""Run something in a child process that is killed before its Nth change of the file system, for every N."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["killed_at_every_step"]

CHANGING = (
    *("mkdir", "rename", "unlink", "rmdir", "link", "symlink"),
    *("utime", "fchmod", "chown", "write", "fsync", "ftruncate"),
)


def killed_at_every_step(work: Callable[[], object], *, every: int = 1) -> Iterator[int]:
    """Give N after each kill, and end when the work was faster than the kill.

    The child is forked, so that `work` need not be repeatable in one process.
    """
    step = 1
    while True:
        pid = os.fork()
        if pid == 0:
            try:
                _arm(step)
                work()
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return
        assert os.WTERMSIG(status) == signal.SIGKILL
        yield step
        step += every


def _arm(step: int) -> None:
    left = [step]

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    for name in CHANGING:
        setattr(os, name, counted(getattr(os, name)))
    opened = os.open

    def open_counted(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        if flags & os.O_CREAT:
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return opened(path, flags, *args, **kwargs)

    os.open = open_counted  # type: ignore[assignment]
