"""The actions that run: begun with a worker, ended when their time is up, finished when their supervisor reports."""

from __future__ import annotations

import os
import time

from .action import RunningAction, RunningBlock, read_report
from .descriptors import BROKER_FD, receive
from .files import PathRefused, create_file
from .frames import CLOCK, EXIT, STDERR, STDOUT, FrameError
from .kept_python import KeptPython
from .output import OutputPipe
from .poller import Poller
from .primitives import from_json
from .setup import RunnerSetup, may_enter
from .shell import bash_job
from .shell_state import SessionShell
from .startup import VARIABLE, output_variable
from .timings import CLOCK_S, KILL_MARGIN_S, SPARE_IDLE_S
from .tool_calls import ToolCalls
from .worker_pool import SpareWorkers
from .workers import BashFiles, SupervisedWorker

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class SessionActions:
    """All actions of the session, by number."""

    def __init__(self, setup: RunnerSetup, poller: Poller, pool: SpareWorkers, calls: ToolCalls) -> None:
        self.setup = setup
        self.poller = poller
        self.pool = pool
        self.calls = calls
        self.shell = SessionShell()
        self.kept = KeptPython(pool, self.begin_block)
        self.running: dict[int, RunningAction] = {}
        self.adopt: Callable[[RunningAction, int, Callable[[], list[int]]], None] = (
            lambda action, pid, finish: None
        )
        self.may_adopt: Callable[[], str] = lambda: ""  # both are set by `SessionJobs`
        self.tools_url = ""
        self.notice = ""  # for the next result

    # --- the begin

    def start(self, ident: int, header: dict[str, Any], body: bytes) -> None:
        """Act on a RUN frame."""
        order = self.shell.next_order()
        self.pool.keep_s = header.get("keep_s", SPARE_IDLE_S)
        if header.get("stdin_bytes"):
            at = len(body) - header["stdin_bytes"]
            body, header["stdin"] = body[:at], body[at:]
        if ident in self.running:
            raise FrameError(f"action {ident} runs already")
        if header["type"] == "create":
            self.create(ident, header, body)
        elif refusal := self.refusal(header, body):
            self.refuse(ident, refusal)
        elif header["type"] == "python" and header["state"] == "kept":
            self.kept.add(RunningBlock(ident, order, header, body))
        elif (worker := self.pool.take_worker_or_refuse(self.kind_for(header), ident)) is not None:
            self.begin(worker, ident, order, header, body)

    def refusal(self, header: dict[str, Any], body: bytes) -> str:
        """Return why an action cannot be run here, or nothing."""
        if not may_enter(self.setup.workspace):
            return (
                f"not run: cannot enter the workspace {self.setup.workspace}: it is gone or closed to the code's "
                "user; put it back, or begin a session in another folder"
            )
        if header["type"] == "bash" and b"\0" in body:  # bash would stop reading there
            return "not run: the bash block holds a NUL byte; write such data with printf '\\0' or Python"
        return ""

    def kind_for(self, header: dict[str, Any]) -> str:
        """Return the kind of worker that an action needs."""
        imports = header.get("imports")
        if not imports or header.get("env"):  # what is imported already has seen another environment
            return str(header["type"])
        where = os.path.join(self.shell.cwd, header.get("cwd") or "")
        return self.pool.python_kind(imports, [where, *(header.get("pythonpath") or ())])

    def refuse(self, ident: int, message: str) -> None:
        self.poller.send_json(EXIT, ident, {"status": "failed", "exit_code": 1, "message": message})

    def create(self, ident: int, header: dict[str, Any], body: bytes) -> None:
        """Write a file: in this process, and at once."""
        started = time.monotonic()
        path = header["path"]
        try:
            cwd = os.path.join(self.shell.cwd, header["cwd"]) if header.get("cwd") else self.shell.cwd
            where = create_file(self.setup.workspace, cwd, path, body)
            code, message = 0, f"created {where} ({len(body)} bytes)"
        except PathRefused as error:
            code, message = 1, f"not created: {path[:1000]!r}: {error}"
        except OSError as error:
            code, message = 1, f"not created: {path[:1000]!r}: {error.strerror}; nothing was changed"
        self.poller.send_json(
            EXIT,
            ident,
            {
                "status": "failed" if code else "completed",
                "exit_code": code,
                "message": message[:4000],
                "wall_s": time.monotonic() - started,
                "cpu_s": 0.0,
                "peak_memory_bytes": 0,
            },
        )

    def begin_block(self, worker: SupervisedWorker, block: RunningBlock) -> RunningAction:
        header = block.header if not block.has_news else {**block.header, "renewed": self.setup.pythonpath}
        return self.begin(worker, block.ident, block.order, header, block.code)

    def begin(
        self, worker: SupervisedWorker, ident: int, order: int, header: dict[str, Any], body: bytes
    ) -> RunningAction:
        """Let a worker run an action."""
        action = RunningAction(ident, order, header, worker)
        worker.action = ident
        self.running[ident] = action
        cwd = self.start_directory(ident, header.get("cwd") or ("." if action.is_fresh else None))
        ours, own = self.tools_env(ident), header.get("env") or {}
        limits, stdin = header.get("limits") or {}, header.get("stdin", b"")
        if action.lasting:
            worker.command(b"L")
        if worker.files is not None:
            out, err = worker.files.out, worker.files.err
            ours[VARIABLE] = output_variable(out, err)
            state, saves = (None, False) if action.is_fresh else (self.shell.state, True)
            job = bash_job(cwd, state, ours, own, limits, has_input=bool(stdin), saves=saves)
            worker.files.open_gate(job, body + b"\0" + stdin if stdin else body)
        else:
            given = {
                "state": header["state"],
                "name": f"<block {ident}>",
                "cwd": cwd,
                "env": {**ours, **own},
                "own_env": list(own),
                "pythonpath": header.get("pythonpath") or [],
                "limits": limits,
                "code_bytes": len(body),
                "has_input": bool(stdin),
                "renewed": header.get("renewed"),
            }
            action.job, out, err = worker.hand_over(given, body + stdin)
        output_bytes = header.get("output_bytes", self.setup.output_bytes)
        action.outputs = [
            OutputPipe(self.poller, ident, STDOUT, out, output_bytes),
            OutputPipe(self.poller, ident, STDERR, err, output_bytes),
        ]
        self.poller.watch(worker.control.fileno(), lambda _event: self.on_control(action))
        self.poller.watch(worker.broker.fileno(), lambda _event: self.on_broker(action))
        return action

    def start_directory(self, ident: int, wanted: str | None) -> str:
        """Return where an action starts. A directory that has gone is said, and the workspace used."""
        workspace = self.setup.workspace
        where = str(os.path.join(workspace, wanted) if wanted else self.shell.cwd)
        where = workspace if wanted == "." else where  # or PWD would end in a dot
        if may_enter(where):
            return where
        reason = f"cannot enter {where}: it is gone or closed to us; starting in {workspace}\n"
        self.poller.send(STDERR, ident, os.fsencode(reason))
        return workspace

    def tools_env(self, ident: int) -> dict[str, str]:
        env = {
            "AGENTD_TOOLS_FD": str(BROKER_FD),
            "AGENTD_TOOLS_URL": f"{self.tools_url}/a/{ident}",
            "AGENTD_TOOLS_TOKEN": self.setup.token,
        }
        if self.setup.socket_path:
            env["AGENTD_TOOLS_SOCKET"] = self.setup.socket_path
        return env

    # --- the end

    def end(self, ident: int, why: str) -> None:
        """Ask an action's supervisor to end it: TERM, grace, KILL."""
        for _ in range(self.kept.withdraw(ident)):
            self.poller.send_json(
                EXIT, ident, {"status": why, "exit_code": 143, "message": f"{why} before it began"}
            )
        action = self.running.get(ident)
        if action is None or action.ending:
            return
        action.ending = why
        action.deadline = time.monotonic() + self.setup.grace_s + KILL_MARGIN_S
        action.worker.command(b"T", self.setup.grace_s)

    def deadlines(self) -> list[float]:
        return [action.deadline for action in self.running.values() if action.deadline is not None]

    def check_clocks(self, now: float) -> None:
        for action in list(self.running.values()):
            if action.deadline is None or now < action.deadline:
                continue
            if not action.ending and self.setup.tells_clock and not action.asked:
                action.asked, action.deadline = True, now + CLOCK_S
                self.poller.send(CLOCK, action.ident, b"")
            elif not action.ending:
                self.end(action.ident, "timeout")
            else:  # its supervisor does not answer: stopped or killed by the code itself
                self.pool.kill_worker(action.worker)
                action.deadline = now + 1.0

    def take_clock(self, ident: int, given: dict[str, Any]) -> None:
        """The host says how long an action has waited for tools."""
        action = self.running.get(ident)
        if action is not None:
            action.take_waited(given["waited_s"], given["waits"])

    def on_broker(self, action: RunningAction) -> None:
        """A message of the code: it wants a channel, or a kept interpreter has come to the end of its block."""
        data = self.calls.take_message(action, is_kept=action.worker is self.kept.worker)
        if data == b"":
            self.poller.unwatch(action.worker.broker.fileno())
        elif data is not None and data[:1] == b"D" and action is self.kept.busy and not action.ending:
            action.report = read_report(data[1:])
            if action.report is None:
                action.note = "its interpreter did not report the block's end as it must, and was ended"
                action.worker.command(b"T")
            else:
                self.finish(action)

    def on_control(self, action: RunningAction) -> None:
        """The supervisor's report, or its end."""
        data, _ = receive(action.worker.control, 512)
        told, left, report = data.partition(b"\n")
        if left and not report:
            self.leave(action, told)
            return
        data = report or told
        if data:
            action.report = from_json(data)
        else:
            self.pool.kill_worker(action.worker)
        if action.again is not None and not action.has_begun() and not action.ending:
            self.put_back(action, action.again)
            return
        action.lost = action.worker is self.kept.worker
        if action.lost:
            self.kept.worker = None  # before the next block is started: it would be handed to the dead one
        self.finish(action)
        self.pool.dismiss(action.worker, reported=bool(data))
        if self.kept.worker is None:
            self.kept.start_next()

    def leave(self, action: RunningAction, report: bytes) -> None:
        """A lasting action is over, but for what it has left running: that goes on as a job, if there may be one."""
        if action.ending:  # all of it: its supervisor reports again
            return
        if refusal := self.may_adopt():
            action.note = f"what it left running was ended: {refusal}"
            action.worker.command(b"T", self.setup.grace_s)
            return
        told, _, pid = report.rpartition(b" ")
        action.report = from_json(told)
        self.adopt(action, int(pid), lambda: self.finish(action, goes_on=True))

    def put_back(self, action: RunningAction, block: RunningBlock) -> None:
        """Let go of an action that its kept interpreter was too dead to begin."""
        self.forget(action)
        for output in action.outputs:
            output.close()
        action.worker.close()
        self.kept.put_back(block)

    def forget(self, action: RunningAction) -> None:
        self.poller.unwatch(action.worker.control.fileno())
        self.poller.unwatch(action.worker.broker.fileno())
        del self.running[action.ident]
        if action.job >= 0:
            os.close(action.job)

    def finish(self, action: RunningAction, *, goes_on: bool = False) -> list[int]:
        """An action is over: send the rest of its output, keep its state, say how it ended. If what it has left
        `goes_on`, return the pipes that this may still write into."""
        self.forget(action)
        wall_s = time.monotonic() - action.started
        pipes = [output.finish(goes_on=goes_on) for output in action.outputs]
        kept = action.worker is self.kept.worker
        if not kept or action.ending:
            self.calls.finish_action(action, is_kept=kept or action.lost)
        else:
            self.calls.let_go(action)
        if action.worker.files is not None and not action.is_fresh:
            self.keep_shell_state(action, action.worker.files)
        notice, self.notice = self.notice, ""
        self.poller.send_json(
            EXIT, action.ident, self.with_imports(action.result(wall_s, self.setup.limits, notice))
        )
        self.pool.action_ended()
        self.kept.action_ended(action)
        return [pipe for pipe in pipes if pipe >= 0]

    def with_imports(self, result: dict[str, Any]) -> dict[str, Any]:
        """Add which modules were not imported ahead, and why, if the host does not know yet."""
        untold = self.pool.warm.tell()
        return {**result, "left_out": untold} if untold else result

    def keep_shell_state(self, action: RunningAction, files: BashFiles) -> None:
        try:
            saved = files.saved()
        except ValueError as error:
            action.note = (
                f"nothing of the shell goes over to the next block: {error}; write what is large to a file"
            )
            return
        if saved is not None:  # else it was killed, or replaced itself with exec; the state before it stays
            self.shell.keep_saved(saved, action.order, self.setup.env)

    def close(self) -> None:
        """Let go of every worker; their supervisors end them."""
        for worker in {action.worker for action in self.running.values()} | {self.kept.worker}:
            if worker is not None:
                worker.close()
