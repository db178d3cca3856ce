"""One call of a patched method: from the caller's arguments to the SDK's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any, Final

import anyio
import attrs
from agentd._concurrency.channel import Channel
from agentd.errors import ConfigError, ModelError
from agentd.events import RunEnd
from agentd.protocols import Model, Offers
from agentd.turn.transcript import Transcript
from agentd_model_openai import ChatModel, ResponsesModel
from agentd_model_openai.retry import Repeatable, Retries, client_count
from agentd_model_openai.strict_schema import OpenAIStrictSchemas

from agentd_openai import chat_request, responses_request
from agentd_openai.answer_form import RequestedForm, requested_form
from agentd_openai.bounded import BoundedModel
from agentd_openai.chat_stream import ChatStreamer
from agentd_openai.collector import Collector
from agentd_openai.native_items import RESULTS
from agentd_openai.pictured import PicturedModel
from agentd_openai.provided import ProvidedModel, provided_model
from agentd_openai.record import both, ended_early, make_record, out_of_time
from agentd_openai.responses_stream import ResponsesStreamer
from agentd_openai.state import Holder, Mode, PatchState, SyncTask
from agentd_openai.streams import AgentAsyncStream, AgentStream, AsyncTask
from agentd_openai.whole import WholeAnswer

__all__ = ["PatchedCall"]

OVER_BUDGET: Final = "its first request would cost more than is left of max_cost_usd"
OF_THE_CONVERSATION: Final = frozenset(
    (
        *(
            "messages",
            "input",
            "instructions",
            "prompt",
            "previous_response_id",
            "conversation",
            "background",
        ),
        *("tools", "tool_choice", "parallel_tool_calls", "max_tool_calls", "functions", "function_call"),
        *(
            "response_format",
            "text",
            "text_format",
            "prediction",
            "audio",
            "modalities",
            "stop",
            "n",
            "include",
        ),
        *(
            "max_tokens",
            "max_completion_tokens",
            "max_output_tokens",
            "logit_bias",
            "logprobs",
            "top_logprobs",
        ),
        *("stream_options", "truncation", "prompt_cache_key"),
    )
)
"""Arguments of a call that are not meant for a request of another kind: a summary's."""


