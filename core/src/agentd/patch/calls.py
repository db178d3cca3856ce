"""One call of a patched method: from the caller's arguments to the SDK's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from agentd.channel import Channel, ThreadChannel
from agentd.errors import ConfigError
from agentd.eventloop import loop_caller
from agentd.events import RunEnd
from agentd.loop import TurnLoop
from agentd.models import ChatModel, ResponsesModel
from agentd.models.routing import needs_litellm, require_litellm
from agentd.patch import chat_request, responses_request
from agentd.patch.chat_stream import ChatStreamer
from agentd.patch.collector import Collector
from agentd.patch.record import both, make_record
from agentd.patch.responses_stream import ResponsesStreamer
from agentd.patch.state import Holder, PatchState, SyncTask
from agentd.patch.streams import AgentAsyncStream, AgentStream, AsyncTask
from agentd.prompt import instructions
from agentd.transcript import Transcript

__all__ = ["Call"]


@attrs.define(eq=False)
class Call:
    """What a call needs: the shared state, the SDK's own method, and the arguments.

    :param api: `chat` or `responses`.
    :param original: the SDK's bound method.
    :param is_async: whether that method returns an awaitable.
    :param arguments: what the caller passed for the SDK.
    """

    holder: Holder
    api: str
    original: Callable[..., Any]
    is_async: bool
    base_url: str
    arguments: dict[str, Any]
    mcp_servers: Sequence[object] = ()
    transcript: Transcript = attrs.field(factory=Transcript)
    model: Any = None
    begin: int = 0

    @property
    def state(self) -> PatchState:
        return self.holder.state

    # --- the four ways of calling ----------------------------------------------------------------------

    def sync_whole(self) -> Any:
        """Return the last round's object, from a plain thread."""
        task = SyncTask(self.state.portal(), self._whole)
        self.state.tasks.add(task)
        try:
            return task.result()
        except Exception as exc:
            raise self._told(exc) from exc.__cause__

    async def async_whole(self) -> Any:
        """The same on the caller's event loop."""
        try:
            return await self._whole()
        except Exception as exc:
            raise self._told(exc) from exc.__cause__

    def sync_stream(self) -> AgentStream:
        """Return the stream, once the provider has accepted the first request."""
        channel: ThreadChannel[Any] = ThreadChannel()
        task = SyncTask(self.state.portal(), lambda: self._into(channel))
        self.state.tasks.add(task)
        stream = AgentStream(channel, task, _ModelView(self))
        stream.wait_until_open()
        return stream

    async def async_stream(self) -> AgentAsyncStream:
        """The same on the caller's event loop, which must be asyncio's."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigError(
                "stream=True with AsyncOpenAI needs asyncio; on trio use agentd.Session, which serves both"
            ) from None
        channel: Channel[Any] = Channel()
        task = AsyncTask(asyncio.create_task(self._into(channel)))
        self.state.tasks.add(task)
        stream = AgentAsyncStream(channel, task, _ModelView(self))
        await stream.wait_until_open()
        return stream

    # --- the run -----------------------------------------------------------------------------------------

    async def _whole(self) -> Any:
        answer = _LastAnswer(self.state.sinks())
        end = await self._run(answer, streamed=False)
        return self._finished(answer.raw, end)

    async def _into(self, channel: Channel[Any] | ThreadChannel[Any]) -> None:
        """Run, and put what the caller is to see into the channel. Errors go there, not out."""
        error: BaseException | None = None
        try:
            if isinstance(channel, ThreadChannel):
                channel.call = loop_caller()
            listener = self._streamer(channel)
            listener.is_full = channel.is_full  # type: ignore[method-assign]
            listener.flow = channel.flow  # type: ignore[method-assign]
            await self._run(listener, streamed=True, channel=channel)
        except Exception as exc:
            error = self._told(exc)
        finally:
            channel.close(error)

    def _streamer(self, channel: Channel[Any] | ThreadChannel[Any]) -> ChatStreamer | ResponsesStreamer:
        sinks = self.state.sinks()
        if self.api == "responses":
            return ResponsesStreamer(sinks, channel.put)
        asked = self.arguments.get("stream_options") or {}
        return ChatStreamer(sinks, channel.put, wants_usage=bool(asked.get("include_usage")))

    async def _run(
        self, listener: Collector, *, streamed: bool, channel: Channel[Any] | ThreadChannel[Any] | None = None
    ) -> RunEnd:
        state = self.state
        bench = state.workbench
        skills = await bench.prepare(self.mcp_servers)
        self.model = self._open_model(
            instructions(skills=skills, python_state=bench.python_state), streamed=streamed
        )
        self.begin = len(self._messages())
        run, ids = bench.new_run()
        loop = TurnLoop(
            model=self.model,
            executor=bench.executor,
            parsers=state.factories(),
            transcript=self.transcript,
            budgets=state.budgets,
            listener=listener,
            ids=ids,
        )
        if channel is not None:
            channel.on_room = loop.resume
        bench.watch(run, loop_caller(), loop.tool_called)
        try:
            return await loop.run()
        finally:
            bench.unwatch(run)

    def _open_model(self, prompt: str, *, streamed: bool) -> ChatModel | ResponsesModel:
        arguments = dict(self.arguments)
        name = arguments.pop("model")
        create, is_async = self._served_by(name)
        if self.api == "responses":
            given = arguments.pop("input", None)
            if not isinstance(given, str):
                given = responses_request.own_items_as_text(list(given or ()))
            arguments["instructions"] = responses_request.with_instructions(
                arguments.get("instructions"), prompt
            )
            return ResponsesModel(
                name,
                create=create,
                input=given,
                options=arguments,
                streamed=streamed,
                is_async=is_async,
            )
        chat_request.check(arguments)
        messages = chat_request.with_instructions(arguments.pop("messages"), prompt)
        return ChatModel(
            name,
            create=create,
            messages=messages,
            options=arguments,
            streamed=streamed,
            is_async=is_async,
        )

    def _served_by(self, name: str) -> tuple[Callable[..., Any], bool]:
        """Return the method that serves the model, and whether it is async."""
        if not needs_litellm(name, self.base_url):
            return self.original, self.is_async
        require_litellm(name)
        from agentd.models.litellm import create_chat, create_response

        return (create_response if self.api == "responses" else create_chat), False

    # --- what comes back -----------------------------------------------------------------------------------

    def _messages(self) -> list[Any]:
        found: list[Any] = self.model.input if self.api == "responses" else self.model.messages
        return found

    def _record(self, **more: Any) -> dict[str, Any]:
        added = self._messages()[self.begin :] if self.model is not None else []
        return make_record(self.transcript, added, **more)

    def _told(self, exc: Exception) -> Exception:
        """Return the error for the caller, with what was done before it in its attribute `agentd`."""
        error = both(exc)
        error.agentd = self._record()  # type: ignore[attr-defined]
        return error

    def _finished(self, raw: Any, end: RunEnd) -> Any:
        """Make the last round's object the answer of the whole run."""
        answered = end.stop_reason == "answer"
        if self.api == "responses":
            done = [responses_request.executed_item(e) for e in self.transcript.executions]
            raw.output = [*done, *raw.output]
            raw.usage = responses_request.add_usage(end.usage)
            if not answered:
                raw.status = "incomplete"
        else:
            raw.usage = chat_request.add_usage(end.usage)
            if not answered:
                raw.choices[0].finish_reason = "length"
        raw.agentd = self._record(stop_reason=end.stop_reason, turns=end.turns)
        return raw


class _LastAnswer(Collector):
    """Keeps the object of the last answer beside what a collector does."""

    raw: Any = None

    def model_event(self, event: Any) -> None:
        if event.raw is not None:
            self.raw = event.raw


class _ModelView:
    """The HTTP response of a call's stream, without keeping the stream from being dropped."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @property
    def response(self) -> Any:
        return getattr(self._call.model, "response", None)
