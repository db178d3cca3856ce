"""The plugin `cron`: wakes an agent at the times of a cron expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_trigger_cron.trigger import CronTrigger

AGENTD_API = 1

_KNOWN = {
    "expression": str,
    "timezone": str,
    "catch_up": Literal["one", "none", "all"],
    "max_catch_up": int,
}


@hookimpl
def agentd_create_trigger(options: Mapping[str, Any]) -> CronTrigger:
    """Make the trigger.

    Options: `expression`, required: five fields, as in a crontab. `timezone`: a name such as `Europe/Berlin`; by
    default UTC. `catch_up`: what becomes of times that were missed: `one` event for all of them (default), `none`, or
    `all`, of which the newest `max_catch_up` (10; at most 100) are made up for.
    """
    from agentd_trigger_cron.schedule import CronSchedule
    from agentd_trigger_cron.trigger import CronTrigger

    what = "the trigger 'cron'"
    check_options(what, options, _KNOWN)
    if "expression" not in options:
        raise ConfigError(f"option 'expression' of {what} is missing; five fields, such as '30 7 * * 1-5'")
    most = options.get("max_catch_up", 10)
    if not 1 <= most <= 100:
        raise ConfigError(f"option 'max_catch_up' of {what}: must be from 1 to 100, got {most}")
    schedule = CronSchedule.read(options["expression"], options.get("timezone", "UTC"))
    return CronTrigger(schedule, catch_up=options.get("catch_up", "one"), max_catch_up=most)
