"""`TriggerContract`: what every trigger of the daemon promises, as tests. Needs agentd-daemon."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar, Literal

import anyio
import anyio.to_thread
import pytest
import yaml
from agentd._concurrency.pool import bounded_pool, unbounded_pool
from agentd.errors import ConfigError
from agentd.protocols import ToolSource
from agentd.registry import Registry
from agentd_daemon.journal import Journal, JournalError
from agentd_daemon.triggers import TriggerEvent, TriggerSource

from agentd_testing.trigger_lives import TriggerLife, life_of, trigger_life

__all__ = ["TriggerContract"]

_FOREIGN = ("", "x", "[]", '{"a": [1]}', "-1", "2026-11-30", "\ud800")
"""Cursors of other kinds: a trigger may get the name of another one."""
_POOLS = ("agentd-worker", "agentd-waiting", "AnyIO worker thread")
_BLOCKED_S = 1.0
_WAITING = 2
_FLOOD = 6


class TriggerContract:
    """Subclass it, name the kind, say how something happens and what the event then says:

        class TestMyTrigger(TriggerContract):
            kind = "mine"
            wrong_options = ({}, {"folder": 7})

            def options(self, place):
                return {"folder": str(place)}

            async def cause(self, place, number):
                (place / str(number)).touch()
                return f"created: {number}"

    `place` is an empty folder of the test. `cause` makes the `number`th thing happen (from 1 on) and returns a text
    that stands in the event of this thing alone. It may be called again with a number: then the same thing stays, and
    a sender sends the same event again.
    """

    kind: ClassVar[str] = ""
    wrong_options: ClassVar[Sequence[Mapping[str, Any]]] = ()
    """Options that the hook refuses."""
    tells_late: ClassVar[bool] = True
    """What happens while no daemon runs is told at the next start."""
    acknowledges: ClassVar[bool] = False
    """`cause` sends something, waits for the answer, and raises if that does not say that it was taken."""

    def options(self, place: Path) -> dict[str, Any]:
        """Return options that are right."""
        return {}

    def make_trigger(self, place: Path) -> TriggerSource:
        """Return a new trigger, as the daemon makes it."""
        made: TriggerSource = Registry().create_trigger(self.kind, self.options(place))
        return made

    @asynccontextmanager
    async def sources(self, place: Path) -> AsyncIterator[Sequence[ToolSource]]:
        """Open the agent's MCP servers, if the trigger needs some."""
        yield ()

    async def cause(self, place: Path, number: int) -> str:
        """Make something happen."""
        pytest.fail("override cause() in the subclass", pytrace=False)

    # --- fixtures ------------------------------------------------------------------------------------

    @pytest.fixture
    def anyio_backend(self) -> str:
        """The daemon runs on asyncio."""
        return "asyncio"

    @pytest.fixture
    def place(self, tmp_path: Path) -> Path:
        """Where things happen."""
        made = tmp_path / "place"
        made.mkdir()
        return made

    @pytest.fixture
    def journal(self, tmp_path: Path) -> Iterator[Journal]:
        """The daemon's real one."""
        with Journal.open(tmp_path / "state" / "journal.db") as made:
            yield made

    @asynccontextmanager
    async def _life(
        self, place: Path, journal: Journal, sources: Sequence[ToolSource], **more: Any
    ) -> AsyncIterator[TriggerLife]:
        async with trigger_life(journal, lambda: self.make_trigger(place), sources=sources, **more) as life:
            await life.at_work()
            yield life

    async def _cause(self, place: Path, number: int, failed: list[int]) -> None:
        """Have it happen; note it as failed where somebody waits for an answer that does not come."""
        try:
            await self.cause(place, number)
        except Exception:
            assert self.acknowledges, "only with `acknowledges`, cause() may raise"
            failed.append(number)

    # --- options -------------------------------------------------------------------------------------

    def test_making_one_starts_nothing(self, place: Path) -> None:
        self.make_trigger(place)  # what it imports may open what it likes
        threads, files = (
            set(threading.enumerate()),
            _descriptors(),
        )  # fewer is no fault: other tests were here
        made = self.make_trigger(place)
        assert isinstance(made, TriggerSource), "a trigger has `async def run(host)`"
        more = set(threading.enumerate()) - threads, _descriptors() - files
        assert more == (set(), set()), (
            "`agentd check` makes triggers, too: start threads and open files in run()"
        )

    def test_wrong_options_are_told_with_file_and_line_and_nothing_starts(
        self, place: Path, tmp_path: Path
    ) -> None:
        assert self.wrong_options, "set `wrong_options`: what the hook refuses"
        wrong = [*self.wrong_options, {**self.options(place), "no_such_option": 1}]
        for options in wrong:
            with pytest.raises(ConfigError) as caught:
                Registry().create_trigger(self.kind, options)
            assert str(caught.value), "say what is wrong, what is allowed, and what was got"
        assert "no_such_option" in str(caught.value), "name the option that you do not know"
        triggers = [{"kind": self.kind, "name": f"t{n}", "options": dict(one)} for n, one in enumerate(wrong)]
        file = tmp_path / "agents.yaml"
        file.write_text(yaml.safe_dump({"agents": [{"name": "a", "model": "m", "triggers": triggers}]}))
        told = _problems(file)
        for number in range(len(wrong)):
            assert any(line.startswith("agents.yaml:") and f"triggers[{number}]" in line for line in told), (
                f"{wrong[number]} is not told with its place; told were {told}"
            )

    # --- events --------------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_what_happens_is_told_once_in_order_over_several_lives(
        self, place: Path, journal: Journal
    ) -> None:
        texts: list[str] = []
        async with self.sources(place) as sources:
            async with self._life(place, journal, sources) as life:
                assert life.texts() == [], "the very first start wakes nobody"
                for number in (1, 2):
                    texts.append(await self.cause(place, number))
                    await life.told(texts[-1])
            if self.tells_late:
                texts += [await self.cause(place, number) for number in (3, 4)]
            async with self._life(place, journal, sources) as life:
                texts.append(await self.cause(place, 5))
                for text in texts:
                    await life.told(text)
        _each_once(life, texts)
        firsts = [next(n for n, told in enumerate(life.texts()) if text in told) for text in texts]
        assert firsts == sorted(firsts), f"not told in the order in which it happened: {life.texts()}"

    @pytest.mark.anyio
    @pytest.mark.parametrize("when", ["before", "behind"])
    async def test_a_kill_at_the_journal_loses_nothing_and_doubles_nothing(
        self, place: Path, journal: Journal, when: Literal["before", "behind"]
    ) -> None:
        """Before it, nobody may have been told that the event is taken; behind it, it must not come twice."""
        reached, failed = anyio.Event(), list[int]()
        is_answered = False

        async def stop(event: TriggerEvent) -> None:
            reached.set()
            await anyio.sleep_forever()

        async def cause() -> None:
            nonlocal is_answered
            await self._cause(place, 1, failed)
            is_answered = True

        async with self.sources(place) as sources:
            async with anyio.create_task_group() as group, self._life(place, journal, sources) as life:
                setattr(life.watch, when, stop)
                group.start_soon(cause)
                with anyio.fail_after(60):
                    await reached.wait()
                await anyio.wait_all_tasks_blocked()
                assert not (self.acknowledges and is_answered), (
                    "the sender was answered before accept() had returned: a kill would lose the event"
                )
                assert len(life.texts()) == (when == "behind")
            async with self._life(place, journal, sources) as life:
                assert bool(failed) == self.acknowledges, (
                    "the sender was told that it is taken, and it is not"
                )
                first, second = await self.cause(place, 1), await self.cause(place, 2)
                await life.told(first)
                await life.told(second)
        if self.acknowledges or self.tells_late:
            _each_once(life, [first, second])

    @pytest.mark.anyio
    async def test_a_journal_that_cannot_be_written_is_told_and_made_up_for(
        self, place: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("agentd_tools.backoff.Backoff.next_s", lambda _: 0.05)
        is_full, failed = True, list[int]()

        async def refuse(event: TriggerEvent) -> None:
            if is_full:
                raise JournalError("accept", "journal.db", "disk is full", "make room", errno=errno.ENOSPC)

        async with self.sources(place) as sources, self._life(place, journal, sources) as life:
            life.watch.before = refuse
            await self._cause(place, 1, failed)
            assert bool(failed) == self.acknowledges, "the sender was told that it is taken, and it is not"
            with anyio.fail_after(60):
                while not life.watch.error:
                    await anyio.sleep(0.01)
            assert "disk is full" in life.watch.error, f"the status says {life.watch.error!r}"
            is_full = False
            text = await self.cause(place, 1)
            await life.told(text)
            await life.told(await self.cause(place, 2))
            with anyio.fail_after(60):
                while life.watch.error:  # it says, too, that it works again
                    await anyio.sleep(0.01)
        _each_once(life, [text])

    @pytest.mark.anyio
    async def test_of_a_flood_no_more_than_may_wait_and_nothing_is_lost(
        self, place: Path, journal: Journal
    ) -> None:
        failed: list[int] = []
        async with (
            self.sources(place) as sources,
            self._life(place, journal, sources, max_waiting=_WAITING) as life,
        ):
            for number in range(1, _FLOOD + 1):
                await self._cause(place, number, failed)
            assert not failed or self.acknowledges
            last = await self._until_taken(place, _FLOOD + 1, life)
            for number in failed:
                await self._until_taken(place, number, life)
            with anyio.fail_after(60):
                while not any(last in text for text in life.texts()):
                    woken = life.worker.woken
                    assert len(journal.pending("a")) <= _WAITING
                    if journal.pending("a"):
                        life.settle()
                    with anyio.move_on_after(1):
                        await life.worker.until_woken(woken + 1)
        joined = "\n".join(life.texts())
        assert joined.count(last) == 1

    async def _until_taken(self, place: Path, number: int, life: TriggerLife) -> str:
        """Have it happen until it is taken; the agent does a task after each refusal."""
        while True:
            try:
                return await self.cause(place, number)
            except Exception:
                assert self.acknowledges
                assert len(life.journal.pending("a")) == _WAITING, "refused, though there is room"
                life.settle()

    # --- how it lives --------------------------------------------------------------------------------

    @pytest.mark.anyio
    async def test_ending_it_leaves_no_task_no_thread_and_no_open_file(
        self, place: Path, journal: Journal
    ) -> None:
        """In rest, with an event that waits for room, and over and over."""
        first: tuple[int, int, int] | None = None
        async with self.sources(place) as sources:
            for number in (1, 2, 3):
                async with anyio.create_task_group() as group, self._life(place, journal, sources) as life:
                    if number == 2:
                        reached = anyio.Event()

                        async def wait(event: TriggerEvent, reached: anyio.Event = reached) -> None:
                            reached.set()
                            await anyio.sleep_forever()

                        life.watch.before = wait
                        group.start_soon(self._cause, place, number, [])
                        with anyio.fail_after(60):
                            await reached.wait()
                await anyio.wait_all_tasks_blocked()
                first = first or _held()
                with anyio.move_on_after(5):  # a thread of the pool may still be at its last call
                    while _more(_held(), first):
                        await anyio.sleep(0.02)
                assert not _more(_held(), first), (
                    f"life {number} has left something: (tasks, threads, open files) were {first} and are {_held()}"
                )

    @pytest.mark.anyio
    async def test_the_event_loop_goes_on_meanwhile(self, place: Path, journal: Journal) -> None:
        """Of gaps, only those count that a thread beside the loop does not have: the machine may be busy."""
        gaps: list[float] = []
        async with self.sources(place) as sources, _Ticker() as ticker:
            async with self._life(place, journal, sources) as life:
                for number in (1, 2, 3):
                    await life.told(await self.cause(place, number))
            gaps = [ticker.loop_gap_s, ticker.thread_gap_s]
        assert gaps[0] < _BLOCKED_S + 10 * gaps[1], (
            f"the loop stood still for {gaps[0]:.1f} s, and a thread beside it for {gaps[1]:.1f} s: what blocks "
            "belongs into a thread"
        )

    @pytest.mark.anyio
    async def test_with_once_it_looks_and_returns(self, place: Path, journal: Journal) -> None:
        texts: list[str] = []
        async with self.sources(place) as sources:
            for round_number in (1, 2, 3):
                life = life_of(journal, lambda: self.make_trigger(place), sources=sources, once=True)
                with anyio.fail_after(60):
                    await life.watch.once()
                if round_number == 1 and self.tells_late:
                    texts = [await self.cause(place, number) for number in (1, 2)]
        _each_once(life, texts)
        assert self.tells_late or life.texts() == []

    @pytest.mark.anyio
    async def test_a_position_of_another_trigger_of_its_name_is_no_end(
        self, place: Path, journal: Journal
    ) -> None:
        async with self.sources(place) as sources:
            for cursor in _FOREIGN:
                journal.note_seen("a", "trigger:test", "", cursor)
                life = life_of(journal, lambda: self.make_trigger(place), sources=sources, once=True)
                with anyio.fail_after(60):
                    await life.watch.once()
                assert not life.watch.error, f"with the cursor {cursor!r}: begin anew"


class _Ticker:
    """Measures for how long the event loop did not come to a task, and the system to a thread."""

    def __init__(self) -> None:
        self.loop_gap_s = self.thread_gap_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick_thread)

    async def __aenter__(self) -> _Ticker:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._tick_loop)
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._group.cancel_scope.cancel()
        self._stop.set()
        self._thread.join()
        with suppress(BaseExceptionGroup):
            await self._group.__aexit__(None, None, None)

    async def _tick_loop(self) -> None:
        while True:
            before = time.monotonic()
            await anyio.sleep(0.01)
            self.loop_gap_s = max(self.loop_gap_s, time.monotonic() - before)

    def _tick_thread(self) -> None:
        while not self._stop.is_set():
            before = time.monotonic()
            time.sleep(0.01)
            self.thread_gap_s = max(self.thread_gap_s, time.monotonic() - before)


