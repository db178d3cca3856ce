"""Calls of tools from code, on their way from the runner or its line to the session's tools.

`CallQueue` begins them as long as their results will find room, `CodeCalls` hands them to the tools.
"""

from __future__ import annotations

import json
import threading
import weakref
from collections import deque
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Final

from agentd.protocols import ToolReply

from agentd_runner.host.held import HeldBytes
from agentd_runner.host.hub import Hub, shared_hub
from agentd_runner.host.pending import OpenAction, OpenActions, Reply
from agentd_runner.inside import frames

if TYPE_CHECKING:
    from agentd.protocols import ToolDispatcher

__all__ = ["CallQueue", "CodeCalls", "OnCall"]

OnCall = Callable[[int, str, bytes, Reply, "CallQueue"], None]
"""Told of each call: the action's number, the tool's name, the arguments as JSON, who wants the answer, and who counts
it."""

FEW: Final = 32  # so many blocking tools of a session may run at once
GUESS: Final = 1024 * 1024  # bytes of a result, before the first one is known
SMALL: Final = 4096  # results up to this size are all the same

QueuedCall = tuple[int, str, bytes, Reply]


class CallQueue:
    """Begins calls at once, or when the code has read more of the answers before.

    How large a result will be, nobody knows before; so the largest of the last ones says how many calls may be under
    way. `begin` belongs to the hub's thread. There is no lock: it would be in the way of each call.
    """

    def __init__(self, held: HeldBytes, hub: Hub, on_call: OnCall) -> None:
        self._held = held
        self._hub = hub
        self._on_call = on_call
        self._begun = 0  # counted by the hub's thread
        self._ends = count(1)  # by any, each end once
        self._ended = 0  # the newest of these, or, for a moment, one before it
        self._largest = GUESS
        self._queue: deque[QueuedCall] = deque()
        self._parked = 0  # of those begun, so many wait for a person
        self._parking = threading.Lock()
        self._allowed: deque[Callable[[], None]] = deque()  # what goes on with those that may
        self._is_beginning = False
        held.on_read = self.go_on

    def begin(self, action: int, name: str, arguments: bytes, reply: Reply) -> None:
        """Have a call carried out, now or later. Whoever gets its reply says so with `end`."""
        held = self._held
        # What `_may_begin` says of few calls, without another call.
        if self._queue or self._begun - self._ended - self._parked >= FEW or held.unread > held.limit:
            self._queue.append((action, name, arguments, reply))
            self._begin_more()  # a call may have ended in between
            return
        self._begun += 1
        self._on_call(action, name, arguments, reply, self)

    def park(self, count: int = 1) -> None:
        """Do not count a call that waits for a person; -1 ends that. From any thread."""
        with self._parking:
            self._parked += count
        if count > 0 and self._queue:
            self.go_on()

    def allow(self, go_on: Callable[[], None]) -> None:
        """Go on with a parked call when there is room for its result. From any thread."""
        self._allowed.append(go_on)
        self.go_on()

    def _may_begin(self) -> bool:
        under_way, limit = self._begun - self._ended - self._parked, self._held.limit
        return self._held.unread <= limit and (under_way < FEW or (under_way + 1) * self._largest <= limit)

    def drop(self, action: int | None = None) -> None:
        """Answer the calls that wait, of an action that has ended or of all: whoever made them is no more, and they are
        not to be carried out after a block was stopped. In the hub's thread."""
        waiting, self._queue = self._queue, deque[QueuedCall]()
        for call in waiting:
            if action is not None and call[0] != action:
                self._queue.append(call)
                continue
            self._begun += 1  # its answer counts as an end
            call[3](False, _tool_error(f"{call[1]}() was not carried out: its block has ended"))

    def end(self, size: int) -> None:
        """Count a call as answered with `size` bytes. From any thread."""
        self._ended = next(self._ends)
        largest = self._largest
        if size > largest or largest > SMALL:
            self._largest = size if size > largest else largest - (largest >> 4)
        if self._queue or self._allowed:
            self.go_on()

    def go_on(self) -> None:
        """Begin what may be begun by now. From any thread."""
        self._hub.call(self._begin_more)

    def _begin_more(self) -> None:
        if self._is_beginning:  # a call that was answered at once led back here
            return
        self._is_beginning = True
        try:
            while (self._allowed or self._queue) and self._may_begin():
                if self._allowed:
                    self._allowed.popleft()()
                    continue
                self._begun += 1
                self._on_call(*self._queue.popleft(), self)
        finally:
            self._is_beginning = False


