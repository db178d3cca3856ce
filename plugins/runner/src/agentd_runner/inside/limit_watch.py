"""The limits that the kernel does not hold, looked at by clock: what the workspace holds, the tasks of an action."""

from __future__ import annotations

import sys
import time

from .action import RunningAction
from .actions import SessionActions
from .disk_usage import IDLE_WATCH_S, WATCH_S, DiskMeter
from .jobs import SessionJobs
from .processes import tasks_here
from .setup import RunnerSetup


class LimitWatch:
    """Looks at what is used, and ends what has used too much."""

    def __init__(self, setup: RunnerSetup, actions: SessionActions, jobs: SessionJobs) -> None:
        self.setup = setup
        self.actions = actions
        self.jobs = jobs
        self.meter = DiskMeter([], {})
        self.meter_due = float("inf")
        self.tasks_due = 0.0

    def watch_folders(self, folders: list[str]) -> None:
        self.meter = DiskMeter(folders, self.setup.limits)

    def action_begins(self) -> None:
        self.meter.action_begins(not (self.actions.running or self.jobs.running or self.actions.kept.worker))
        self.meter_due = min(self.meter_due, time.monotonic() + WATCH_S)

    def check_clocks(self, now: float) -> None:
        """Go one step on, if it is time."""
        if now < self.meter_due:
            return
        everything = [*self.actions.running.values(), *(job.action for job in self.jobs.running)]
        running = [action for action in everything if not action.ending]
        busy = bool(running or self.actions.kept.worker)
        pause_s, end = self.meter.look(busy, fair=len(running) == len(everything))
        if end and running and self.meter.is_of_others():
            self.actions.notice = self.meter.excess
        elif end:
            self.end_for(self.meter.excess, running)
        if not everything and pause_s == WATCH_S:  # at most threads of a kept interpreter
            pause_s = IDLE_WATCH_S
        self.meter_due = now + pause_s
        most = self.setup.limits.get("processes", sys.maxsize)
        if running and now >= self.tasks_due and tasks_here() >= most:
            self.tasks_due = now + WATCH_S
            for action in running:
                action.worker.command(b"C")

    def end_for(self, excess: str, running: list[RunningAction]) -> None:
        """End all blocks and jobs that may be writing; which of them is, nobody knows. Without one, it may be what a
        kept interpreter has left running: if it goes on, that ends."""
        for action in running:
            action.excess = excess
            self.actions.end(action.ident, "limit")
        for job in self.jobs.running:
            self.jobs.end(job, "limit")
        if not running:
            self.actions.notice = excess
            if not self.actions.running and self.meter.tolerated.bytes and self.actions.kept.end():
                self.actions.notice += "; the kept Python namespace is lost"
