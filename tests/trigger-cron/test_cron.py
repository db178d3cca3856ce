"""The trigger `cron`, by a clock that the test has: no time passes here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd_daemon.journal import Journal
from agentd_trigger_cron.schedule import CronSchedule
from agentd_trigger_cron.trigger import CronTrigger
from hypothesis import given, strategies as st
from triggering import IdleWorker, settle, watch

pytestmark = pytest.mark.anyio
NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


class TestClock:
    """A clock that jumps to the end of each sleep; where it stands at `until`, it stays."""

    __test__ = False

    def __init__(self, at: datetime, until: datetime) -> None:
        self.at, self.until = at, until
        self.reached = anyio.Event()

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        if self.at + timedelta(seconds=seconds) > self.until:
            self.reached.set()
            await anyio.sleep_forever()
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "journal.db") as made:
        yield made


async def run(
    journal: Journal, expression: str, since: datetime, until: datetime, zone: str = "UTC", **how: Any
) -> list[str]:
    """Let a daemon live from one moment to another, and return the texts of the tasks that there are then."""
    clock = TestClock(since, until)
    trigger = CronTrigger(CronSchedule.read(expression, zone), clock=clock, **how)
    async with anyio.create_task_group() as group:
        group.start_soon(watch(trigger, journal).run)
        with anyio.fail_after(30):
            await clock.reached.wait()
        group.cancel_scope.cancel()
    return [task.content for task in journal.pending("a")]


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


async def test_each_time_wakes_the_agent_once_and_the_first_start_makes_up_for_nothing(
    journal: Journal,
) -> None:
    texts = await run(journal, "0 * * * *", NOON + hours(0.1), NOON + hours(3.5))
    assert texts == [f"Due at 2026-11-30 {hour}:00:00+00:00 (UTC), by '0 * * * *'." for hour in (13, 14, 15)]


async def test_a_restart_in_the_minute_of_a_time_fires_it_no_second_time(journal: Journal) -> None:
    await run(journal, "0 * * * *", NOON + hours(0.1), NOON + hours(1.001))
    assert len(await run(journal, "0 * * * *", NOON + hours(1.002), NOON + hours(1.5))) == 1


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({}, ["17", "18"]),
        ({"catch_up": "none"}, ["18"]),
        ({"catch_up": "all"}, ["14", "15", "16", "17", "18"]),
        ({"catch_up": "all", "max_catch_up": 2}, ["16", "17", "18"]),
    ],
)
async def test_missed_times_are_made_up_for_as_the_options_say(
    journal: Journal, how: dict[str, Any], told: list[str]
) -> None:
    await run(journal, "0 * * * *", NOON + hours(0.5), NOON + hours(1.5))
    first = len(journal.pending("a"))
    texts = (await run(journal, "0 * * * *", NOON + hours(5.5), NOON + hours(6.5), **how))[first:]
    assert [text[18:20] for text in texts] == told


async def test_the_event_says_what_was_missed_and_what_time_it_is_now(journal: Journal) -> None:
    await run(journal, "0 * * * *", NOON + hours(0.5), NOON + hours(0.6))
    (text,) = await run(journal, "0 * * * *", NOON + hours(5.5), NOON + hours(5.6))
    assert text == (
        "Due at 2026-11-30 17:00:00+00:00 (UTC), by '0 * * * *'. It was missed then: now it is 2026-11-30 "
        "17:30:00+00:00. Missed before that, and made up for by this one: 4 (from 2026-11-30 13:00:00+00:00 to "
        "2026-11-30 16:00:00+00:00)."
    )


async def test_years_of_missed_minutes_become_one_event_that_counts_so_far_as_is_counted(
    journal: Journal,
) -> None:
    await run(journal, "* * * * *", NOON, NOON + timedelta(seconds=1))
    (text,) = await run(
        journal, "* * * * *", NOON + timedelta(days=700), NOON + timedelta(days=700, seconds=30)
    )
    assert "made up for by this one: at least 9999 (from " in text


async def test_a_clock_that_was_far_ahead_and_is_set_right_does_not_silence_the_trigger(
    journal: Journal,
) -> None:
    await run(journal, "0 * * * *", NOON + timedelta(days=400), NOON + timedelta(days=400, hours=1.5))
    texts = await run(journal, "0 * * * *", NOON + hours(0.5), NOON + hours(1.5))
    assert texts[-1].startswith("Due at 2026-11-30 13:00")


async def test_a_clock_that_is_set_while_it_runs_fires_nothing_twice_and_leaves_no_time_out(
    journal: Journal,
) -> None:
    """An hour and a half back, then five hours ahead, at any moment of the wait."""
    clock = TestClock(NOON + hours(0.5), NOON + hours(8.5))
    jumps = [(NOON + hours(2.2), hours(-1.5)), (NOON + hours(3.2), hours(5))]

    async def sleep(seconds: float) -> None:
        await TestClock.sleep(clock, min(seconds, 60))
        if jumps and clock.at >= jumps[0][0]:
            clock.at += jumps.pop(0)[1]

    clock.sleep = sleep  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        trigger = CronTrigger(CronSchedule.read("0 * * * *", "UTC"), clock=clock, catch_up="all")
        group.start_soon(watch(trigger, journal).run)
        with anyio.fail_after(30):
            await clock.reached.wait()
        group.cancel_scope.cancel()
    assert [task.content[18:20] for task in journal.pending("a")] == [str(hour) for hour in range(13, 21)]


async def test_a_clock_that_is_set_back_an_hour_fires_nothing_twice(journal: Journal) -> None:
    before = await run(journal, "0 * * * *", NOON + hours(0.5), NOON + hours(2.5))
    after = await run(journal, "0 * * * *", NOON + hours(1.5), NOON + hours(3.5))
    assert after[: len(before)] == before
    assert [text[18:20] for text in after] == ["13", "14", "15"]


async def test_an_agent_that_is_behind_gets_one_event_for_all_that_came_meanwhile(journal: Journal) -> None:
    clock = TestClock(NOON + hours(0.5), NOON + hours(2.5))
    worker = IdleWorker()
    trigger = CronTrigger(CronSchedule.read("0 * * * *", "UTC"), clock=clock)
    async with anyio.create_task_group() as group:
        group.start_soon(watch(trigger, journal, worker=worker, max_waiting=1).run)
        await worker.until_woken(1)
        await anyio.wait_all_tasks_blocked()  # the second time came, and waits for room
        clock.at = NOON + hours(5.5)
        clock.until = NOON + hours(5.6)
        settle(journal, worker)
        await worker.until_woken(2)
        settle(journal, worker)
        await worker.until_woken(3)
        group.cancel_scope.cancel()
    (last,) = journal.pending("a")
    assert "Due at 2026-11-30 17:00" in last.content
    assert "by this one: 2 (from 2026-11-30 15:00" in last.content


@pytest.mark.parametrize(
    ("expression", "day", "times"),
    [
        ("30 2 * * *", "2026-03-29", ["03:00:00+02:00"]),  # 02:30 is not there: at the end of the gap
        ("30 * * * *", "2026-03-29", ["01:30:00+01:00", "03:30:00+02:00"]),
        ("30 2 * * *", "2026-10-25", ["02:30:00+02:00"]),  # 02:30 is there twice: the first one
        (
            "30 * * * *",
            "2026-10-25",
            ["01:30:00+02:00", "02:30:00+02:00", "02:30:00+01:00", "03:30:00+01:00"],
        ),
    ],
)
def test_when_the_clocks_change_a_time_comes_once_and_each_hour_once(
    expression: str, day: str, times: list[str]
) -> None:
    schedule = CronSchedule.read(expression, "Europe/Berlin")
    begin = datetime.fromisoformat(f"{day}T00:31:00+01:00") - hours(1 if day > "2026-06" else 0)
    end = datetime.fromisoformat(f"{day}T03:40:00+0{1 if day > '2026-06' else 2}:00")
    found = schedule.between(begin, end, 100)
    assert [str(time)[11:] for time in found] == times
    following, forwards = schedule.after(begin), []
    while following is not None and following.astimezone(UTC) <= end:
        forwards.append(following)
        following = schedule.after(following)
    assert forwards == found, "what is waited for and what is made up for are the same times"


async def test_where_clocks_go_by_half_an_hour_each_time_is_told_once(journal: Journal) -> None:
    texts = await run(
        journal,
        "*/30 3 * * *",
        datetime(2026, 4, 4, 14, 0, tzinfo=UTC),
        datetime(2026, 4, 4, 18, 0, tzinfo=UTC),
        "Australia/Lord_Howe",
        catch_up="all",
    )
    assert [text[7:32] for text in texts] == ["2026-04-05 03:00:00+10:30", "2026-04-05 03:30:00+10:30"]


@given(
    st.sampled_from(
        ["* * * * *", "*/7 3-5 * * *", "0 2 1,15 * *", "30 1-3 * * 0", "59 23 31 * *", "15 2 L * *"]
    ),
    # Not Lord Howe: where clocks go by half an hour, cronsim leaves out a time forwards. It is told none the less,
    # within a minute, as what is due is looked up backwards.
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Adelaide", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 1), timezones=st.just(UTC)),
    st.integers(0, 60 * 24 * 40),
)
def test_forwards_and_backwards_are_the_same_times(
    expression: str, zone: str, since: datetime, minutes: int
) -> None:
    schedule = CronSchedule.read(expression, zone)
    until = since + timedelta(minutes=minutes)
    found = schedule.between(since, until, 50)
    forwards: list[datetime] = []
    following = schedule.after(found[0] - timedelta(seconds=1) if len(found) == 50 else since)
    while following is not None and following.astimezone(UTC) <= until:
        if following.astimezone(UTC) > since:
            forwards.append(following)
        following = schedule.after(following)
    assert [f.astimezone(UTC) for f in forwards] == [f.astimezone(UTC) for f in found]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "option 'expression' of the trigger 'cron' is missing"),
        ({"expression": "@daily"}, "must have five fields"),
        ({"expression": "* * * * * *"}, "must have five fields"),
        ({"expression": "61 * * * *"}, r"bad minute, got '61 \* \* \* \*'"),
        ({"expression": "* * 31 2 *"}, "(?i)day"),
        (
            {"expression": "*/90 * * * *"},
            r"the steps of minute begin anew after 60, so '\*/90' comes no more than once",
        ),
        ({"expression": "0 1,2-9/25 * * *"}, "the steps of hour begin anew after 24"),
        ({"expression": "0 0 * * FRI-MON"}, "bad day-of-week, got '0 0 \\* \\* FRI-MON'"),
        ({"expression": "* * * * *" * 100}, "must have five fields"),
        ({"expression": "* * * * *", "timezone": "Mars/Base"}, "must be a name of the time zone database"),
        ({"expression": "* * * * *", "timezone": "../etc"}, "must be a name of the time zone database"),
        ({"expression": "* * * * *", "catch_up": "some"}, "catch_up"),
        ({"expression": "* * * * *", "max_catch_up": 0}, "must be from 1 to 100, got 0"),
        ({"expression": "* * * * *", "jitter": 1}, "unknown option 'jitter'"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Registry().create_trigger("cron", options)


def test_the_plugin_is_listed_and_loads() -> None:
    records = {record.name: record for record in Registry().check("trigger")}
    assert (records["cron"].state, records["cron"].distribution) == ("loaded", "agentd-trigger-cron")
