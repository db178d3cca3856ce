"""The jobs of an executor's code, as the host knows them: which run, and which have ended that nobody was told of."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from agentd_runner.inside.frames import FrameError

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentd.types import Limits

    from agentd_runner.host.connection import Connection

__all__ = ["ExecutorJobs", "JobLedger"]

MAX_NEWS: Final = 32  # ends that are kept until the model is told: the newest
MAX_REASON: Final = 300  # characters of why one ended

COMMAND: Final = (
    "In code, the command `job` starts processes that outlive their block and are ended with the session (a server, a "
    "long build): `job start NAME -- COMMAND`, and then `job list`, `job out NAME --tail 20`, `job wait NAME 30`, "
    "`job signal NAME`. You are told when one ends."
)
BLOCK: Final = "A block with `bash:job NAME` in place of `bash:execute` starts one as well."


class JobLedger:
    """What the runners of one executor have told of jobs. Thread-safe.

    :param most: how many may run at once: a runner that tells of more breaks the protocol.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._running: dict[str, None] = {}
        self._news: deque[str] = deque(maxlen=MAX_NEWS)
        self._untold = 0
        self._runners = 0  # that were lost with jobs

    @property
    def running(self) -> tuple[str, ...]:
        """The names of those that run."""
        with self._lock:
            return tuple(self._running)

    def listener(self) -> Callable[[dict[str, Any]], None]:
        """Return what takes the JOB frames of one runner; nothing more of it counts once its jobs were lost."""
        runner = self._runners

        def take(told: dict[str, Any]) -> None:
            with self._lock:
                if self._runners == runner:
                    self._take(told)

        return take

    def _take(self, told: dict[str, Any]) -> None:
        name = told["name"]
        if told["state"] == "started":
            if name in self._running or len(self._running) >= self._most:
                raise FrameError(f"a job too many: {name!a}")
            self._running[name] = None
            return
        if name not in self._running:
            raise FrameError(f"the end of a job that does not run: {name!a}")
        del self._running[name]
        reason = f" ({told['message'][:MAX_REASON]})" if told["message"] else ""
        self._tell(
            f"the job {name!r} has ended after {told['wall_s']:.1f} s, exit code {told['exit_code']}{reason}; "
            f"`job out {name}` shows its output"
        )

    def lose(self, reason: str) -> None:
        """All that ran have ended with their runner."""
        with self._lock:
            if not self._running:
                return
            for name in self._running:
                self._tell(f"the job {name!r} was ended: {reason[:MAX_REASON]}")
            self._running.clear()
            self._runners += 1

    def _tell(self, text: str) -> None:
        self._untold += 1
        self._news.append(text)

    def news(self) -> list[str]:
        """Return what has ended since the last call, a sentence each."""
        with self._lock:
            news, lost = list(self._news), self._untold - len(self._news)
            self._news.clear()
            self._untold = 0
        return [f"{lost} more jobs have ended", *news] if lost else news


class ExecutorJobs:
    """Part of `RunnerExecutor`: jobs, as `agentd.protocols.JobExecutor` has them."""

    limits: Limits
    _jobs: JobLedger
    _connection: Connection | None
    _connected: Callable[[], Connection | None]

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs that run."""
        self._note_lost_jobs()
        return self._jobs.running

    def job_guide(self, *, blocks: bool) -> str:
        """Return what the model is told of jobs; nothing if there are none (`limits.jobs` is 0)."""
        if not self.limits.jobs:
            return ""
        return f"{COMMAND} {BLOCK}" if blocks else COMMAND

    def job_news(self) -> list[str]:
        """Return which jobs have ended since the last call, a sentence each."""
        self._note_lost_jobs()
        return self._jobs.news()

    def _note_lost_jobs(self) -> None:
        connection = self._connection
        if connection is not None and self._connected() is None:
            self._jobs.lose(connection.end_reason if connection.lost is None else connection.lost)
