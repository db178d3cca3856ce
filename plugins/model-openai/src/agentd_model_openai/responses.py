"""A conversation over the responses API.

Wire format: OpenAI API reference, "Responses" (streamed: events from `response.created` to
`response.completed`, `response.incomplete` or `response.failed`). Every request sends the whole
conversation: the caller's input and `previous_response_id` as they were, then each round's output items and
the results: of blocks as a message of the user, of calls as `function_call_output` items.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

from agentd.errors import ConfigError, ModelError
from agentd.protocols import ModelEvent, ModelFinish, ModelText, ModelToolCall, ToolOffer, ToolResult
from agentd.text import valid_data, valid_text

from agentd_model_openai.apart import options_apart
from agentd_model_openai.chat_calls import text_of
from agentd_model_openai.client_model import ClientModel
from agentd_model_openai.failure import broken_stream, is_programming_error, refused, unfinished
from agentd_model_openai.held_form import is_refused, responses_format
from agentd_model_openai.pieces import TextJoiner
from agentd_model_openai.prices import Prices
from agentd_model_openai.reasoning import StreamedReasoning, items_reasoning
from agentd_model_openai.source import Source
from agentd_model_openai.tool_schema import with_items
from agentd_model_openai.usage import Told, responses_usage
from agentd_model_openai.whole_events import WholeEvents

__all__ = ["ResponsesModel"]

ENDS = ("response.completed", "response.incomplete")
CALLS = (
    "function_call",
    "custom_tool_call",
    "computer_call",
    "local_shell_call",
    "shell_call",
    "apply_patch_call",
)
"""Output items that need an output of the caller's; in a round with blocks they are not carried on."""


