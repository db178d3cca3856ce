"""A run: the model, the programs and the lanes are started; samples are taken; everything ends in order."""

from __future__ import annotations

import contextlib
import ctypes
import platform
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from endurance.daemons import DAEMONS, daemon_program, journal_of, page_of, webhook_address
from endurance.executors import those_that_run
from endurance.lanes import Lane
from endurance.model import scripted_model
from endurance.programs import HostProgram, Program
from endurance.recording import Record
from endurance.sampling import Sampler
from endurance.triggers import LedgerBook, TriggerLedger
from endurance.works import work_named
from endurance.world import Place, Tally, World

__all__ = ["EnduranceRun"]

SAMPLES = 300
"""Of a run, about."""
LEAST_S, MOST_S = 0.25, 60.0
SETTLE_S = 180.0
SUBREAPER = 36
"""`PR_SET_CHILD_SUBREAPER`: what loses its parent becomes a child of the run, and so is seen."""


class EnduranceRun:
    """One start of a run. `run` returns when its time is over, and raises `KeyboardInterrupt` if it is interrupted."""

    def __init__(self, folder: Path, record: Record, state: Path) -> None:
        self._folder = folder
        self._record = record
        self._state = state
        self._begin: float | None = None  # of the work, behind all starts
        self._before = record.spent_s
        self._place: Any = None
        self._lanes: list[Lane] = []

    def run(self) -> None:
        """Work until the time is over."""
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
        self._record.starts += 1
        if (python := platform.python_version()) not in self._record.pythons:
            self._record.pythons.append(python)
        self._folder.mkdir(parents=True, exist_ok=True)
        executors = self._executors()
        with scripted_model(self._record.seed) as model, _terminated_as_interrupted():
            world = World(self._folder, model.base_url, self._record.seed, executors)
            world.make()
            place = Place(world, Tally(), random.Random(self._record.seed + self._record.starts))
            self._place = place
            self._say(f"executors: {', '.join(name for name, _ in executors)}; folder: {self._folder}")
            sampler = Sampler(place)
            try:
                self._start(place)
                self._work(place, sampler)
            finally:
                with _not_interrupted():
                    self._end(place, sampler)

    # --- starting ---

    def _executors(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        if not any(work_named(name).is_real for name in self._record.works):
            return (("subprocess", {}),)
        tried = self._folder / "tried"
        try:
            return tuple(those_that_run(tried))
        finally:
            shutil.rmtree(tried, ignore_errors=True)

    def _start(self, place: Place) -> None:
        chosen = [work_named(name) for name in self._record.works]
        needed = list(dict.fromkeys(program for work in chosen for program in work.needs))
        for name in needed:
            program = self._program(name, place)
            place.programs[name] = program
            self._say(f"starting {name}")
            program.start()
        for name in needed:
            if name in DAEMONS:
                uris = [f"file://{page_of(place.world, name, n)}" for n in range(2)]
                self._until(lambda name=name, uris=uris: place.ledgers[name].is_ready(uris), 120)
        hosted = [work.name for work in chosen if work.lane == "host"]
        if hosted:
            place.programs["host"] = HostProgram(place.world, hosted, place.tally)
            place.programs["host"].start()
        lanes: dict[str, list[Any]] = {}
        for work in chosen:
            if work.lane != "host":
                lanes.setdefault(work.lane, []).append(work(place))
        self._lanes = [Lane(name, place, works) for name, works in lanes.items()]
        for lane in self._lanes:
            lane.start()

    def _program(self, name: str, place: Place) -> Program:
        world, work = place.world, place.world.folder / "work"
        if name in DAEMONS:
            address = self._record.ports.setdefault(name, webhook_address())
            place.ports[name] = address
            book = LedgerBook(**self._record.ledgers.get(name, {}))
            place.ledgers[name] = TriggerLedger(journal_of(world, name), place.tally, book)
            return daemon_program(world, name, address)
        if name == "serve":
            command = ["serve", "--model", "scripted", "--port", "0", "--cwd", str(work / "served")]
            # fewer than come, whatever else the machine does: how many are open is no figure of its load
            command += ["--idle", "600", "--max-conversations", "12", "--max-requests", "12"]
            command += ["--no-config", "-e", "subprocess"]
            return Program(name, world, ["-m", "agentd", *command], r"(http://\S+/v1)")
        # the folder of a client's sandbox stays when it has left, so it is none of those that are looked at
        command = ["mcp", "--http", "0", "--cwd", str(world.folder / "mcp"), "--max-sandboxes", "32"]
        command += ["--reconnect", "5"]
        return Program(name, world, ["-m", "agentd", *command, "-e", "subprocess"], r"(http://\S+/mcp)")

    # --- working ---

    def _spent(self) -> float:
        return self._before + (0 if self._begin is None else time.monotonic() - self._begin)

    def _work(self, place: Place, sampler: Sampler) -> None:
        total = self._record.hours * 3600
        every = min(max(total / SAMPLES, LEAST_S), MOST_S)
        self._begin = time.monotonic()
        told = time.monotonic()
        while (spent := self._spent()) < total:
            for program in list(place.programs.values()):
                program.revive(place.tally)
            for ledger in place.ledgers.values():
                ledger.read()
            self._record.samples += sampler.look(spent)
            self._keep(place)
            if time.monotonic() - told > max(10 * every, 10):
                told = time.monotonic()
                self._say(self._progress())
            place.stop.wait(min(every, total - spent))

    def _progress(self) -> str:
        counts, total = self._record.counts, self._record.hours * 3600
        parts = ("sessions", "turns", "blocks", "triggers_run", "killed_daemons")
        done = ", ".join(f"{counts[part]} {part.replace('_', ' ')}" for part in parts if counts[part])
        return f"{self._spent() / 60:.1f} of {total / 60:g} min: {done or 'nothing yet'}; {counts['wrong']} wrong"

    def _keep(self, place: Place) -> None:
        self._record.spent_s = self._spent()
        for wrong in self._record.take(place.tally.take()):
            self._say(f"WRONG: {wrong}")
        self._record.ledgers = {name: ledger.book.as_data() for name, ledger in place.ledgers.items()}
        self._record.save(self._state)

    # --- ending ---

    def _end(self, place: Place, sampler: Sampler) -> None:
        """Stop the works, let the daemons finish if the time is over, end everything, and look what is left."""
        is_over = self._spent() >= self._record.hours * 3600
        self._record.spent_s = self._spent()
        place.stop.set()
        for lane in self._lanes:
            lane.end()
        if is_over:
            self._settle(place)
        for name, program in reversed(place.programs.items()):
            self._say(f"ending {name}")
            if wrong := program.end():
                place.tally.wrong(wrong)
        for left in sampler.left_at_the_end():
            place.tally.add(outlived=1)
            place.tally.wrong(f"left at the end: {left}")
        self._record.finished = is_over
        spent = self._record.spent_s
        self._keep(place)
        self._record.spent_s = spent
        self._record.save(self._state)

    def _settle(self, place: Place) -> None:
        """Nothing is sent any more: what was accepted has to run now."""
        self._say("waiting for what was accepted")
        for ledger in place.ledgers.values():
            if ledger.could_still_run():
                self._until(lambda ledger=ledger: ledger.is_quiet, SETTLE_S)
            ledger.settle()

    def _until(self, is_so: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while not is_so() and time.monotonic() < end:
            time.sleep(0.1)

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Any:
    """Let SIGTERM do what Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _not_interrupted() -> Any:
    """Let a second Ctrl-C wait: what was started has to end."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