class CodeCall:
    """A call of code, for the session's tools: takes its reply, and hears that it waits for a person meanwhile."""

    __slots__ = ("_actions", "_answer", "_is_parked", "_name", "_opened", "_queue")

    def __init__(
        self, actions: OpenActions, opened: OpenAction, name: str, answer: Reply, queue: CallQueue
    ) -> None:
        self._actions = actions
        self._opened = opened
        self._name = name
        self._answer = answer
        self._queue = queue
        self._is_parked = False

    def __call__(self, result: ToolReply) -> None:
        """Answer the call."""
        if self._is_parked:
            self.unpark()
        self._actions.end_call(self._opened)
        payload = result.payload
        if len(payload) > frames.MAX_CALL:
            self._answer(False, _tool_error(f"{self._name}() gave {len(payload)} bytes"))
        else:
            self._answer(result.ok, payload)

    def park(self) -> None:
        """A policy is about to ask somebody: until `unpark` or the answer, the call holds up no other one."""
        self._is_parked = True
        self._queue.park()

    def unpark(self) -> None:
        """It was decided at once, or is carried out now."""
        if self._is_parked:
            self._is_parked = False
            self._queue.park(-1)

    def allow(self, go_on: Callable[[], None]) -> None:
        """It may be carried out: `go_on` is called when there is room for its result."""
        self._queue.allow(go_on)


class CodeCalls:
    """The tools that the code of one executor may call, and its open actions."""

    def __init__(self) -> None:
        self.tools: ToolDispatcher | None = None
        self.actions = OpenActions()

    def dispatch(self, action: int, name: str, arguments: bytes, answer: Reply, queue: CallQueue) -> None:
        """Have the session's tools answer a call. In the I/O thread: nothing here raises or waits."""
        actions = self.actions
        opened = actions.begin_call(action)
        reply = CodeCall(actions, opened, name, answer, queue)
        if self.tools is None:
            reply(ToolReply(False, _tool_error(f"no tool {name!r}: this session has no tools")))
            return
        try:
            context = opened.context.copy()
            job = context.run(self.tools.submit, name, arguments, opened.name, reply, may_hand_back=True)
            if job is not None:
                shared_hub().run(job)
        except Exception as error:  # a dispatcher's bug must answer the call, not stop the I/O thread
            reply(ToolReply(False, _tool_error(f"{name}(): {type(error).__name__}: {error}")))

    def end_action(self, action: int, *, outlasts: bool) -> None:
        """Forget an action that has ended, and give up those of its calls that wait for somebody's permission or for a
        thread: nobody waits for them.

        :param outlasts: its threads go on, those of a kept interpreter.
        """
        opened = self.actions.remove(action)
        give_up = getattr(self.tools, "give_up_waiting", None)
        if opened is not None and opened.calls and not outlasts and give_up is not None:
            give_up(opened.name)

    def loosely(self) -> OnCall:
        """Return `dispatch` as a function that does not keep a forgotten executor and its tools alive."""
        weak = weakref.ref(self)

        def on_call(action: int, name: str, arguments: bytes, reply: Reply, queue: CallQueue) -> None:
            calls = weak()
            if calls is not None:
                calls.dispatch(action, name, arguments, reply, queue)

        return on_call


def _tool_error(message: str) -> bytes:
    return json.dumps({"type": "ToolError", "message": message}).encode()
