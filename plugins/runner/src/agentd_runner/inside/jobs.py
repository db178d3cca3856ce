"""Jobs: processes that outlive the block that has started them, until they end, are ended, or the session is."""

from __future__ import annotations

import os
import select
import time

from .action import RunningAction
from .actions import SessionActions
from .descriptors import receive
from .frames import EXIT, JOB, STDOUT
from .job_output import JobOutput, JobPipe
from .output import READ_SIZE
from .poller import Poller
from .primitives import from_json, signal
from .session_job import JobRefused, JobWait, SessionJob
from .setup import RunnerSetup, may_enter
from .shell import bash_job
from .shell_state import ShellState
from .startup import VARIABLE, output_variable
from .timings import JOB_END_S, JOB_GRACE_S, JOB_REST_S, KILL_MARGIN_S
from .tool_calls import ToolCalls
from .worker_pool import SpareWorkers
from .workers import SupervisedWorker

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAME_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
LONGEST_NAME = 32
NO_BLOCK = 0xFFFFFFFF  # the number of the action that its tool calls come from: of none that the host knows
LISTED = 8  # jobs, in a message
WINDOW = (24, 80)  # lines and columns of its terminal


class SessionJobs:
    """The jobs of the session by name: those that run, and as many that have ended as may run."""

    def __init__(
        self,
        setup: RunnerSetup,
        poller: Poller,
        pool: SpareWorkers,
        calls: ToolCalls,
        actions: SessionActions,
    ) -> None:
        self.setup = setup
        self.poller = poller
        self.pool = pool
        self.calls = calls
        self.actions = actions
        self.jobs: dict[str, SessionJob] = {}
        self.resting: list[JobPipe] = []
        self.rest_due = 0.0
        self.count = 0
        actions.may_adopt, actions.adopt = self.refusal, self.adopt

    @property
    def running(self) -> list[SessionJob]:
        return [job for job in self.jobs.values() if job.result is None]

    def find(self, name: str) -> SessionJob:
        """Return the job of this name. Raises `JobRefused`."""
        job = self.jobs.get(name.lower())
        if job is None:
            known = ", ".join(self.jobs) or "none"
            raise JobRefused(f"there is no job {name[:40]!r}; there are: {known}")
        return job

    # --- the begin

    def start_block(self, ident: int, header: dict[str, Any], body: bytes) -> None:
        """Act on a RUN frame for a job. It is answered when the job has ended or `JOB_GRACE_S` has passed."""
        if refusal := self.actions.refusal(header, body):
            self.actions.refuse(ident, refusal)
            return
        cwd = self.actions.start_directory(ident, header.get("cwd"))
        try:
            job = self.start(
                header["job"],
                body,
                cwd,
                header.get("env") or {},
                limits=header.get("limits") or {},
                state=self.actions.shell.state,
            )
        except JobRefused as error:
            self.actions.refuse(ident, f"not started: {error}")
            return
        job.action.ident = ident
        self.wait(job, JOB_GRACE_S, lambda: self.answer_block(job), lambda: True)

    def start(
        self,
        name: str,
        command: bytes,
        cwd: str,
        env: dict[str, str],
        *,
        limits: dict[str, int] | None = None,
        state: ShellState | None = None,
        pty: bool = False,
    ) -> SessionJob:
        """Start a job; an empty name is made up. Raises `JobRefused`."""
        name = self.free_name(name.lower())
        if not may_enter(cwd):
            raise JobRefused(f"cannot enter {cwd}")
        terminal = None
        try:
            terminal = open_terminal() if pty else None
            worker = self.pool.take_worker("bash")
        except OSError as error:
            for descriptor in terminal or ():
                os.close(descriptor)
            raise JobRefused(f"{error.strerror}; try again when other programs have ended") from None
        worker.action = NO_BLOCK
        action = RunningAction(0, 0, {}, worker)
        job = SessionJob(name, command, action, JobOutput(self.setup.job_output_bytes))
        job.terminal = terminal
        self.jobs.pop(name, None)
        self.jobs[name] = job
        self.begin(job, worker, command, cwd, env, limits or {}, state)
        return job

    def free_name(self, name: str) -> str:
        if refusal := self.refusal():
            raise JobRefused(refusal)
        while not name:
            self.count += 1
            name = "" if f"job{self.count}" in self.jobs else f"job{self.count}"
        if len(name) > LONGEST_NAME or name[0] in "._-" or not NAME_LETTERS.issuperset(name):
            raise JobRefused(
                f"{name[:40]!r} is no name: a job's has up to 32 letters a to z, digits, '.', '_' and '-', and begins "
                "with a letter or a digit"
            )
        if name in self.jobs and self.jobs[name].result is None:
            raise JobRefused(f"the job {name!r} runs; `job signal {name}` ends it")
        return name

    def refusal(self) -> str:
        """Return why no more jobs may run, or nothing."""
        running = self.running
        if len(running) < self.setup.jobs:
            return ""
        names = f" ({', '.join(job.name for job in running[:LISTED])})" if running else ""
        return f"{len(running)} jobs run{names}; the limit jobs is {self.setup.jobs}"

    def adopt(self, left: RunningAction, pid: int, finish: Callable[[], list[int]]) -> None:
        """Make a job of what an action has left running, which the host is told of first. `finish` answers the action,
        and returns the pipes that the job may still write into."""
        worker = left.worker
        name = self.free_name("")
        job = SessionJob(name, b"", RunningAction(0, 0, {}, worker), JobOutput(self.setup.job_output_bytes))
        job.command = f"(left running by block {left.ident})"
        job.pid = pid
        self.jobs[name] = job
        self.tell_start(job)
        pipes = finish()
        worker.action = NO_BLOCK
        self.take_over(job, pipes)

    def begin(
        self,
        job: SessionJob,
        worker: SupervisedWorker,
        command: bytes,
        cwd: str,
        env: dict[str, str],
        limits: dict[str, int],
        state: ShellState | None,
    ) -> None:
        files = worker.files
        assert files is not None
        descriptors, terminal = [files.out, files.err], ""
        if job.terminal is not None:
            descriptors.append(job.terminal[0])
            terminal = os.ttyname(job.terminal[1])
        ours = self.actions.tools_env(NO_BLOCK)
        ours[VARIABLE] = output_variable(files.out, files.err)
        worker.command(b"J")  # before it begins, or what it leaves behind could be ended with it
        files.open_gate(bash_job(cwd, state, ours, env, limits, terminal=terminal), command)
        self.take_over(job, descriptors)

    def take_over(self, job: SessionJob, descriptors: list[int]) -> None:
        """Read what comes out of it, and what its supervisor and its code have to say."""
        worker = job.action.worker
        job.pipes = [JobPipe(self.poller, descriptor, job.output, self.rest) for descriptor in descriptors]
        self.poller.watch(worker.control.fileno(), lambda _event: self.on_control(job))
        self.poller.watch(worker.broker.fileno(), lambda _event: self.on_broker(job))

    def rest(self, pipe: JobPipe) -> None:
        """Let a pipe be for a moment, as all that comes out of it is left out."""
        if not self.resting:
            self.rest_due = time.monotonic() + JOB_REST_S
        self.resting.append(pipe)

    # --- what is asked of one

    def wait(
        self, job: SessionJob, seconds: float, tell: Callable[[], None], wants: Callable[[], bool]
    ) -> None:
        """Have `tell` called when the job has ended, or so many seconds have passed. `wants` says whether anybody waits
        still."""
        if job.result is not None:
            tell()
            return
        job.waiting = [wait for wait in job.waiting if wait.wants()]
        job.waiting.append(JobWait(time.monotonic() + seconds, tell, wants))

    def signal(self, job: SessionJob, number: int) -> None:
        """Send all its processes a signal."""
        if job.result is None:
            job.action.worker.command(b"S", float(number))

    def send(self, job: SessionJob, data: bytes) -> None:
        """Type something into its terminal. Raises `JobRefused`."""
        if job.terminal is None:
            raise JobRefused(f"the job {job.name!r} has no terminal: start it with --pty")
        try:
            taken = os.write(job.terminal[0], data)
        except OSError as error:
            raise JobRefused(f"the terminal of {job.name!r} takes nothing now: {error.strerror}") from None
        if taken < len(data):
            raise JobRefused(
                f"the terminal of {job.name!r} took the first {taken} of {len(data)} bytes; send the rest when the job "
                "has read them"
            )

    def answer_block(self, job: SessionJob) -> None:
        """Answer the RUN frame that a job was started with: with its first output, and its end if it has ended.

        The host is told of the job before: a pause that follows the answer must know of it.
        """
        self.tell_start(job)
        ident, job.action.ident = job.action.ident, 0
        text = job.output.text()
        limit = self.setup.output_bytes
        text = text if len(text) <= limit else text[-limit:]
        for start in range(0, len(text), READ_SIZE):
            self.poller.send(STDOUT, ident, text[start : start + READ_SIZE])
        if job.result is None:
            message = f"the job {job.name!r} runs (pid {job.pid}); its output: job out {job.name}"
            self.poller.send_json(EXIT, ident, {"status": "completed", "exit_code": 0, "message": message})
        else:
            reason = f": {job.result['message']}" if job.result["message"] else ""
            message = f"the job {job.name!r} has ended already{reason}"
            self.poller.send_json(EXIT, ident, {**job.result, "message": message})

    def tell_start(self, job: SessionJob) -> None:
        """Tell the host of a job that goes on."""
        if job.result is None:
            job.is_told = True
            self.tell(job, "started", {"exit_code": 0, "wall_s": 0.0, "message": ""})

    def tell(self, job: SessionJob, state: str, result: dict[str, Any]) -> None:
        told = {name: result[name] for name in ("exit_code", "wall_s", "message")}
        self.poller.send_json(JOB, 0, {"name": job.name, "state": state, **told})

    # --- clocks

    def deadlines(self) -> list[float]:
        """When to look here again."""
        deadlines = [self.rest_due] if self.resting else []
        for job in self.running:
            deadlines += [wait.due for wait in job.waiting]
            if job.action.deadline is not None:
                deadlines.append(job.action.deadline)
        return deadlines

    def check_clocks(self, now: float) -> None:
        if self.resting and now >= self.rest_due:
            pipes, self.resting = self.resting, []
            for pipe in pipes:
                pipe.read_again()
        for job in self.running:
            over = [wait for wait in job.waiting if wait.due <= now]
            if over:
                job.waiting = [wait for wait in job.waiting if wait.due > now]
            for wait in over:
                wait.tell()
            if job.action.deadline is not None and now >= job.action.deadline:
                self.pool.kill_worker(job.action.worker)  # its supervisor does not answer
                job.action.deadline = now + 1.0

    # --- the end

    def cancel_block(self, ident: int) -> None:
        """End the job whose RUN frame has not been answered."""
        for job in self.running:
            if job.action.ident == ident:
                self.end(job, "cancelled")

    def end(self, job: SessionJob, why: str) -> None:
        """End a job: TERM, grace, KILL."""
        action = job.action
        if not action.ending:
            action.ending = why
            action.deadline = time.monotonic() + self.setup.grace_s + KILL_MARGIN_S
            action.worker.command(b"T", self.setup.grace_s)

    def on_broker(self, job: SessionJob) -> None:
        """Its code wants a channel for tool calls. It outlives the block, so it is not passed on to the host."""
        if self.calls.take_message(job.action, is_kept=True) == b"":
            self.poller.unwatch(job.action.worker.broker.fileno())

    def on_control(self, job: SessionJob) -> None:
        """The pid of its worker, or the supervisor's report, or the supervisor's end."""
        worker = job.action.worker
        data, _ = receive(worker.control, 512)
        pid, line, report = data.partition(b"\n")
        if line:
            job.pid = int(pid)
            if not report:
                return
            data = report
        if data:
            job.action.report = from_json(data)
        else:
            self.pool.kill_worker(worker)
        self.finish(job)
        self.pool.dismiss(worker, reported=bool(data))

    def finish(self, job: SessionJob) -> None:
        """A job is over: keep how it ended, and tell those who wait."""
        action = job.action
        self.poller.unwatch(action.worker.control.fileno())
        self.poller.unwatch(action.worker.broker.fileno())
        for pipe in job.pipes:
            pipe.finish()
        job.close_terminal()
        self.calls.finish_action(action, is_kept=True)
        job.result = action.result(time.monotonic() - action.started, self.setup.limits, "")
        waiting, job.waiting = job.waiting, []
        for wait in waiting:
            wait.tell()
        if job.is_told:
            self.tell(job, "ended", job.result)
        self.pool.action_ended()
        ended = [other for other in self.jobs.values() if other.result is not None]
        for other in ended[: max(0, len(ended) - self.setup.jobs)]:
            del self.jobs[other.name]

    def close(self) -> None:
        """End all jobs with the session: TERM, grace, KILL. Returns when they have ended, or will not."""
        poll, left = select.poll(), {}
        for job in self.running:
            control = job.action.worker.control
            job.action.worker.command(b"T", self.setup.grace_s)
            poll.register(control, select.POLLIN)
            left[control.fileno()] = control
        due = time.monotonic() + self.setup.grace_s + JOB_END_S
        while left and (rest_s := due - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(rest_s * 1000):
                data, _ = receive(left[descriptor], 512)
                if not data or not data.endswith(b"\n"):  # more than its pid
                    poll.unregister(descriptor)
                    del left[descriptor]
        for job in self.running:
            worker = job.action.worker
            if worker.control.fileno() in left:  # its supervisor does not answer: stopped by the code itself
                self.pool.kill_worker(worker)
            worker.close()


def open_terminal() -> tuple[int, int]:
    """Return both ends of a new terminal."""
    import termios  # seldom wanted

    master, slave = os.openpty()
    termios.tcsetwinsize(slave, WINDOW)
    return master, slave


def signal_number(name: str) -> int:
    """Return the number of a signal: `TERM`, `SIGTERM` or `15`. Raises `JobRefused`."""
    word = f"SIG{name.upper().removeprefix('SIG')}"
    number = int(name) if name.isdecimal() and len(name) < 3 else vars(signal).get(word)
    if not isinstance(number, int) or number not in signal.valid_signals() or word.startswith("SIG_"):
        raise JobRefused(f"there is no signal {name[:40]!r}")
    return int(number)
