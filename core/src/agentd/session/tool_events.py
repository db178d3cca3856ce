"""Who watches what: the events of tools, on their way to the runs that they belong to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import attrs

from agentd._concurrency.waiting import LoopCaller
from agentd.events import SourceLog, ToolCall, ToolProgress

if TYPE_CHECKING:
    from agentd.types import Binding

__all__ = ["RunWatcher", "ToolEvent", "ToolEventRouter"]

ToolEvent = ToolCall | ToolProgress | SourceLog
RunWatcher = Callable[[ToolEvent], None]

_KEPT_LOGS: Final = 50
_SHOWN_NAMES: Final = 30


@attrs.define(eq=False)
class _RunWatch:
    """A run that listens, in its own loop, and the tools that its model knows of."""

    call: LoopCaller
    watcher: RunWatcher
    told: tuple[Binding, ...]
    waiting: deque[ToolEvent] = attrs.field(factory=deque)
    scheduled: bool = False


class ToolEventRouter:
    """The runs that listen. `tell` may be called from any thread and never blocks.

    What sources log while nobody listens (when they start, say) is kept for the next run, the newest 50.

    :param current: returns the tools that there are.
    """

    def __init__(self, current: Callable[[], tuple[Binding, ...]]) -> None:
        self._current = current
        self._watches: dict[str, _RunWatch] = {}
        self._told: tuple[Binding, ...] | None = None
        self._early: deque[SourceLog] = deque(maxlen=_KEPT_LOGS)

    def add(self, run: str, call: LoopCaller, watcher: RunWatcher, *, goes_on: bool = False) -> None:
        """Have `watcher` called in its loop for a run. With `goes_on`, its model was last told of the tools in an
        earlier run."""
        told = self._told if goes_on and self._told is not None else self._current()
        self._watches[run] = _RunWatch(call, watcher, told)
        while self._early:
            self._send(run, self._watches[run], self._early.popleft())

    def remove(self, run: str) -> None:
        """End that."""
        watch = self._watches.pop(run, None)
        if watch is not None:
            self._told = watch.told

    def deliver(self, run: str) -> None:
        """Hand a run, in its loop, what is on its way to it, now."""
        watch = self._watches.get(run)
        while watch is not None and watch.waiting:
            watch.watcher(watch.waiting.popleft())

    def tell(self, event: ToolEvent) -> None:
        """Pass an event on: a call's to the run whose code made it, a log message to all."""
        if isinstance(event, SourceLog):
            watches = list(self._watches.items())
            if not watches:
                self._early.append(event)
            for run, watch in watches:
                self._send(run, watch, event)
            return
        run = event.code_id.partition("_")[0]
        if run not in self._watches and len(self._watches) == 1:
            run = next(iter(self._watches), "")
        found = self._watches.get(run)
        if found is not None:
            self._send(run, found, event)

    def _send(self, run: str, watch: _RunWatch, event: ToolEvent) -> None:
        watch.waiting.append(event)
        if watch.scheduled:
            return  # waking a loop costs as much as a quick call; what is on its way takes this along
        watch.scheduled = True

        def deliver() -> None:
            watch.scheduled = False  # first: what comes from now on may miss this delivery
            if self._watches.get(run) is watch:  # not after the run's end
                self.deliver(run)

        try:
            watch.call(deliver)
        except RuntimeError:  # the loop is gone, and with it the run
            pass

    def news(self, run: str) -> list[str]:
        """Return what has changed since the run's model was last told of its tools."""
        watch = self._watches.get(run)
        now = self._current()
        if watch is None or watch.told is now:
            return []
        before, watch.told = watch.told, now
        return _difference(before, now)


def _difference(before: tuple[Binding, ...], now: tuple[Binding, ...]) -> list[str]:
    old = {b.python_name: b.spec for b in before}
    new = {b.python_name: b.spec for b in now}
    parts = [
        ("new", [n for n in new if n not in old]),
        ("changed", [n for n in new if n in old and old[n] != new[n]]),
        ("gone", [n for n in old if n not in new]),
    ]
    texts = [f"{word}: {_names(names)}" for word, names in parts if names]
    return [f"the tools have changed; {'; '.join(texts)}"] if texts else []


def _names(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _SHOWN_NAMES} more" if len(every) > _SHOWN_NAMES else ""
    return f"{', '.join(every[:_SHOWN_NAMES])}{more}"
