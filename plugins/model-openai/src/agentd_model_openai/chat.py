"""A conversation over chat completions.

Wire format: OpenAI API reference, "Chat Completions" (streamed: `chat.completion.chunk` objects; the last
one with a choice has a `finish_reason`, and with `stream_options.include_usage` one without choices
follows).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from agentd.protocols import ModelEvent, ModelText, ModelToolCall, ToolOffer, ToolResult
from agentd.text import valid_data, valid_text

from agentd_model_openai.apart import options_apart
from agentd_model_openai.chat_calls import CallCollector, as_call, as_tool, text_of
from agentd_model_openai.chat_end import AnswerEnd
from agentd_model_openai.client_model import ClientModel
from agentd_model_openai.failure import broken_stream, is_programming_error, refused, unfinished
from agentd_model_openai.held_form import chat_format, is_refused
from agentd_model_openai.pieces import TextJoiner
from agentd_model_openai.prices import Prices
from agentd_model_openai.reasoning import chat_reasoning, is_text_alone
from agentd_model_openai.source import Source
from agentd_model_openai.usage import Told, chat_usage

__all__ = ["ChatModel"]


class ChatModel(ClientModel):
    """A `Model` that speaks chat completions through the `openai` SDK or anything with its methods.

    :param name: the model's name for the provider.
    :param client: an `OpenAI` or `AsyncOpenAI`; or give `create`, a method like its
        `chat.completions.create`.
    :param messages: what stands before the first answer; copied, never changed.
    :param options: further arguments of every request (`temperature`, `response_format`, `timeout`, ...).
    :param streamed: False asks for whole answers; then an answer is one `ModelText` with the SDK's object.
    :param prices: see `agentd_model_openai.prices`; without a price the cost stays unknown.
    """

    def __init__(
        self,
        name: str,
        *,
        client: Any = None,
        create: Callable[..., Any] | None = None,
        messages: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
        streamed: bool = True,
        prices: Prices | None = None,
        is_async: bool | None = None,
        source: Source | None = None,
    ) -> None:
        if create is None and client is not None:
            create = client.chat.completions.create
        source = source or Source(create, is_async=is_async)
        super().__init__(name, source, options=options, streamed=streamed, prices=prices)
        self._first = tuple(messages)
        self.messages: list[Any] = list(messages)
        self._asks_usage = True
        self._extras: dict[str, Any] = {}
        self._form: dict[str, Any] = {}

    # --- the conversation --------------------------------------------------------------------------

    def start(self, instructions: str) -> None:
        """Set the system prompt."""
        self._say("system", instructions)

    def reset(self) -> None:
        """Forget what was said since the beginning, the system prompt too."""
        self.retell(self._first)

    def retell(self, messages: Sequence[Any]) -> None:
        """Have these messages in place of all that was said."""
        self.messages = list(messages)
        self._bill.forget()

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Send these tools with every request, behind those in the options.

        A `tool_choice` of the options that forces a call holds for the first request only: the conversation
        would never end.
        """
        self._offered = [valid_data(as_tool(t)) for t in tools]

    def hold_to_schema(self, schema: Mapping[str, Any] | None) -> None:
        """See `agentd.protocols.SchemaModel`. A server that refuses it goes on without."""
        self._form = chat_format(schema)

    def add_task(self, text: str) -> None:
        """Append what the person says."""
        self._say("user", text)

    def _say(self, role: str, text: str) -> None:
        self.messages.append({"role": role, "content": valid_text(text)})

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        """Append what the person says in parts."""
        self.messages.append({"role": "user", "content": list(parts)})

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        """Append what the model said, with the calls that it made."""
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["content"] = text or None
            message |= self._extras
            message["tool_calls"] = [as_call(c) for c in calls]
        self.messages.append(valid_data(message))

    def add_results(self, text: str) -> None:
        """Append what the blocks gave, as a message of the user."""
        self._say("user", text)

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave, a message each."""
        self.messages += [
            {"role": "tool", "tool_call_id": r.call_id, "content": valid_text(r.output) or "(empty)"}
            for r in results
        ]

    def _told(self) -> Told:
        return self.messages, self._offered

    def apart(self, name: str = "", *, max_tokens: int | None = None, streamed: bool = True) -> ChatModel:
        """Return another conversation over the same client, with this model or another one that it serves.

        :param max_tokens: how long its answers may be.
        :param streamed: False asks for whole answers.
        """
        source = self._source.twin(streamed=streamed)
        options = options_apart(self._options, source, api="chat", max_tokens=max_tokens)
        return ChatModel(
            name or self.name, source=source, options=options, prices=self._prices, streamed=streamed
        )

    # --- the requests --------------------------------------------------------------------------------

    def _request(self) -> dict[str, Any]:
        request = {**self._options, **self._form, "model": self.name, "messages": list(self.messages)}
        self._extras = {}
        if self._streamed and self._asks_usage:
            request["stream_options"] = {**(request.get("stream_options") or {}), "include_usage": True}
        return self._with_tools(request)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; see `agentd.protocols.Model`."""
        if not self._streamed:
            async with aclosing(self._whole(await self._asked())) as events:
                yield events
            return
        opened = False
        try:
            async with self._source.stream(self._request()) as chunks:
                opened = True
                async with aclosing(self._events(chunks)) as events:
                    yield events
        except Exception as exc:
            if opened or is_programming_error(exc):
                raise
            if not self._goes_without(exc):
                raise refused(self.name, exc) from exc
        else:
            return
        async with self.stream() as again:
            yield again

    def _goes_without(self, exc: Exception) -> bool:
        """Tell whether a server said that it does not know `stream_options`, or the answer's form; then it is left out
        from now on."""
        if self._form and is_refused(exc):
            self._form = {}
            return True
        asked = self._streamed and self._asks_usage and "stream_options" not in self._options
        if asked and getattr(exc, "status_code", None) in (400, 422) and "stream_options" in str(exc):
            self._asks_usage = False
            return True
        return False

    async def _asked(self) -> Any:
        while True:
            try:
                return await self._source.request(self._request())
            except Exception as exc:
                if is_programming_error(exc):
                    raise
                if not self._goes_without(exc):
                    raise refused(self.name, exc) from exc

    async def _whole(self, completion: Any) -> AsyncGenerator[ModelEvent, None]:
        choices = getattr(completion, "choices", None)
        if not choices or not choices[0].finish_reason:
            raise unfinished(self.name, "finish_reason", empty=not choices)
        # The finish comes first: a reader that stops at prose behind a block has the usage then.
        usage = self._bill.of(chat_usage(completion.usage), self._told())
        message = choices[0].message
        end = AnswerEnd()
        end.see(message, choices[0].finish_reason)
        yield end.finish(usage, completion)
        reasoning = valid_text(chat_reasoning(message))
        try:
            text = valid_text(_text_in(message))
        except ValueError as exc:
            raise broken_stream(self.name, exc) from exc
        message.content = text or None
        yield ModelText(text, completion, reasoning)
        collector = CallCollector()
        for call in collector.whole(message):
            yield call
        self._extras = collector.extras

    async def _events(self, chunks: AsyncIterator[Any]) -> AsyncGenerator[ModelEvent, None]:
        end = AnswerEnd()
        usage = None
        empty = True
        collector = CallCollector()
        joiner, thoughts = TextJoiner(), TextJoiner()
        try:
            async for chunk in chunks:
                empty = False
                if getattr(chunk, "usage", None) is not None:
                    usage = chunk.usage
                text = reasoning = ""
                calls: Sequence[ModelToolCall] = ()
                if chunk.choices:
                    choice = chunk.choices[0]
                    delta = choice.delta
                    if is_plain := is_text_alone(delta):
                        end.see_text(delta.content, choice.finish_reason)
                    else:
                        end.see(delta, choice.finish_reason)
                    if delta:
                        reasoning = "" if is_plain else thoughts.feed(chat_reasoning(delta))
                        text = joiner.feed(_text_in(delta))
                        if choice.finish_reason:
                            text += joiner.close()
                        if text != (delta.content or ""):
                            delta.content = text
                        calls = () if is_plain else collector.feed(delta)
                    if choice.finish_reason:
                        calls = [*calls, *collector.close()]
                        self._extras = collector.extras
                yield ModelText(text, chunk, reasoning)
                for call in calls:
                    yield call
        except Exception as exc:
            raise broken_stream(self.name, exc) from exc
        if not end.reason:
            raise unfinished(self.name, "finish_reason", empty=empty)
        yield end.finish(self._bill.of(chat_usage(usage), self._told()))


def _text_in(message: Any) -> str:
    """Return the text of a message or delta, which has its content as text from then on."""
    content = message.content
    text = text_of(content)
    if content is not None and not isinstance(content, str):
        message.content = text
    return text
