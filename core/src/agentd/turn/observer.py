"""Who observes a run, and what is on its way to them: listeners (the facade, the reader of a session), event sinks,
the live output of code, and the events of tools."""

from __future__ import annotations

import codecs
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import attrs

from agentd._concurrency.waiting import LoopCaller, call_quietly
from agentd.errors import ConfigError
from agentd.events import Approval, Event, Picture, SourceLog, ToolCall, ToolProgress
from agentd.types import ActionResult, OutputChunk, OutputStream

if TYPE_CHECKING:
    from agentd._concurrency.channel import Channel
    from agentd.protocols import EventSink, ModelEvent, ModelToolCall
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec
    from agentd.types import Binding

__all__ = [
    "ChannelListener", "Listener", "OutputRelay", "RunWatcher", "SinkGroup", "ToolEvent",
    "ToolEventRouter",
]  # fmt: skip

ToolEvent = ToolCall | Approval | ToolProgress | SourceLog | Picture
RunWatcher = Callable[[ToolEvent], None]

PENDING_BYTES: Final = 256 * 1024
KEPT_BYTES: Final = 64 * 1024
_KEPT_LOGS: Final = 50
_SHOWN_NAMES: Final = 30

log = logging.getLogger("agentd.session")


class Listener:
    """What a run tells the outside. Called in the event loop; must not block. Override what you need.

    For each model event of an answer: `model_event` before its text is parsed, then `emit` for what the
    text gave and `certain` for how much of the answer counts, then `parsed`.
    """

    def emit(self, event: Event) -> None:
        """Take an event of the run."""

    def model_event(self, event: ModelEvent) -> None:
        """See an event of the model as it came."""

    def certain(self, end: int) -> None:
        """Learn that the first `end` characters of this answer belong to what is recorded."""

    def parsed(self) -> None:
        """Learn that everything in the last model event has been dealt with."""

    def call_begun(self, id: str, call: ModelToolCall) -> None:
        """Learn that a native call of the model is ours to answer, and the id that its events will have."""

    def call_over(self, id: str, answer: str) -> None:
        """Learn what the model will read about that call; the call's last event follows."""

    def turn_over(self, answer: str, *, cut: bool, last: bool) -> None:
        """Learn that a round ended, with the answer as recorded; `last` if it ends the run by itself."""

    def is_full(self) -> bool:
        """Say that the reader is behind."""
        return False

    async def flow(self) -> None:
        """Wait until the reader is no longer behind."""


class SinkGroup:
    """Passes events on. A sink that raises, `SystemExit` too, ends no run: it is logged and left out.

    :param wanted: names of sink plugins, with options perhaps, or objects.
    """

    def __init__(self, wanted: Sequence[PluginSpec | EventSink] = ()) -> None:
        self._wanted = tuple(wanted)
        if not all(isinstance(s, str | tuple | list) or hasattr(s, "emit") for s in self._wanted):
            raise ConfigError(f"sinks: must be names, or objects with emit() and close(), got {wanted!r}")
        self._open: list[EventSink] | None = None
        self._left_out: list[EventSink] = []

    def open(self, registry: Callable[[], Registry]) -> None:
        """Make the sinks that were named, unless they are there."""
        if self._open is None:
            self._open = [
                registry().create_event_sink(s) if isinstance(s, str | tuple | list) else s
                for s in self._wanted
            ]

    def emit(self, event: Event) -> None:
        """Give the event to every sink."""
        for sink in [sink for sink in self._open or () if sink not in self._left_out]:
            try:
                sink.emit(event)
            except (Exception, SystemExit):  # a plugin's boundary: a sink does not end a run
                log.exception("the event sink %r failed and is left out from now on", sink)
                self._left_out.append(sink)

    def close(self) -> None:
        """Close the sinks, each whatever the others do; `open` makes new ones."""
        sinks, self._open, self._left_out = self._open or [], None, []
        for sink in sinks:
            try:
                sink.close()
            except (Exception, SystemExit):  # a plugin's boundary
                log.exception("the event sink %r failed to close", sink)


class ChannelListener(Listener):
    """Gives events to the reader of a run and to the sinks."""

    def __init__(self, channel: Channel[Event] | None, sinks: SinkGroup) -> None:
        self._channel = channel
        self._sinks = sinks
        if channel is not None:
            self.is_full = channel.is_full  # type: ignore[method-assign]

    def emit(self, event: Event) -> None:
        if self._channel is not None:
            self._channel.put(event)
        self._sinks.emit(event)

    async def flow(self) -> None:
        if self._channel is not None:
            await self._channel.flow()


# --- the output of code, from the executor's thread into the event loop ------------------------------------


