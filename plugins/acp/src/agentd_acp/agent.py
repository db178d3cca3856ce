"""The agent: what an editor may ask of it, and its sessions."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, cast

import attrs
import click
from acp import PROTOCOL_VERSION, Agent
from acp.exceptions import RequestError
from acp.helpers import update_current_mode
from acp.interfaces import Client
from acp.schema import (
    AgentCapabilities,
    AuthenticateResponse,
    CloseSessionResponse,
    ForkSessionResponse,
    Implementation,
    InitializeResponse,
    ListSessionsResponse,
    LoadSessionResponse,
    McpCapabilities,
    NewSessionResponse,
    PromptCapabilities,
    PromptResponse,
    ResumeSessionResponse,
    SessionCapabilities,
    SessionCloseCapabilities,
    SessionForkCapabilities,
    SessionInfo,
    SessionListCapabilities,
    SessionResumeCapabilities,
    SetSessionConfigOptionResponse,
    SetSessionModeResponse,
)
from agentd._concurrency.pool import call_in_thread
from agentd.errors import AgentdError, ConfigError
from agentd_chat.kept import ConversationBusyError, ConversationFolder, KeptConversation
from agentd_chat.talk import TalkSettings
from agentd_cli import exits
from agentd_sink_console.neutral import neutral

from agentd_acp.choices import MODE, choose_mode, choose_option, options_of, state_of
from agentd_acp.modes import PolicyModes
from agentd_acp.named import find_conversation, folder_of, start_of_page
from agentd_acp.prompts import has_images
from agentd_acp.servers import servers_of
from agentd_acp.session import EditorSession
from agentd_acp.wire import MessageWire

__all__ = ["EditorAgent", "SessionChoice", "SessionMaker"]

_log: Final = logging.getLogger("agentd.acp")
_PAGE: Final = 50

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen(kw_only=True)
class SessionChoice:
    """What a session in a folder is made with, the policy that it begins with, and models that a person may choose."""

    talk: TalkSettings
    policy: str | None
    models: tuple[str, ...] = ()


class SessionMaker(Protocol):
    """Returns what a session is made with, by its folder and the model that its conversation had. Blocking. Raises
    `AgentdError` and `click.ClickException`."""

    def __call__(self, cwd: Path, model: str) -> SessionChoice: ...


def _told(method: F) -> F:
    """Make a protocol error of what may go wrong: the editor shows its message, and the agent goes on."""

    @functools.wraps(method)
    async def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except ConfigError as error:
            raise RequestError(-32602, exits.message_of(error)) from error
        except ConversationBusyError as error:  # its own words name options of a command line
            why = "is open in another process: close it there (another editor, agentd chat), or fork it"
            raise RequestError(-32603, f"the conversation {error.id} {why}") from error
        except (AgentdError, OSError) as error:
            raise RequestError(-32603, exits.message_of(error)) from error
        except click.ClickException as error:
            raise RequestError(-32602, neutral(error.format_message())) from error

    return cast(F, call)


class EditorAgent(Agent):
    """Implements the agent's side of the Agent Client Protocol, version 1.

    :param settings: what sessions are made with.
    :param wire: what the connection sends over.
    :param version: of agentd.
    """

    def __init__(self, settings: SessionMaker, wire: MessageWire, version: str) -> None:
        self._settings = settings
        self._wire = wire
        self._version = version
        self._sessions: dict[str, EditorSession] = {}
        self._client: Client | None = None
        self._opening: set[asyncio.Future[Any]] = set()
        self._changing: dict[str, str] = {}  # what a request does with a session, by its id: opened, closed
        self._is_closed = False

    def on_connect(self, conn: Client) -> None:
        """Take the connection, by which the editor is told and asked."""
        self._client = conn

    async def aclose(self) -> None:
        """End all sessions: their turns, their code, their servers."""
        self._is_closed = True
        for opening in self._opening:
            opening.cancel()
        for id in list(self._sessions):
            await self._close(id)

    # --- the connection ------------------------------------------------------------------------------

    async def initialize(self, protocol_version: int, **_: Any) -> InitializeResponse:  # type: ignore[override]
        """Say what there is. A client that speaks another version only has to go."""
        return InitializeResponse(
            protocol_version=PROTOCOL_VERSION,
            agent_info=Implementation(name="agentd", title="agentd", version=self._version),
            agent_capabilities=AgentCapabilities(
                load_session=True,
                prompt_capabilities=PromptCapabilities(
                    image=has_images(), audio=False, embedded_context=True
                ),
                mcp_capabilities=McpCapabilities(http=True, sse=True),
                session_capabilities=SessionCapabilities(
                    close=SessionCloseCapabilities(),
                    fork=SessionForkCapabilities(),
                    list=SessionListCapabilities(),
                    resume=SessionResumeCapabilities(),
                ),
            ),
            auth_methods=[],
        )

    async def authenticate(self, method_id: str, **_: Any) -> AuthenticateResponse:
        """Nobody has to: the model's key is in the agent's environment."""
        raise RequestError(-32602, "agentd acp has no authentication: its environment has the model's key")

    async def ext_method(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """There are no extensions."""
        raise RequestError.method_not_found(f"_{method}")

    async def ext_notification(self, method: str, params: dict[str, Any]) -> None:
        """There are no extensions."""

    # --- sessions ------------------------------------------------------------------------------------

    @_told
    async def new_session(
        self,
        cwd: str,
        additional_directories: Any = None,
        mcp_servers: Any = None,
        malformed: Sequence[str] = (),
        **_: Any,
    ) -> NewSessionResponse:
        """Begin a conversation in a folder."""
        folder = folder_of(cwd, additional_directories)
        session = await self._open(folder, folder.new(), mcp_servers, is_new=True)
        return NewSessionResponse(session_id=session.id, **self._welcomed(session, malformed))

    @_told
    async def load_session(
        self,
        cwd: str,
        session_id: str,
        mcp_servers: Any = None,
        additional_directories: Any = None,
        malformed: Sequence[str] = (),
        **_: Any,
    ) -> LoadSessionResponse:
        """Go on with a conversation, and show all of it."""
        folder = folder_of(cwd, additional_directories)
        with self._alone(session_id, "opened"):
            session = await self._reopen(folder, session_id, mcp_servers)
            async with self._closed_on_error(session):
                await session.replay()
        return LoadSessionResponse(**self._welcomed(session, malformed))

    @_told
    async def resume_session(
        self,
        session_id: str,
        cwd: str,
        additional_directories: Any = None,
        mcp_servers: Any = None,
        malformed: Sequence[str] = (),
        **_: Any,
    ) -> ResumeSessionResponse:
        """Go on with a conversation that the editor still shows."""
        folder = folder_of(cwd, additional_directories)
        with self._alone(session_id, "opened"):
            session = await self._reopen(folder, session_id, mcp_servers)
        return ResumeSessionResponse(**self._welcomed(session, malformed))

    @_told
    async def fork_session(
        self,
        session_id: str,
        cwd: str,
        additional_directories: Any = None,
        mcp_servers: Any = None,
        malformed: Sequence[str] = (),
        **_: Any,
    ) -> ForkSessionResponse:
        """Begin a conversation that goes on from another one, which stays as it is."""
        folder = folder_of(cwd, additional_directories)
        self._check_alone(session_id)
        open_one = self._sessions.get(session_id)
        if open_one is not None and open_one.is_busy:
            raise ConfigError(f"a turn runs in the session {session_id}: fork it when that has ended")
        kept = (
            open_one.talk.kept
            if open_one is not None
            else await call_in_thread(lambda: find_conversation(folder, session_id))
        )
        session = await self._open(folder, folder.fork(kept), mcp_servers, is_new=True)
        async with self._closed_on_error(session):  # nothing of a fork that fails is kept
            await call_in_thread(lambda: folder.save(session.talk.kept))
        return ForkSessionResponse(session_id=session.id, **self._welcomed(session, malformed))

    @_told
    async def list_sessions(
        self, cwd: str | None = None, cursor: str | None = None, **_: Any
    ) -> ListSessionsResponse:
        """List conversations that were kept, of a folder or of all, the newest first."""
        start = start_of_page(cursor)
        kept = ConversationFolder.everywhere() if cwd is None else folder_of(cwd, None).all()
        found = await call_in_thread(lambda: list(islice(kept, start, start + _PAGE + 1)))
        sessions = [
            SessionInfo(
                session_id=one.id,
                cwd=one.workspace,
                title=neutral(one.title),
                updated_at=datetime.fromtimestamp(one.updated_at, UTC).isoformat(timespec="seconds"),
            )
            for one in found[:_PAGE]
        ]
        return ListSessionsResponse(
            sessions=sessions, next_cursor=str(start + _PAGE) if len(found) > _PAGE else None
        )

    @_told
    async def close_session(self, session_id: str, **_: Any) -> CloseSessionResponse:
        """End a session; its conversation is kept."""
        self._session(session_id)
        with self._alone(session_id, "closed"):
            await self._close(session_id)
        return CloseSessionResponse()

    # --- turns ---------------------------------------------------------------------------------------

    @_told
    async def prompt(self, session_id: str, prompt: Any, **_: Any) -> PromptResponse:
        """Carry out a turn."""
        return await self._session(session_id).prompt(prompt)

    async def cancel(self, session_id: str, **_: Any) -> None:
        """Stop the turn of a session. It is a notification: of one that is not there, nothing can be said."""
        if (session := self._sessions.get(session_id)) is not None:
            await session.cancel()

    # --- modes ---------------------------------------------------------------------------------------

    @_told
    async def set_session_mode(self, session_id: str, mode_id: str, **_: Any) -> SetSessionModeResponse:
        """Choose another policy, which holds at once."""
        session = self._session(session_id)
        choose_mode(session, mode_id)
        self._wire.behind_answer(session.tell_options)
        return SetSessionModeResponse()

    @_told
    async def set_config_option(
        self, config_id: str, session_id: str, value: str | bool, **_: Any
    ) -> SetSessionConfigOptionResponse:
        """Choose another policy, or another model."""
        session = self._session(session_id)
        await choose_option(session, config_id, value)
        if config_id == MODE:
            self._wire.behind_answer(lambda: session.send(update_current_mode(session.modes.current)))
        return SetSessionConfigOptionResponse(config_options=options_of(session))

    # --- inside --------------------------------------------------------------------------------------

    def _check_alone(self, id: str) -> None:
        """Raise `ConfigError` if another request opens or closes this session."""
        if (doing := self._changing.get(id)) is not None:
            raise ConfigError(
                f"the session {id:.80} is being {doing} by another request: wait for its answer, then ask again"
            )

    @contextmanager
    def _alone(self, id: str, doing: str) -> Iterator[None]:
        """Open or close a session in one request at a time. Raises `ConfigError` in a second one."""
        self._check_alone(id)
        self._changing[id] = doing
        try:
            yield
        finally:
            del self._changing[id]

    @asynccontextmanager
    async def _closed_on_error(self, session: EditorSession) -> AsyncIterator[None]:
        """Close a session if the request that has opened it fails."""
        try:
            yield
        except BaseException:
            await self._close(session.id)
            raise

    def _welcomed(self, session: EditorSession, malformed: Sequence[str]) -> dict[str, Any]:
        """Return what an editor is told of a session that it has opened; commands and notes follow the answer."""
        session.note(f"left out: {item}" for item in malformed)
        self._wire.behind_answer(session.greet)
        return state_of(session)

    def _session(self, id: str) -> EditorSession:
        self._check_alone(id)
        session = self._sessions.get(id)
        if session is None:
            open_ones = ", ".join(self._sessions) or "none"
            raise RequestError(
                -32002,
                f"no session {id!r:.80} is open; session/load opens one that was kept. Open: {open_ones}",
            )
        return session

    async def _reopen(self, folder: ConversationFolder, id: str, servers: Any) -> EditorSession:
        open_one = self._sessions.get(id)
        if open_one is not None and open_one.is_busy:
            raise ConfigError(f"a turn runs in the session {id}: cancel it before it is loaded again")
        kept = await call_in_thread(lambda: find_conversation(folder, id))
        if kept.workspace != str(folder.workspace):
            raise ConfigError(
                f"sessionId: {id} is a conversation of the folder {kept.workspace}, not of {folder.workspace}"
            )
        servers_of(servers, folder.workspace)  # what is refused leaves the open one as it is
        if open_one is not None and self._sessions.get(id) is open_one:
            if open_one.is_busy:  # since it was looked for
                raise ConfigError(f"a turn runs in the session {id}: cancel it before it is loaded again")
            await self._close(id)  # the editor may have other servers now, and begins with nothing shown
        return await self._open(folder, kept, servers)

    async def _open(
        self, folder: ConversationFolder, kept: KeptConversation, servers: Any, *, is_new: bool = False
    ) -> EditorSession:
        assert self._client is not None
        cwd = folder.workspace
        choice = await call_in_thread(lambda: self._settings(cwd, kept.model))
        modes = PolicyModes(choice.policy, cwd)
        session = EditorSession(
            self._client,
            choice.talk,
            folder,
            kept,
            modes,
            servers_of(servers, cwd),
            choice.models,
            is_new=is_new,
        )
        await self._opened(session)
        self._sessions[session.id] = session
        return session

    async def _opened(self, session: EditorSession) -> None:
        """Open a session, unless the agent ends meanwhile: a server that does not answer holds up nobody then."""
        opening = asyncio.ensure_future(session.open())
        self._opening.add(opening)
        try:
            if self._is_closed:
                opening.cancel()
            await asyncio.wait((opening,))
        finally:
            self._opening.discard(opening)
            opening.cancel()  # of no effect, but where this task is cancelled itself
        if self._is_closed:
            if not opening.cancelled() and opening.exception() is None:
                await session.aclose()
            raise ConfigError("the agent ends")
        opening.result()

    async def _close(self, id: str) -> None:
        session = self._sessions.pop(id, None)
        if session is None:
            return
        try:
            await session.aclose()
        except Exception:
            _log.exception("the session %s has not ended as it should", id)
