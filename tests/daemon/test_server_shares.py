"""An agent's share of a server: how a tool is called for a subscription."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence

import anyio
import pytest
from agentd.errors import ToolError
from agentd.protocols import OnProgress, SourceHost
from agentd.types import ToolSpec
from agentd_daemon.config.values import AgentServerConfig
from agentd_daemon.sources import ServerPool, ServerShare

pytestmark = pytest.mark.anyio
Done = Callable[[object, BaseException | None], None]


class TaskSource:
    """Calls take a task."""

    name = "files"

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        return [ToolSpec(name="look")]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        self.calls.append(f"task {name}")
        return "by task"

    async def aclose(self) -> None: ...


class DirectlyCalled(TaskSource):
    """Begins calls by itself; `outcomes` says how each ends, None that it must take a task."""

    def __init__(self, *outcomes: Callable[[Done], object] | None) -> None:
        super().__init__()
        self.outcomes = list(outcomes)
        self.given_up = 0

    def begin(
        self,
        name: str,
        arguments: Mapping[str, object],
        done: Done,
        on_progress: OnProgress | None = None,
    ) -> Callable[[], None] | None:
        outcome = self.outcomes.pop(0)
        if outcome is None:
            return None
        self.calls.append(f"direct {name}")
        outcome(done)
        return self._give_up

    def _give_up(self) -> None:
        self.given_up += 1


def share_of(source: TaskSource) -> ServerShare:
    return ServerPool(lambda spec: [source]).share(AgentServerConfig(command="files"))


def in_a_thread(value: object, error: BaseException | None = None) -> Callable[[Done], object]:
    return lambda done: threading.Thread(target=done, args=(value, error)).start()


async def test_a_source_that_can_begins_the_call_itself_and_another_gets_a_task() -> None:
    source = DirectlyCalled(in_a_thread("from a thread"), lambda done: done("at once", None), None)
    share = share_of(source)
    assert [await share.call_any("look", {}) for _ in range(3)] == ["from a thread", "at once", "by task"]
    assert source.calls == ["direct look", "direct look", "task look"]
    assert await share_of(TaskSource()).call_any("look", {}) == "by task"


async def test_an_error_of_a_call_that_the_source_began_is_raised() -> None:
    source = DirectlyCalled(in_a_thread(None, ToolError("no such file")))
    with pytest.raises(ToolError, match="no such file"):
        await share_of(source).call_any("look", {})
    assert source.calls == ["direct look"]


async def test_a_call_that_is_cancelled_is_given_up() -> None:
    source = DirectlyCalled(lambda done: None)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await share_of(source).call_any("look", {})
    assert source.given_up == 1