@attrs.define(eq=False)
class PatchedCall:
    """What a call needs: the shared state, the SDK's own method, and the arguments.

    :param api: `chat` or `responses`.
    :param original: the SDK's bound method.
    :param is_async: whether that method returns an awaitable.
    :param arguments: what the caller passed for the SDK.
    """

    holder: Holder
    mode: Mode
    api: str
    original: Callable[..., Any]
    is_async: bool
    base_url: str
    arguments: dict[str, Any]
    mcp_servers: Sequence[object] = ()
    mcp_strict: bool = False
    form_type: Any = None  # what the caller reads the last answer as
    form: RequestedForm | None = None
    transcript: Transcript = attrs.field(factory=Transcript)
    model: Any = None
    offers: Offers = attrs.field(init=False)
    begin: int = 0
    last_begin: int = 0  # where what the last round has added begins
    _end: int = 0

    @property
    def state(self) -> PatchState:
        return self.holder.state

    @property
    def _name(self) -> str:
        return str(self.arguments.get("model"))

    # --- the four ways of calling ----------------------------------------------------------------------

    def sync_whole(self) -> Any:
        """Return the last round's object, from a plain thread."""
        task = SyncTask(self.state.portal(), self._whole)
        self.state.tasks.add(task)
        try:
            return task.result()
        except CancelledError:  # of the run, and not by Ctrl-C
            ended = self._told(ended_early(self._name, self.base_url))
            raise ended from ended.__cause__
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
        channel: Channel[Any] = Channel()
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
        answer = WholeAnswer(self.mode.sinks(), self)
        end = await self._run(answer, streamed=False)
        raw = answer.finished(end)
        raw.agentd = self.record(
            stop_reason=end.stop_reason,
            turns=end.turns,
            cost_usd=end.usage.cost_usd,
            unpriced_requests=end.usage.unpriced_requests,
        )
        self._keep_pending(raw)
        return raw

    async def _into(self, channel: Channel[Any]) -> None:
        """Run, and put what the caller is to see into the channel. Errors go there, not out."""
        error: BaseException | None = None
        try:
            listener = self._streamer(channel)
            listener.is_full = channel.is_full  # type: ignore[method-assign]
            listener.flow = channel.flow  # type: ignore[method-assign]
            await self._run(listener, streamed=True, channel=channel)
            self._keep_pending(getattr(listener, "response", None))
            if isinstance(listener, ResponsesStreamer) and listener.response is not None:
                self.state.keep_end(listener.id, listener.response.id)
        except Exception as exc:
            error = self._told(exc)
        except BaseException:  # cancelled; a reader who has left reads no more
            error = self._told(ended_early(self._name, self.base_url))
            raise
        finally:
            channel.close(error)

    def _streamer(self, channel: Channel[Any]) -> ChatStreamer | ResponsesStreamer:
        sinks = self.mode.sinks()
        if self.api == "responses":
            return ResponsesStreamer(sinks, channel.put, call=self)
        asked = self.arguments.get("stream_options") or {}
        return ChatStreamer(sinks, channel.put, wants_usage=bool(asked.get("include_usage")), call=self)

    async def _run(
        self, listener: Collector, *, streamed: bool, channel: Channel[Any] | None = None
    ) -> RunEnd:
        prepared = await self.mode.acting.prepare(
            mcp_servers=self.mcp_servers,
            taken=chat_request.tool_names(self.arguments.get("tools")),
            strict=OpenAIStrictSchemas() if self.mcp_strict else None,
        )
        assert prepared.offers is not None
        self.offers = prepared.offers
        arguments = dict(self.arguments)
        instructions = prepared.instructions
        if prepared.notations:  # a model that calls tools natively can be held to JSON all the time
            self.form = requested_form(self.api, arguments, self.form_type)
        if self.form is not None:
            instructions = f"{instructions}\n\n{self.form.form.instructions}"
        self.model = self._open_model(arguments, instructions, streamed=streamed)
        self.model.offer(self.offers.offered)
        self.begin = self.last_begin = self._end = len(self.messages())
        listener.on_turn_over = self._turn_over
        try:
            end = await self.mode.acting.run(
                prepared,
                self.model,
                transcript=self.transcript,
                listener=listener,
                channel=channel,
                review=self._review,
            )
        finally:
            if isinstance(self.model, ProvidedModel | PicturedModel | BoundedModel):
                with anyio.CancelScope(shield=True):
                    await self.model.aclose()
        if end.turns == 0:  # there is nothing that could come back
            raise ModelError(f"model {self.model.name!r}: not asked: {OVER_BUDGET}")
        if not listener.has_answer:
            raise out_of_time(self._name, self.base_url, self.mode.acting.budgets.wall_time_s)
        return end

    def _review(self, text: str) -> str:
        """Return what the model is told about a last answer that does not have its form. From then on, the provider
        holds the model to it."""
        told = "" if self.form is None else self.form.form.review(text)
        if told and self.form is not None:
            self.model.hold_to(self.form.arguments)
        return told

    def _open_model(
        self, arguments: dict[str, Any], prompt: str, *, streamed: bool
    ) -> ChatModel | ResponsesModel | ProvidedModel | PicturedModel | BoundedModel:
        given: Any
        first = 0
        if self.api == "responses":
            arguments = self.state.goes_on_from(responses_request.without_ours(arguments))
            given = self._input(arguments.pop("input", None))
            if prompt:
                own = arguments.get("instructions")
                arguments["instructions"] = responses_request.with_instructions(own, prompt)
        else:
            chat_request.check(arguments, self.mode.acting.mode)
            given = chat_request.restored(arguments.pop("messages"))
            if prompt:
                given = chat_request.with_instructions(whole := given, prompt)
                first = len(whole) - len(given)  # a system message of ours stands before the caller's
        opened = self._open(arguments, given, streamed=streamed, first=first)
        is_kept_there = arguments.get("conversation") is not None
        pictures = self.state.resources.pictures
        model = (
            opened
            if pictures is None
            else PicturedModel(opened, self.api, pictures, where=self.base_url, is_kept_there=is_kept_there)
        )
        if self.mode.history is None or is_kept_there:
            return model
        return BoundedModel(
            model,
            self.api,
            self.mode.history,
            open_model=self._open_summariser,
            summaries=self.state.summaries,
        )

    def _open_summariser(self) -> Model:
        """Return a new model like the call's, without the form of its answer and the caller's tools."""
        arguments = {k: v for k, v in self.arguments.items() if k not in OF_THE_CONVERSATION}
        return self._open(arguments, [], streamed=False)

    def _open(
        self, arguments: dict[str, Any], given: Any, *, streamed: bool, first: int = 0
    ) -> ChatModel | ResponsesModel | ProvidedModel:
        arguments = dict(arguments)
        name = arguments.pop("model")
        service = self.state.service(name, self.base_url, self.api, arguments, self.mode.prices)
        if service is not None and service.model is not None:
            return provided_model(service.model, self.api, arguments, given, streamed=streamed, first=first)
        create, is_async = self.original, self.is_async
        if service is not None and service.create is not None:
            create, is_async = Repeatable(service.create, Retries(count=client_count(self.original))), False
        more: dict[str, Any] = {"options": arguments, "streamed": streamed, "is_async": is_async}
        more["prices"] = self.mode.prices
        if self.api == "responses":
            responses_request.check(arguments, streamed=streamed)
            return ResponsesModel(name, create=create, input=given, **more)
        return ChatModel(name, create=create, messages=given, **more)

    def _input(self, given: Any) -> Any:
        """Return the input of the responses API, behind outputs that the provider lacks."""
        if not isinstance(given, str):
            given = responses_request.own_items_as_text(list(given or ()))
        if pending := self.state.pending(self._goes_on_from()):
            return [*pending, *([{"role": "user", "content": given}] if isinstance(given, str) else given)]
        return given

    # --- what comes back -----------------------------------------------------------------------------------

    def messages(self) -> list[Any]:
        """Return the conversation as it would be sent now."""
        found: list[Any] = self.model.input if self.api == "responses" else self.model.messages
        return found

    def added(self) -> list[Any]:
        """Return what the run has added to the conversation."""
        return self.messages()[self.begin :] if self.model is not None else []

    @property
    def holds_text(self) -> bool:
        """Whether only the last answer's text is for the caller."""
        return self.form is not None

    def wants_results(self) -> bool:
        """Tell whether the caller has asked for the tools' results in a stream of the responses API."""
        return RESULTS in (self.arguments.get("include") or ())

    def _turn_over(self) -> None:
        self.last_begin, self._end = self._end, len(self.messages())

    def record(self, **more: Any) -> dict[str, Any]:
        """Return the extra field `agentd` of an answer."""
        return make_record(self.transcript, self.added(), **more)

    def _told(self, exc: Exception) -> Exception:
        """Return the error for the caller, with what was done before it in its attribute `agentd`."""
        error = both(exc)
        error.agentd = self.record()  # type: ignore[attr-defined]
        return error

    # --- calls of ours in an answer that the provider keeps ---------------------------------------------------

    def _goes_on_from(self) -> str:
        """Return the response or conversation that the provider is to go on from, or an empty string."""
        conversation = self.arguments.get("conversation")
        if isinstance(conversation, dict):
            conversation = conversation.get("id")
        arguments = self.state.goes_on_from(self.arguments)
        return str(conversation or arguments.get("previous_response_id") or "")

    def _keep_pending(self, response: Any) -> None:
        """If the last answer has calls of ours, keep their outputs: who goes on from that response by its id does
        not send them, and the provider insists on them."""
        if self.api != "responses" or response is None:
            return
        conversation = self.arguments.get("conversation")
        said = self.messages() if conversation else self.messages()[self.last_begin :]
        outputs = [i for i in said if isinstance(i, dict) and i.get("type") == "function_call_output"]
        if outputs or conversation:
            self.state.keep_pending(self._goes_on_from() if conversation else str(response.id), outputs)


class _ModelView:
    """The HTTP response of a call's stream, without keeping the stream from being dropped."""

    def __init__(self, call: PatchedCall) -> None:
        self._call = call

    @property
    def response(self) -> Any:
        return getattr(self._call.model, "response", None)
