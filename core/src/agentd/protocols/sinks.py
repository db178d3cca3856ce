"""Who hears of a run, and what a plugin needs of the machine."""

from __future__ import annotations

from typing import Protocol

import attrs

from agentd.events import Event

__all__ = ["EventSink", "Requirement"]


class EventSink(Protocol):
    """Receives all events of a run. One that raises is told of once and left out. `close` comes last, by any thread."""

    def emit(self, event: Event) -> None: ...

    def close(self) -> None: ...


@attrs.frozen(kw_only=True)
class Requirement:
    """Something that a plugin needs and `agentd doctor` shows. `remedy` says how to get it if it is not there.

    :ivar optional: without it less works, but something does.
    """

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""
    optional: bool = False
