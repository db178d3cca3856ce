"""The sandbox of one client, with its workspace, its tools and its checkpoints.

It is a session whose model is the client, so a policy, limits, jobs, long results and checkpoints are what they are
elsewhere.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from agentd import Session
from agentd.errors import AgentdError
from agentd.events import CodeExecution, CodeOutput, RunEnd
from agentd.protocols import ShellExecutor, SnapshotExcluding
from agentd.turn.transcript import Transcript
from agentd.types import Budgets

from agentd_mcp_server.back_channel import BackChannel
from agentd_mcp_server.gateway import Gateway
from agentd_mcp_server.given import GivenModel, as_block
from agentd_mcp_server.offered_lists import Offer
from agentd_mcp_server.person import Person, asking_person
from agentd_mcp_server.under_way import settled
from agentd_mcp_server.upstream import Upstream

if TYPE_CHECKING:
    from agentd_mcp_server.abilities import ClientAbilities
    from agentd_mcp_server.under_way import ClientRequest

__all__ = ["ClientSandbox", "Done", "PutAway"]

_log = logging.getLogger("agentd.mcp")
_END: Final = "[end of result 1]"
_MOST_MESSAGES: Final = 50
_EXPLAINED: Final = 20
"""Of the calls after a sandbox was put away, in those that fail it is said once more, if clients share it."""
_SHELL_S: Final = 5.0
_MOST_SHELL_BYTES: Final = 1 << 20
_NOTHING: Final = Offer()
# A call is one answer of the model: asking it for another one takes time. What a block may take is the executor's.
_BUDGETS: Final = Budgets(max_turns=1, wall_time_s=None, max_tokens=None, max_tool_calls=None)


@attrs.frozen(kw_only=True)
class Done:
    """What a block gave: `told` is what a model reads of it, with notes; `pictures`, what it sees of it: the media type
    and the file as base64; `note`, what the client has to know besides."""

    told: str
    output: str
    status: str
    exit_code: int
    wall_s: float
    pictures: Sequence[tuple[str, str]] = ()
    note: str = ""


@attrs.frozen
class PutAway:
    """What is kept of a sandbox that was ended while its client was away. Its files lie in its folder.

    :ivar why: it was ended.
    :ivar shell: the shell's state, or None if there is none to come back to.
    """

    why: str
    shell: Mapping[str, object] | None = None

    def note(self, *, has_shell: bool) -> str:
        """Return what the client reads when it comes back."""
        shell = "and the shell's directory, variables and functions " if has_shell else ""
        lost = "Python's variables and its jobs are gone" + (
            "" if has_shell else ", and the shell is a new one"
        )
        return f"this sandbox was put away, as {self.why}: files {shell}are as they were; {lost}"


def _failure(done: CodeExecution) -> str:
    """Return what a model is told of a block that failed: some clients show it the text alone, which may be empty."""
    return "" if done.status == "completed" else f"[failed, exit code {done.exit_code}]"


def _not_started(*_: object) -> None:
    """For a sandbox that is only to be checked."""


class ClientSandbox:
    """One client's sandbox. Requests are served one after the other.

    :param settings: arguments of `Session`.
    :param abilities: those of the client that it is opened for; None only to check the settings.
    :param start: starts a task that ends with the sandboxes.
    :param offer: what of the servers behind its client is offered.
    :param is_shared: clients without a session may work in it, and those are several.
    :param away: what is left of it from before, if it was put away.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        abilities: ClientAbilities | None = None,
        start: Callable[..., object] = _not_started,
        offer: Offer = _NOTHING,
        *,
        is_shared: bool = False,
        away: PutAway | None = None,
    ) -> None:
        self._is_shared = is_shared
        self._has_several = is_shared and abilities is not None and not abilities.speaks_handshake
        self._away = away
        self._note = ""
        self._untold = True
        self._to_explain = _EXPLAINED
        self._model = GivenModel()
        self._person: Person | None = None
        self._busy = anyio.Lock()
        self.last_used = self.last_attended = anyio.current_time()
        approver = None
        if settings.get("policy") is not None:
            from agentd_policy.approvers import Approver

            approver = Approver(self._ask, "the client's person", in_session=True)
        given = dict(settings)
        servers = given.pop("mcp_servers", ())
        self._tools = tuple(given.get("tools") or ())
        self.session = Session(self._model, approver=approver, budgets=_BUDGETS, **given)
        self._servers = servers
        self._start = start
        self._offer = offer
        self._gateways: dict[tuple[bool, ...], Gateway] = {}
        channel = None if abilities is None or not servers else self._channel(abilities)
        self.upstream = Upstream(self.session.resources, servers, channel)
        self._channel_of_code = channel
        if channel is not None and abilities is not None:
            self._gateways[abilities.key] = self._gateway(self.upstream, channel)

    def _channel(self, abilities: ClientAbilities) -> BackChannel:
        return BackChannel(
            abilities,
            allow=self._allow_model,
            start=self._start,
            kinds=self._offer.kinds,
            is_shared=self._is_shared and not abilities.speaks_handshake,
        )

    def _gateway(self, upstream: Upstream, channel: BackChannel) -> Gateway:
        return Gateway(self.session.resources, upstream, self.upstream, channel, taken=self._offer.own_tools)

    def gateway(self, abilities: ClientAbilities) -> Gateway:
        """Return what a client is offered of the servers behind. Those that differ in what they can be asked have
        connections of their own: a server is told that when it is opened."""
        self.last_used = anyio.current_time()
        found = self._gateways.get(abilities.key)
        if found is None:
            channel = self._channel(abilities)
            upstream = Upstream(self.session.resources, self._servers, channel, for_code=False)
            found = self._gateways[abilities.key] = self._gateway(upstream, channel)
        return found

    @property
    def has_servers(self) -> bool:
        """True if there are servers behind."""
        return bool(self._servers)

    async def _allow_model(self, server: str, request: Any, person: Person | None) -> str:
        """Return why the policy does not let a server ask the client's model, or an empty text."""
        policy = self.session.resources.policy
        if policy is None:
            return ""
        from agentd_mcp_bridge.sampling import NAME
        from agentd_tools.policy import PolicyRequest

        content = json.dumps(request.model_dump(by_alias=True, mode="json", exclude_none=True)).encode()
        asked = PolicyRequest(kind="tool", name=NAME, content=content, source=server, action_id="")
        if person is not None:
            asking_person.set(person)  # this is a task of its own
        decision = await policy.decide(asked)
        return "" if decision.allowed else f"asking a model was denied: {decision.reason}"

    def not_of_the_workspace(self) -> frozenset[str]:
        """Return what lies in the workspace and is agentd's, or stands there for the sandbox while it runs."""
        executor = self.session.executor
        standing = executor.snapshot_exclude if isinstance(executor, SnapshotExcluding) else ()
        return frozenset((".agentd", *standing))

    @property
    def is_busy(self) -> bool:
        """True while a request is served, or a client waits to hear of changes."""
        return self._busy.locked() or any(gateway.is_in_use for gateway in self._gateways.values())

    @property
    def is_at_work(self) -> bool:
        """True while a request is served, whoever reads its answer, or a job runs."""
        is_serving = self._busy.locked() or any(g.channel.is_working for g in self._gateways.values())
        jobs = getattr(self.session.executor, "jobs", ())  # not all executors tell
        return is_serving or (isinstance(jobs, Sequence) and len(jobs) > 0)

    @property
    def idle_since(self) -> float:
        """When it was used last, or its last client disconnected."""
        return max(self.last_used, self.last_attended)

    async def put_away(self, why: str) -> PutAway:
        """Return what is to be kept of it; it is closed next. Waits for a few seconds at most."""
        executor = self.session.executor
        shell: Mapping[str, object] | None = None
        try:
            with anyio.move_on_after(_SHELL_S):
                shell = await executor.shell_state() if isinstance(executor, ShellExecutor) else None
            if len(json.dumps(shell)) > _MOST_SHELL_BYTES:
                shell = None
        except Exception:  # the executor's: its client is told of a new shell
            _log.warning("the shell of a sandbox that is put away cannot be kept", exc_info=True)
        return PutAway(why, shell)

    async def open(self) -> None:
        """Open the session, and list the tools. Raises what `Session` raises."""
        await self.session.open()
        await self.upstream.connect()
        await self.session.prepare()
        if self._away is not None:
            self._note = self._away.note(has_shell=await self._has_shell_of(self._away))

    async def _has_shell_of(self, away: PutAway) -> bool:
        executor = self.session.executor
        if away.shell is None or not isinstance(executor, ShellExecutor):
            return False
        try:
            await executor.set_shell_state(away.shell)
        except AgentdError:
            _log.warning("a sandbox has not got its shell back", exc_info=True)
            return False
        return True

    def check(self) -> None:
        """Make what the session is made of, and start nothing. Raises what opening raises for wrong settings."""
        self.session.resources.check()
        for spec in self._tools:
            self.session.resources.registry().create_tool_sources(spec)

    async def run(self, header: str, code: str, person: Person) -> Done:
        """Run a block and return what it gave. Cancelling ends the block. Raises what `Session.run` raises."""
        async with self._at_work(person, runs_code=True) as at_work:
            self._model.give(as_block(header, code))
            done: CodeExecution | None = None
            end: RunEnd | None = None
            async for event in self.session.run(header):
                if isinstance(event, CodeOutput):
                    await person.heard(event.text)
                elif isinstance(event, CodeExecution):
                    done = event
                elif isinstance(event, RunEnd):
                    end = event
            told = "\n".join(self._model.results)
            pictures = tuple(self._model.pictures)
            notes = told.rpartition(_END)[2].strip() if _END in told else ""
            note = self._told(done)
            at_work.is_cut_off = done is None or done.status != "completed"
            await self._forget()
        if done is None:
            reason = end.error if end is not None and end.error else told or "the block did not run"
            return Done(told=reason, output=reason, status="failed", exit_code=1, wall_s=0.0, note=note)
        return Done(
            told="\n".join(
                filter(None, (note and f"[note: {note}]", done.output.rstrip("\n"), notes, _failure(done)))
            ),
            output=done.output,
            status=done.status,
            exit_code=done.exit_code,
            wall_s=done.wall_s,
            pictures=pictures,
            note=note,
        )

    def _told(self, done: CodeExecution | None) -> str:
        """Return what the client has to know: once, but where several share the sandbox, and nobody knows which of them
        has read it, it also explains what fails soon after."""
        note, is_first = self._note, self._untold
        self._untold = False
        self._to_explain -= 1
        if not self._has_several or self._to_explain <= 0:
            self._note = ""
        return note if is_first or done is None or done.status != "completed" else ""

    async def _forget(self) -> None:
        """Let go of what was said, which is the client's to keep: now and then, for all is prepared anew after it."""
        if len(self.session.transcript.messages) > _MOST_MESSAGES:
            await self.session.continue_from(Transcript())

    async def checkpoint(self, label: str | None, person: Person) -> Mapping[str, Any]:
        """Keep this moment; see `Session.checkpoint`."""
        async with self._at_work(person):
            kept = await self.session.checkpoint(label)
        return {"id": kept.id, "label": kept.label}

    async def rewind(self, wanted: str | None, person: Person) -> Mapping[str, Any]:
        """Go back to a checkpoint; see `Session.rewind`."""
        async with self._at_work(person):
            kept = await self.session.rewind(wanted)
            await self.session.continue_from(Transcript())
        return {"id": kept.id, "label": kept.label}

    def _at_work(self, person: Person, *, runs_code: bool = False) -> _AtWork:
        return _AtWork(self, person, runs_code=runs_code)

    async def _settle(self) -> None:
        """Wait until nothing more can come of calls of code that was cut off."""
        async with anyio.create_task_group() as group:
            for source in self.upstream.servers().values():
                group.start_soon(settled, source)

    async def _ask(self, question: Any) -> object:
        person = asking_person.get() or self._person
        return "deny" if person is None else await person.ask(question)

    async def aclose(self) -> None:
        """End the sandbox."""
        for gateway in self._gateways.values():
            gateway.close()
        try:
            await self.session.aclose()
        finally:
            await self.session.resources.aclose()  # the session has done so, if it was opened
            for gateway in self._gateways.values():
                await gateway.aclose()
            for upstream in (self.upstream, *(gateway.upstream for gateway in self._gateways.values())):
                await upstream.aclose()


class _AtWork:
    """Serves one request of a sandbox.

    :ivar is_cut_off: calls of the code may have been given up, so servers may still work on them.
    """

    def __init__(self, sandbox: ClientSandbox, person: Person, *, runs_code: bool) -> None:
        self._sandbox = sandbox
        self._person = person
        self._runs_code = runs_code
        self._leave = ExitStack()
        self._request: ClientRequest | None = None
        self.is_cut_off = True

    async def __aenter__(self) -> _AtWork:
        await self._sandbox._busy.acquire()
        self._sandbox._person = self._person
        channel = self._sandbox._channel_of_code
        if channel is not None and self._runs_code:
            working = channel.requests.working(
                self._person, what="a run of code", settle=self._sandbox._settle
            )
            self._request = self._leave.enter_context(working)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._request is not None:
            self._request.is_answered = not self.is_cut_off
        self._leave.close()
        self._sandbox._person = None
        self._sandbox.last_used = anyio.current_time()
        self._sandbox._busy.release()
