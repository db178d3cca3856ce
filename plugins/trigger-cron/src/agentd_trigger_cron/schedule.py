"""The times of a cron expression in a time zone, as Debian's cron has them (by cronsim)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Self
from zoneinfo import ZoneInfo

import attrs
from agentd.errors import ConfigError

__all__ = ["CronSchedule"]

_LONGEST: Final = 200
_SPANS: Final = {"minute": 60, "hour": 24, "day of the month": 31, "month": 12, "day of the week": 7}
_WHAT: Final = "the trigger 'cron'"


@attrs.frozen
class CronSchedule:
    """When something is due. All times are aware; those that are returned are in the zone."""

    expression: str
    zone: ZoneInfo

    @classmethod
    def read(cls, expression: str, timezone: str) -> Self:
        """Return the schedule.

        :raises ConfigError: the expression or the zone is none, or the times never come.
        """
        from cronsim import CronSimError

        schedule = cls(expression, _zone(timezone))
        if len(expression) > _LONGEST or len(expression.split()) != 5:
            raise ConfigError(
                f"option 'expression' of {_WHAT}: must have five fields (minute, hour, day of the month, month, day of "
                f"the week), got {expression[:_LONGEST]!r}"
            )
        _check_steps(expression)
        try:
            following = schedule.after(datetime.now(UTC))
        except CronSimError as error:
            raise ConfigError(
                f"option 'expression' of {_WHAT}: {str(error).lower()}, got {expression!r}"
            ) from None
        if following is None:
            raise ConfigError(
                f"option 'expression' of {_WHAT}: no such day in the next 50 years, got {expression!r}"
            )
        return schedule

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment; None if there is none in the next 50 years."""
        from cronsim import CronSim

        return next(CronSim(self.expression, moment.astimezone(self.zone)), None)

    def between(self, since: datetime, until: datetime, most: int) -> list[datetime]:
        """Return the newest times after `since` and not after `until`, at most so many, the oldest of them first."""
        from cronsim import CronSim

        found: list[datetime] = []
        # cronsim looks before the moment that it is given: begin behind `until`
        start = (until + timedelta(minutes=1)).astimezone(self.zone)
        for time in CronSim(self.expression, start, reverse=True):
            if time.astimezone(UTC) <= since or len(found) == most:
                break
            if time.astimezone(UTC) <= until:
                found.append(time)
        return found[::-1]


def _check_steps(expression: str) -> None:
    """:raises ConfigError: a step is longer than its field: `*/90` minutes would be each hour."""
    for field, (name, span) in zip(expression.split(), _SPANS.items(), strict=True):
        for part in field.split(","):
            step = part.partition("/")[2]
            if step.isascii() and step.isdigit() and int(step) > span:
                raise ConfigError(
                    f"option 'expression' of {_WHAT}: the steps of {name} begin anew after {span}, so {part!r} comes "
                    f"no more than once in that time; a step is at most {span}, got {expression!r}"
                )


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise ConfigError(
            f"option 'timezone' of {_WHAT}: must be a name of the time zone database, such as 'Europe/Berlin' or "
            f"'UTC', got {name!r}"
        ) from None
