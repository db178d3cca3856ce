"""What stands in a workspace for absent settings while a sandbox of this program runs there.

Nothing can be mounted where nothing is (`agentd_runner.stand_ins`). This program makes the entries and removes them;
there is no supervisor that outlives it. If it is killed, whatever opens the workspace next removes them.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import attrs
from agentd.errors import SandboxUnavailableError
from agentd.statedir import make_private
from agentd_runner.host.environment import Place
from agentd_runner.host.placeholders import PLACEHOLDERS, git_patterns, mark_dir
from agentd_runner.host.process import RunnerProcess
from agentd_runner.host.repositories import guard_repositories
from agentd_runner.stand_ins import FOLDER, StandIns

__all__ = ["GIT_PATTERNS", "GuardedNames", "SandboxStandIns"]

GIT_PATTERNS: Final = "/etc/agentd-gitexcludes"
"""A file of the sandbox: what git is to ignore."""

GONE_S: Final = 1.0  # how long the kernel may take to end a sandbox that is killed


@attrs.frozen
class GuardedNames:
    """What code must not change in a workspace, by paths relative to it."""

    stand_ins: dict[str, str]
    """What stands in for it where it is absent (`StandIns`)."""
    all: tuple[str, ...]
    """Without what lies in another one."""

    @classmethod
    def of(cls, workspace: Path, *, allow_git_config: bool) -> GuardedNames:
        """Look for the repositories that are there, which takes longest."""
        git = guard_repositories(workspace, allow_config=allow_git_config)
        wanted = {**git.wanted, **PLACEHOLDERS}
        stand_ins = dict(sorted(wanted.items(), key=lambda item: item[0].count("/")))
        names: list[str] = []
        for name in sorted({*wanted, *git.denied}, key=lambda name: name.split("/")):
            if not names or not name.startswith(f"{names[-1]}/"):
                names.append(name)
        return cls(stand_ins, tuple(names))


class SandboxStandIns:
    """What stands in for one executor's sandbox."""

    def __init__(self, place: Place) -> None:
        self._workspace = place.workspace
        self._folders = dict.fromkeys(
            place.folders, FOLDER
        )  # which the runner could not remove if it is killed
        self._made: StandIns | None = None
        self._process: RunnerProcess | None = None
        _all.add(self)

    def make(self, guarded: GuardedNames) -> None:
        """Make what is absent. What stands there for a sandbox before stays, so that there is no moment without.

        :raises SandboxUnavailableError: if it cannot be made, or written down.
        """
        mark = mark_dir(self._workspace, "native")
        before = self._made
        try:
            make_private(mark.parent)
            wanted = {**self._folders, **guarded.stand_ins}
            self._made = StandIns(str(mark), str(self._workspace), wanted)
        except OSError as error:
            raise SandboxUnavailableError(
                "the sandbox native cannot run here: what stands in the workspace for absent settings cannot be made, "
                f"or not be written down in {mark.parent} (XDG_STATE_HOME names another place): {error}"
            ) from error
        if before is not None:
            before.remove()

    def belong_to(self, process: RunnerProcess) -> None:
        """Say for which sandbox they are."""
        self._process = process

    def patterns(self) -> str:
        """Return what git is to ignore."""
        return git_patterns(self._workspace, self._made.names if self._made is not None else ())

    def remove(self) -> None:
        """Take them away, once the sandbox has ended."""
        made, self._made, self._process = self._made, None, None
        if made is not None:
            with contextlib.suppress(OSError):  # the workspace was removed meanwhile, say
                made.remove()

    def remove_later(self, grace_s: float, then: Callable[[], None] | None) -> None:
        """Take them away when the sandbox has ended, and end it after `grace_s`; then call `then`, in any case.

        To be called by a finaliser, which must not wait, nor take a lock.
        """
        if self._made is not None or then is not None:
            with contextlib.suppress(RuntimeError):  # this program ends, too
                _thread.start_new_thread(self._remove_in_time, (grace_s, then))

    def _remove_in_time(self, grace_s: float, then: Callable[[], None] | None = None) -> None:
        if self._process is not None and self._process.wait(grace_s) is None:
            self._process.kill()
            self._process.wait(GONE_S)
        self.remove()
        if then is not None:
            then()

    def kill(self) -> None:
        """Have the kernel end the sandbox; returns before the end."""
        if self._process is not None:
            self._process.kill()

    def let_go(self) -> None:
        """In a forked child: they are the parent's."""
        made, self._made, self._process = self._made, None, None
        if made is not None:
            made.let_go()


_all: weakref.WeakSet[SandboxStandIns] = weakref.WeakSet()


def _in_use() -> Iterable[SandboxStandIns]:
    return [each for each in _all if each._made is not None]


def _end_with_program() -> None:
    """End what a program has left open that ends in an ordinary way, and leave no entries for the next one."""
    left = _in_use()
    for each in left:
        each.kill()
    for each in left:
        each._remove_in_time(GONE_S)


def _let_go_in_child() -> None:
    for each in _in_use():
        each.let_go()


atexit.register(_end_with_program)
os.register_at_fork(after_in_child=_let_go_in_child)
