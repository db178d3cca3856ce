"""The trigger: waits for the next time, and makes up for those that were missed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, Protocol

import anyio
from agentd_daemon.triggers import TriggerEvent, TriggerHost

from agentd_trigger_cron.schedule import CronSchedule

__all__ = ["Clock", "CronTrigger", "SystemClock"]

log = logging.getLogger("agentd.daemon.cron")

MOST_COUNTED: Final = 10_000
"""Missed times that are counted; there may be more."""
ON_TIME_S: Final = 60.0
"""So late, a time still counts as kept, and not as missed."""
LONGEST_SLEEP_S: Final = 60.0
"""The machine may sleep, and its clock may be set, meanwhile."""
FUTURE: Final = timedelta(days=1)


class Clock(Protocol):
    """What the time is, and waiting."""

    def now(self) -> datetime:
        """Return the time, aware."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> datetime:
        """Return the time."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait, for a minute at most."""
        await anyio.sleep(min(seconds, LONGEST_SLEEP_S))


class CronTrigger:
    """Wakes an agent at the times of a schedule. The cursor is the newest time that was dealt with.

    :param catch_up: what becomes of missed times: one event for all, none, or one for each of the newest
        `max_catch_up`.
    """

    def __init__(
        self,
        schedule: CronSchedule,
        *,
        catch_up: Literal["one", "none", "all"] = "one",
        max_catch_up: int = 10,
        clock: Clock | None = None,
    ) -> None:
        self.schedule = schedule
        self._catch_up = catch_up
        self._max_catch_up = max_catch_up
        self._clock = clock or SystemClock()

    async def run(self, host: TriggerHost) -> None:
        """Watch the clock; see `agentd_daemon.triggers.TriggerSource`."""
        while True:
            now = self._clock.now()
            since = self._since(host, now)
            due = self.schedule.between(since, now, MOST_COUNTED)
            for event in self._events(due, now):
                await host.accept(event)
            if due:  # without an event, too
                host.note(_stamp(max(due[-1], since)))
            host.report("")
            if host.once:
                return
            following = self.schedule.after(max(now, since))
            if following is None:
                host.report(f"{self.schedule.expression!r} never comes again")
                await anyio.sleep_forever()
                return
            left = following.astimezone(UTC) - self._clock.now()
            if left > timedelta():
                await self._clock.sleep(left.total_seconds())

    def _since(self, host: TriggerHost, now: datetime) -> datetime:
        """Return up to when all is dealt with; at the very first start, up to now."""
        found = _read(host.cursor)
        if found is not None and found <= now + FUTURE:
            return found
        if found is not None:
            log.warning(
                "%s: the clock was %s when %r fired last, and is %s now; begins anew",
                *(host.agent, found, host.name, now),
            )
        host.note(_stamp(now))
        return now

    def _events(self, due: list[datetime], now: datetime) -> Iterator[TriggerEvent]:
        if not due:
            return
        kept = now - due[-1] < timedelta(seconds=ON_TIME_S)
        if self._catch_up == "all":
            chosen = due[-self._max_catch_up :]
        else:
            chosen = due[-1:] if kept or self._catch_up == "one" else []
        told = self._catch_up != "none"
        earlier = due[: len(due) - len(chosen)] if told else []
        for time in chosen:
            yield TriggerEvent(id=_stamp(time), text=self._text(time, earlier, now), cursor=_stamp(time))
            earlier = []

    def _text(self, time: datetime, earlier: list[datetime], now: datetime) -> str:
        parts = [f"Due at {time.isoformat(' ')} ({self.schedule.zone}), by {self.schedule.expression!r}."]
        if now - time >= timedelta(seconds=ON_TIME_S):
            parts.append(f"It was missed then: now it is {_local(now, time)}.")
        if earlier:
            many = f"at least {len(earlier)}" if len(earlier) + 1 >= MOST_COUNTED else str(len(earlier))
            first, last = earlier[0].isoformat(" "), earlier[-1].isoformat(" ")
            span = first if first == last else f"from {first} to {last}"
            parts.append(f"Missed before that, and made up for by this one: {many} ({span}).")
        return " ".join(parts)


def _local(now: datetime, like: datetime) -> str:
    return now.astimezone(like.tzinfo).isoformat(" ", "seconds")


def _stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()


def _read(cursor: str | None) -> datetime | None:
    try:
        found = datetime.fromisoformat(cursor or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