def _each_once(life: TriggerLife, texts: Sequence[str]) -> None:
    for text in texts:
        found = [told for told in life.texts() if text in told]
        assert len(found) == 1, f"{text!r} was told {len(found)} times: {life.texts()}"


def _held() -> tuple[int, int, int]:
    """Count tasks, threads and open files. Threads of pools, which stay for the next call, count while they work."""
    own = [thread for thread in threading.enumerate() if not thread.name.startswith(_POOLS)]
    busy = len(bounded_pool._running) + len(unbounded_pool._running)
    busy += anyio.to_thread.current_default_thread_limiter().borrowed_tokens
    return len(asyncio.all_tasks()), len(own) + busy, len(_descriptors())


def _more(now: tuple[int, int, int], before: tuple[int, int, int]) -> bool:
    return any(one > other for one, other in zip(now, before, strict=True))


def _descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()


def _problems(file: Path) -> list[str]:
    """Return what `agentd check` says."""
    from agentd_daemon.commands.check import unfit_plugins
    from agentd_daemon.config.loading import examine

    before = os.getcwd()
    os.chdir(file.parent)
    try:
        found = examine((file.name,))
        return [str(problem) for problem in found.with_problems(unfit_plugins(found, broken=True))]
    finally:
        os.chdir(before)
