"""The runner's loop: it joins the host's frames, the workers, the tool calls and the clocks."""

from __future__ import annotations

import gc
import os
import sys
import time

from .actions import SessionActions
from .frames import (
    CANCEL,
    CLOCK,
    END,
    FATAL,
    HELLO,
    IMPORTS,
    MAX_STATE,
    MESSAGE_SIZE,
    READY,
    RELEASE,
    REPLY,
    RUN,
    SETUP,
    SHELL,
    TO_RUNNER,
    U32,
    VERSION,
    FrameError,
    FrameReader,
)
from .http_calls import ToolHttpServer
from .job_requests import JobRequests
from .jobs import SessionJobs
from .limit_watch import LimitWatch
from .poller import Poller
from .primitives import from_json, to_json
from .setup import RunnerSetup
from .timings import IMPORTS_S, LOOK_S
from .tool_calls import ToolCalls
from .worker_pool import SpareWorkers

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any


class Runner:
    """One session's runner, on these descriptors of its pipe to the host."""

    def __init__(self, descriptor_in: int, descriptor_out: int) -> None:
        self.descriptor_in = descriptor_in
        self.reader = FrameReader(TO_RUNNER)
        self.poller = Poller(descriptor_in, descriptor_out)
        self.setup = RunnerSetup()
        self.calls = ToolCalls(self.poller)
        self.pool = SpareWorkers(self.setup, self.poller)
        self.actions = SessionActions(self.setup, self.poller, self.pool, self.calls)
        self.jobs = SessionJobs(self.setup, self.poller, self.pool, self.calls, self.actions)
        self.limit_watch = LimitWatch(self.setup, self.actions, self.jobs)
        self.http: ToolHttpServer | None = None
        self.ready = False
        self.done = False
        self.next_look = 0.0
        self.imports_asked: tuple[int, float] | None = (
            None  # the request, and when it is answered at the latest
        )
        self.poller.watch(descriptor_in, self.on_host)

    def run(self) -> None:
        """Return when the host ends it, or has gone; nothing is left running then."""
        try:
            while not self.done:
                self.poller.handle(self.poller.wait(self.timeout_ms))
                now = time.monotonic()
                if now >= self.next_look:
                    self.next_look = now + LOOK_S
                    self.limit_watch.check_clocks(now)
                    self.pool.check_clocks(now)
                    self.actions.check_clocks(now)
                    self.jobs.check_clocks(now)
                if self.imports_asked is not None:
                    self.tell_imports(*self.imports_asked, now)
                self.poller.flush()
                if self.pool.wanted and now >= self.pool.refill_due:
                    self.pool.refill()
                if self.pool.warm_wanted:
                    self.pool.import_ahead()
        except FrameError as error:
            self.poller.send_json(FATAL, 0, {"message": str(error)})
            self.poller.flush()
        except BrokenPipeError:  # the host has gone
            pass
        finally:
            self.close()

    def timeout_ms(self) -> int | None:
        looks = self.actions.deadlines() + self.jobs.deadlines() + self.pool.deadlines()
        deadlines = [due for due in looks if due < float("inf")]
        if self.limit_watch.meter_due < float("inf"):
            deadlines.append(self.limit_watch.meter_due)
        if self.imports_asked is not None:
            deadlines.append(self.imports_asked[1])
        if not deadlines:
            return None
        return max(0, int((min(deadlines) - time.monotonic()) * 1000) + 1)

    def close(self) -> None:
        """End every worker and wait for them, so that nothing outlives the runner."""
        self.actions.close()
        self.jobs.close()
        self.pool.close()
        self.setup.tidy()

    # --- frames from the host

    def on_host(self, _event: int) -> None:
        try:
            data = os.read(self.descriptor_in, MESSAGE_SIZE)
        except BlockingIOError:
            return
        if not data:
            self.end()
            return
        for kind, ident, payload in self.reader.feed(data):
            self.on_frame(kind, ident, payload)

    def on_frame(self, kind: int, ident: int, payload: bytes) -> None:
        if kind == REPLY:
            self.calls.answer_call(ident, payload)
        elif kind == HELLO:
            self.on_hello(from_json(payload))
        elif not self.ready:
            raise FrameError("the first frame must be HELLO")
        elif kind == RUN:
            (length,) = U32.unpack_from(payload)
            self.limit_watch.action_begins()
            header, body = from_json(payload[4 : 4 + length]), payload[4 + length :]
            start = self.actions.start if header.get("job") is None else self.jobs.start_block
            start(ident, header, body)
        elif kind == CANCEL:
            self.actions.end(ident, "cancelled")
            self.jobs.cancel_block(ident)
        elif kind == CLOCK:
            self.actions.take_clock(ident, from_json(payload))
        elif kind == SETUP:
            self.on_setup(from_json(payload))
        elif kind == SHELL:
            self.on_shell(ident, from_json(payload))
        elif kind == IMPORTS:
            self.imports_asked = ident, time.monotonic() + IMPORTS_S
        elif kind == END:
            self.end()

    def tell_imports(self, ident: int, due: float, now: float) -> None:
        """Answer which modules are not imported ahead, unless that will be known in a moment."""
        if now >= due or not self.pool.is_importing:
            self.imports_asked = None
            self.poller.send_json(IMPORTS, ident, {"left_out": self.pool.warm.tell_rest()})

    def end(self) -> None:
        self.done = True
        self.poller.unwatch(self.descriptor_in)

    def on_hello(self, given: dict[str, Any]) -> None:
        self.setup.take_hello(given)
        self.actions.shell.begin_in(self.setup.workspace)
        self.limit_watch.watch_folders([self.setup.workspace, *given.get("watched", ())])
        if "line" in given:
            self.calls.open_line(given["line"])
        self.http = ToolHttpServer(self.setup, self.poller, self.calls, JobRequests(self.jobs).take)
        self.actions.tools_url = self.http.url
        self.ready = True
        self.on_setup(given)
        self.poller.send_json(
            READY,
            0,
            {
                "version": VERSION,
                "release": RELEASE,
                "pid": os.getpid(),
                "python": sys.version.split()[0],
                "bash": self.setup.bash,
                "subreaper": self.setup.prctl is not None,
            },
        )
        if "ahead" in given:
            self.pool.make_ahead(given["ahead"])

    def on_setup(self, given: dict[str, Any]) -> None:
        had_others = self.setup.take_bindings(given)
        self.actions.shell.base_changes()
        # It has the old ones. A bash has the environment alone.
        self.pool.retire_spawner(keep=() if "bindings_env" in given else ("bash",))
        if self.setup.imports:
            self.pool.action_ended()  # they are kept for as long as after an action
            self.pool.want_ahead(self.setup.imports)
        if had_others:
            gc.collect()
        gc.freeze()

    def on_shell(self, ident: int, given: dict[str, Any] | None) -> None:
        """Tell the shell's state, or replace it first: a session goes back to a checkpoint."""
        shell = self.actions.shell
        if given is not None:
            if self.actions.running or self.actions.kept.queue:
                error = {"error": "blocks are still running; wait for them or cancel them"}
                self.poller.send_json(SHELL, ident, error)
                return
            shell.replace_state(given["set"])
            if self.actions.kept.worker is not None:  # its namespace is of a time that is no more
                self.actions.kept.worker.close()
        state = to_json(shell.plain())
        if len(state) > MAX_STATE:
            state = b'{"error": "it has %d bytes; at most %d can be passed on"}' % (len(state), MAX_STATE)
        self.poller.send(SHELL, ident, state)