class OutputRelay:
    """Passes one action's output on as text, and keeps enough of it for the record if the action is cut
    short.

    `feed` is what an executor gets as `on_output`: any thread, never blocks. What arrives between two turns
    of the loop is passed on in one piece per stream. If the reader cannot keep up, at most 256 KiB wait for
    it; what comes on top is left out of the live output (never of the result) with a note.

    :param show: called in the loop with the text and its stream.
    :param is_full: says that the reader is behind; then output waits for the next chunk or the action's end.
    """

    def __init__(
        self, call: LoopCaller, show: Callable[[str, OutputStream], None], is_full: Callable[[], bool]
    ) -> None:
        self._call = call
        self._show = show
        self._is_full = is_full
        self._lock = threading.Lock()
        self._pending: list[OutputChunk] = []
        self._pending_bytes = 0
        self._skipped_bytes = 0
        self._scheduled = False
        self._decoders: dict[OutputStream, codecs.IncrementalDecoder] = {}
        self._head: list[OutputChunk] = []
        self._tail: deque[OutputChunk] = deque()
        self._head_bytes = self._tail_bytes = self._lost_bytes = 0

    def feed(self, chunk: OutputChunk) -> None:
        """Take a chunk, from any thread."""
        with self._lock:
            self._keep(chunk)
            if self._pending_bytes > PENDING_BYTES:
                self._skipped_bytes += len(chunk.data)
                return
            self._pending.append(chunk)
            self._pending_bytes += len(chunk.data)
            if self._scheduled:
                return
            self._scheduled = True
        call_quietly(self._call, self.flush)

    def _keep(self, chunk: OutputChunk) -> None:
        size = len(chunk.data)
        if self._head_bytes < KEPT_BYTES:
            self._head.append(chunk)
            self._head_bytes += size
            return
        self._tail.append(chunk)
        self._tail_bytes += size
        while self._tail_bytes - len(self._tail[0].data) >= KEPT_BYTES:
            lost = len(self._tail.popleft().data)
            self._tail_bytes -= lost
            self._lost_bytes += lost

    def flush(self, *, last: bool = False) -> None:
        """Show what has arrived; in the loop. `last` also shows what is left of a broken character."""
        if not last and self._is_full():
            with self._lock:
                self._scheduled = False
            return
        with self._lock:
            chunks, self._pending = self._pending, []
            skipped, self._skipped_bytes = self._skipped_bytes, 0
            self._pending_bytes = 0
            self._scheduled = False
        for stream, group in groupby(chunks, key=attrgetter("stream")):
            self._decode(stream, b"".join(chunk.data for chunk in group))
        if skipped:
            self._decode("stdout", b"\n[... %d bytes are not shown live ...]\n" % skipped)
        if last:
            for stream in list(self._decoders):
                self._decode(stream, b"", final=True)

    def _decode(self, stream: OutputStream, data: bytes, *, final: bool = False) -> None:
        decoder = self._decoders.get(stream)
        if decoder is None:
            decoder = self._decoders[stream] = codecs.getincrementaldecoder("utf-8")("replace")
        if text := decoder.decode(data, final):
            self._show(text, stream)

    def partial(self, message: str) -> ActionResult:
        """Return what is known of an action that was cut short."""
        with self._lock:
            return ActionResult(
                status="cancelled",
                exit_code=130,
                chunks=(*self._head, *self._tail),
                dropped_bytes=self._lost_bytes,
                message=message,
            )


# --- the events of tools, on their way to the runs that they belong to ---------------------------------------


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

    What sources log and jobs call while nobody listens is kept for the next run, the newest 50.

    :param current: returns the tools that there are.
    """

    def __init__(self, current: Callable[[], tuple[Binding, ...]]) -> None:
        self._current = current
        self._watches: dict[str, _RunWatch] = {}
        self._told: tuple[Binding, ...] | None = None
        self._early: deque[ToolEvent] = deque(maxlen=_KEPT_LOGS)

    def add(self, run: str, call: LoopCaller, watcher: RunWatcher, *, goes_on: bool = False) -> None:
        """Have `watcher` called in its loop for a run. With `goes_on`, its model was last told of the tools in an
        earlier run."""
        told = self._told if goes_on and self._told is not None else self._current()
        self._watches[run] = _RunWatch(call, watcher, told)
        while self._early:
            self._send(run, self._watches[run], self._early.popleft())

    def remove(self, run: str) -> None:
        """End that."""
        if (watch := self._watches.pop(run, None)) is not None:
            self._told = watch.told

    def deliver(self, run: str) -> None:
        """Hand a run, in its loop, what is on its way to it, now."""
        watch = self._watches.get(run)
        while watch is not None and watch.waiting:
            watch.watcher(watch.waiting.popleft())

    def tell(self, event: ToolEvent) -> None:
        """Pass an event on: a call's to the run whose code made it, a log message to all."""
        if not self._watches and (isinstance(event, SourceLog) or not event.code_id):
            self._early.append(event)
        elif isinstance(event, SourceLog):
            for run, watch in list(self._watches.items()):
                self._send(run, watch, event)
        else:
            run = event.code_id.partition("_")[0]
            if run not in self._watches and len(self._watches) == 1:
                run = next(iter(self._watches), "")
            if (found := self._watches.get(run)) is not None:
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

        call_quietly(watch.call, deliver)

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
