"""An editor that speaks the Agent Client Protocol: the SDK's own client, which keeps what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from acp import PROTOCOL_VERSION, spawn_agent_process, text_block
from acp.schema import AllowedOutcome, DeniedOutcome, RequestPermissionResponse

if TYPE_CHECKING:
    from pathlib import Path

    from command_process import Command

__all__ = ["AcpEditor", "started"]

Answer = Callable[[Any], Any]


class AcpEditor:
    """The client's side. `answer` gets a permission request's tool call and returns an option's id, None for a
    question that is cancelled, or an awaitable of one of them."""

    def __init__(self) -> None:
        self.updates: list[tuple[str, Any]] = []
        self.asked: list[Any] = []
        self.options: list[Any] = []
        self.answer: Answer = lambda about: "once"
        self._news = asyncio.Event()
        self.agent: Any = None
        self.process: Any = None

    def on_connect(self, conn: Any) -> None: ...

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        self.updates.append((session_id, update))
        self._news.set()

    async def request_permission(
        self, session_id: str, tool_call: Any, options: Any, **_: Any
    ) -> RequestPermissionResponse:
        self.asked.append(tool_call)
        self.options = options
        self._news.set()
        answer = self.answer(tool_call)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if answer is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=answer))

    async def until(self, true: Callable[[], Any]) -> Any:
        """Wait until something holds, after each thing that the agent says."""
        async with asyncio.timeout(60):
            while not (found := true()):
                self._news.clear()
                await self._news.wait()
        return found

    def kinds(self) -> list[str]:
        """The kinds of all updates, in order."""
        return [update.session_update for _, update in self.updates]

    def of(self, *kinds: str) -> list[Any]:
        """The updates of these kinds."""
        return [update for _, update in self.updates if update.session_update in kinds]

    def text(self, kind: str = "agent_message_chunk") -> str:
        """All that was said."""
        return "".join(update.content.text for update in self.of(kind))

    def calls(self) -> dict[str, dict[str, Any]]:
        """The tool calls as an editor shows them now: what later updates say replaces what was."""
        shown: dict[str, dict[str, Any]] = {}
        for update in self.of("tool_call", "tool_call_update"):
            known = shown.setdefault(update.tool_call_id, {"status_history": []})
            said = update.model_dump(exclude_none=True)
            if said.get("status"):
                known["status_history"].append(said["status"])
            known.update(said)
        return shown

    def call(self, title: str) -> dict[str, Any]:
        """The one tool call with this in its title."""
        (found,) = [call for call in self.calls().values() if title in call.get("title", "")]
        return found

    async def new(self, cwd: Path, servers: Any = ()) -> str:
        """Begin a session."""
        return str((await self.agent.new_session(cwd=str(cwd), mcp_servers=list(servers))).session_id)

    async def say(self, session: str, text: str) -> Any:
        """Carry out a turn."""
        return await self.agent.prompt(session_id=session, prompt=[text_block(text)])


@asynccontextmanager
async def started(command: Command, *arguments: str) -> AsyncIterator[AcpEditor]:
    """Start `agentd acp ARGUMENTS` and an editor that talks with it."""
    editor = AcpEditor()
    program, *given = command.command
    async with spawn_agent_process(
        editor,
        program,
        *given,
        "acp",
        *arguments,
        env=command.env,
        cwd=command.cwd,
        use_unstable_protocol=True,
        transport_kwargs={"stderr": None, "shutdown_timeout": 30.0, "limit": 1 << 26},
    ) as (agent, process):
        editor.agent, editor.process = agent, process
        await agent.initialize(protocol_version=PROTOCOL_VERSION)
        yield editor