class ResponsesModel(ClientModel):
    """A `Model` that speaks the responses API through the `openai` SDK or anything with its methods.

    Parameters as for `ChatModel`; `input` is what stands before the first answer (a string or items;
    copied, never changed). With `store=False` in `options`, reasoning items are only passed back if they
    are encrypted.
    """

    def __init__(
        self,
        name: str,
        *,
        client: Any = None,
        create: Callable[..., Any] | None = None,
        input: str | Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
        streamed: bool = True,
        prices: Prices | None = None,
        is_async: bool | None = None,
        source: Source | None = None,
    ) -> None:
        if create is None and client is not None:
            create = client.responses.create
        source = source or Source(create, is_async=is_async)
        super().__init__(name, source, options=options, streamed=streamed, prices=prices)
        self._first: tuple[Any, ...] = (_said("user", input),) if isinstance(input, str) else tuple(input)
        self.input: list[Any] = list(self._first)
        self._given = dict(self._options)
        self._form: dict[str, Any] | None = None
        self._items: list[Any] = []
        self._whole_answer = False
        self._called: set[str] = set()
        self._kept_there = self._options.get("conversation") is not None

    # --- the conversation --------------------------------------------------------------------------

    def start(self, instructions: str) -> None:
        """Set the system prompt."""
        self._options["instructions"] = valid_text(instructions)

    def reset(self) -> None:
        """Forget what was said since the beginning, the instructions too.

        :raises ConfigError: if the provider keeps the conversation (`conversation` in the options).
        """
        if self._kept_there:
            raise ConfigError(
                "conversation: the provider keeps it, so it cannot go back; leave the option out"
            )
        self.retell(self._first)
        self._options = dict(self._given)

    def retell(self, items: Sequence[Any]) -> None:
        """Have these items in place of all that was said; the instructions stay."""
        self.input = list(items)
        self._bill.forget()
        self._items = []
        self._whole_answer = False
        self._called = set()

    def offer(self, tools: Sequence[ToolOffer]) -> None:
        """Send these tools with every request, as `ChatModel.offer` does."""
        self._offered = [valid_data(_tool(t)) for t in tools]

    def hold_to_schema(self, schema: Mapping[str, Any] | None) -> None:
        """See `agentd.protocols.SchemaModel`. A server that refuses it goes on without."""
        self._form = responses_format(schema)

    def add_task(self, text: str) -> None:
        """Append what the person says."""
        self.input.append(_said("user", text))

    def add_parts(self, parts: Sequence[dict[str, Any]]) -> None:
        """Append what the person says in parts, which have other names here."""
        self.input.append({"role": "user", "content": [responses_part(p) for p in parts]})

    def add_answer(self, text: str, calls: Sequence[ModelToolCall] = ()) -> None:
        """Append the last answer's items, its text cut to `text`, with those of its calls that are given."""
        ids = {c.id for c in calls}
        if self._kept_there:  # a `conversation` has all that was sent and all whole answers already
            self.input.clear()
            if self._whole_answer:
                self._items = []
                return
        if self._items and self._whole_answer:
            self.input += self._carried(text, ids)
        else:  # told of an older answer, or closed early: the provider may know nothing of these ids
            self.input += [_plain(i) for i in self._items if _encrypted(i)]
            if text or not calls:
                self.input.append(_said("assistant", text))
            self.input += [_call(c) for c in calls]
        self._items = []

    def add_results(self, text: str) -> None:
        """Append what the blocks gave, as a message of the user."""
        self.input.append(_said("user", text))

    def add_tool_results(self, results: Sequence[ToolResult]) -> None:
        """Append what the calls gave, an item each."""
        self.input += [
            {"type": "function_call_output", "call_id": r.call_id, "output": valid_text(r.output)}
            for r in results
        ]

    def _told(self) -> Told:
        return self.input, self._options.get("instructions"), self._offered

    def _carried(self, text: str, calls: set[str]) -> list[dict[str, Any]]:
        carried: list[dict[str, Any]] = []
        left = len(text)
        stored = self._options.get("store") is not False
        for item in self._items:
            if item.type in CALLS and getattr(item, "call_id", None) not in calls:
                continue
            if item.type == "reasoning" and not (stored or _encrypted(item)):
                continue
            plain = _plain(item)
            if item.type == "message" and not calls:
                left = _cut(plain, left)
            carried.append(plain)
            if left <= 0 and not calls:
                break
        return carried

    def apart(
        self, name: str = "", *, max_tokens: int | None = None, streamed: bool = True
    ) -> ResponsesModel:
        """Return another conversation over the same client, with this model or another one that it serves.

        :param max_tokens: how long its answers may be.
        :param streamed: False asks for whole answers.
        """
        source = self._source.twin(streamed=streamed)
        options = options_apart(self._given, source, api="responses", max_tokens=max_tokens)
        return ResponsesModel(
            name or self.name, source=source, options=options, prices=self._prices, streamed=streamed
        )

    # --- the requests --------------------------------------------------------------------------------

    def _request(self) -> dict[str, Any]:
        self._items = []
        self._called = set()
        self._whole_answer = False
        request = {**self._options, "model": self.name, "input": list(self.input)}
        if self._form:
            request["text"] = {**(self._options.get("text") or {}), "format": self._form}
        return self._with_tools(request)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Ask for the next answer; see `agentd.protocols.Model`."""
        opened = False
        try:
            if not self._streamed:
                response = await self._source.request(self._request())
                opened = True
                async with aclosing(self._whole(response)) as whole:
                    yield whole
                return
            async with self._source.stream(self._request()) as events:
                opened = True
                async with aclosing(self._events(events)) as read:
                    yield read
        except Exception as exc:
            if opened or is_programming_error(exc):
                raise
            if not self._form or not is_refused(exc):
                raise refused(self.name, exc) from exc
        else:
            return
        self._form = None
        async with self.stream() as again:
            yield again

    async def _whole(self, response: Any) -> AsyncGenerator[ModelEvent, None]:
        self._check(response)
        status = getattr(response, "status", None)
        if status not in (None, "completed", "incomplete"):  # some compatible servers leave it out
            raise unfinished(self.name, "status", empty=not response.output)
        self._items = list(response.output)
        self._whole_answer = True
        yield self._finish(response, response)  # first, as in ChatModel
        yield ModelText(valid_text(response.output_text), response, items_reasoning(self._items))
        for call in self._calls_in(self._items):
            yield call

    async def _events(self, events: AsyncIterator[Any]) -> AsyncGenerator[ModelEvent, None]:
        finish: ModelFinish | None = None
        empty = True
        joiner, whole, reasoning = TextJoiner(), WholeEvents(self.name), StreamedReasoning()
        try:
            async for raw in events:
                empty = False
                if raw.type == "response.output_text.delta":
                    raw.delta = joiner.feed(text_of(raw.delta))
                for event in whole.feed(raw):
                    kind = event.type
                    if kind == "response.output_text.delta":
                        yield ModelText(valid_text(event.delta), event)
                        continue
                    calls: list[ModelToolCall] = []
                    if kind == "response.output_item.done":
                        self._items.append(event.item)
                        calls = self._calls_in([event.item])
                    elif kind in ENDS:
                        self._items = list(event.response.output)
                        self._whole_answer = True
                        finish = self._finish(event.response, event)
                        break
                    elif kind == "response.failed":
                        self._check(event.response)
                    elif kind == "error":
                        raise ModelError(
                            f"model {self.name!r}: the provider failed: {event.message}; try again"
                        )
                    yield ModelText("", event, reasoning.feed(event))
                    for call in calls:
                        yield call
                if finish is not None:
                    break
        except ModelError:
            raise
        except Exception as exc:
            raise broken_stream(self.name, exc) from exc
        if finish is None:
            raise unfinished(self.name, "response.completed", empty=empty)
        for call in self._calls_in(self._items):  # of a server that sends items only with the end
            yield call
        yield finish

    def _calls_in(self, items: Sequence[Any]) -> list[ModelToolCall]:
        """Return the calls among these items, each once for an answer."""
        found = []
        for item in items:
            if item.type in CALLS and (id := str(getattr(item, "call_id", None) or "")) not in self._called:
                self._called.add(id)
                found.append(_found_call(item, id))
        return found

    def _check(self, response: Any) -> None:
        if getattr(response, "status", None) == "failed":
            error = getattr(response, "error", None)
            why = getattr(error, "message", None) or "no reason given"
            raise ModelError(f"model {self.name!r}: the provider failed: {why}; try again")

    def _finish(self, response: Any, raw: Any) -> ModelFinish:
        details = getattr(response, "incomplete_details", None)
        reason = getattr(details, "reason", None) or "stop"
        usage = self._bill.of(responses_usage(getattr(response, "usage", None)), self._told())
        limit = self._options.get("max_output_tokens")
        if reason == "stop" and limit and usage.output_tokens >= limit:
            reason = "max_output_tokens"  # of servers that call a cut answer `completed`
        refusal = _refusal(self._items)
        return ModelFinish(
            reason="refusal" if refusal else reason,
            detail=f"the model refuses: {refusal}" if refusal else "",
            other=any(i.type not in ("message", "reasoning", *CALLS) for i in self._items),
            usage=usage,
            raw=raw,
        )


def _refusal(items: Sequence[Any]) -> str:
    """Return what an answer says in place of a text, if it refuses."""
    parts = [p for i in items if i.type == "message" for p in getattr(i, "content", None) or ()]
    if any(getattr(p, "text", None) for p in parts):
        return ""
    return "".join(getattr(p, "refusal", None) or "" for p in parts)


def _tool(offer: ToolOffer) -> dict[str, Any]:
    return {
        "type": "function",
        "name": offer.name,
        "description": offer.description,
        "parameters": with_items(offer.parameters),
        "strict": offer.strict,  # always: the API takes strict for granted
    }


def _found_call(item: Any, id: str) -> ModelToolCall:
    named = item.type in ("function_call", "custom_tool_call")
    arguments = item.arguments if item.type == "function_call" else getattr(item, "input", "")
    return ModelToolCall(
        id=id,
        name=valid_text(item.name) if named else "",
        arguments=valid_text(str(arguments or "")) if named else "",
        raw=item,
    )


def _call(call: ModelToolCall) -> dict[str, Any]:
    """Return a call as an input item that names no item of the provider's."""
    if getattr(call.raw, "type", "function_call") != "function_call":
        return {k: v for k, v in _plain(call.raw).items() if k != "id"}
    return {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": valid_text(text)}


def responses_part(part: dict[str, Any]) -> dict[str, Any]:
    """Return a part of a message of chat completions as the responses API has it."""
    kind = part["type"]
    if kind == "image_url":
        image = part["image_url"] if isinstance(part["image_url"], dict) else {"url": part["image_url"]}
        return {"type": "input_image", "image_url": image.get("url"), "detail": image.get("detail", "auto")}
    return (
        {"type": "input_file", **part["file"]}
        if kind == "file"
        else {"type": "input_text", "text": part["text"]}
    )


def _encrypted(item: Any) -> bool:
    return item.type == "reasoning" and bool(getattr(item, "encrypted_content", None))


def _plain(item: Any) -> dict[str, Any]:
    """Return an output item as input: plain data, without what is null (the API refuses `status: null`)."""
    data = item.to_dict() if hasattr(item, "to_dict") else dict(item)
    return {k: valid_data(v) for k, v in data.items() if v is not None}


def _cut(message: dict[str, Any], left: int) -> int:
    """Shorten a message item to `left` characters of text and return how many more may follow."""
    kept = []
    for part in message.get("content", []):
        if part.get("type") == "output_text":
            if left <= 0:
                break
            text = part["text"]
            if len(text) > left:
                part = {**part, "text": text[:left], "annotations": []}
                part.pop("logprobs", None)
            left -= len(text)
        kept.append(part)
    message["content"] = kept
    return left
