"""The trigger `cron` keeps the contract of triggers; its clock is the test's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest
from agentd_daemon.triggers import TriggerSource
from agentd_testing import TriggerContract
from agentd_trigger_cron.schedule import CronSchedule
from agentd_trigger_cron.trigger import CronTrigger

NOON = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.at = NOON + timedelta(minutes=30)
        self._is_set = anyio.Event()

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        until = self.at + timedelta(seconds=seconds)
        while self.at < until:
            await self._is_set.wait()

    def set(self, at: datetime) -> None:
        self.at = at
        self._is_set.set()
        self._is_set = anyio.Event()


class TestCron(TriggerContract):
    kind = "cron"
    wrong_options: ClassVar[Any] = (
        {},
        {"expression": "@daily"},
        {"expression": "* * * * *", "timezone": "x"},
    )

    @pytest.fixture(autouse=True)
    def _clock(self) -> None:
        self.clock = SetClock()

    def options(self, place: Path) -> dict[str, Any]:
        return {"expression": "0 * * * *", "catch_up": "all"}

    def make_trigger(self, place: Path) -> TriggerSource:
        super().make_trigger(place)
        return CronTrigger(CronSchedule.read("0 * * * *", "UTC"), catch_up="all", clock=self.clock)

    async def cause(self, place: Path, number: int) -> str:
        at = NOON + timedelta(hours=number)
        self.clock.set(max(at, self.clock.at))
        return f"Due at {at.isoformat(' ')} "
