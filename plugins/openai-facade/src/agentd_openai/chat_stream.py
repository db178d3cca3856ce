"""Chat completions, streamed: several rounds of chunks become one coherent stream.

All chunks carry one id; the role stands in the first one, and one finish reason in the last. The model's
text comes as it is written, fences included, so that whoever joins the deltas has the whole answer. What
agentd adds is an extra field `agentd` of a chunk, a list of events (`agentd.events`, as dicts):

- a chunk without it has text that is prose, or reasoning in the provider's own field, and nothing else happened;
- a chunk with it has text that is (also) code: the list holds the prose, if there is some, as `text_delta`;
- a chunk with an empty delta carries what happened beside the text: `code_start`, `code_output`, ...

Text behind a block is held back until another block follows, and dropped with the rest of that answer if
prose follows.

Where the caller reads the answer as JSON (`response_format`), only the last answer's text is sent, when it is known to
be the last; what was said before it is in the field `agentd`.

Native calls of our tools are left out; those of the caller's own pass, numbered from 0. If there were calls of
ours, the delta of the last chunk has a field `agentd` with all messages of the exchange: whoever puts the
message together with the SDK's helper and sends it back sends them with it (see `chat_request.restored`).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from agentd.events import Event, ReasoningDelta, RunEnd, RunStart, TextDelta, as_dict
from agentd.protocols import ModelEvent, ModelFinish, ModelToolCall
from agentd_model_openai.reasoning import chat_reasoning

from agentd_openai.chat_request import add_usage, finish_reason
from agentd_openai.collector import Collector

if TYPE_CHECKING:
    from agentd.turn.observer import SinkGroup

    from agentd_openai.collector import RunningCall

__all__ = ["ChatStreamer"]


class ChatStreamer(Collector):
    """Makes the one stream.

    :param out: takes the chunks.
    :param wants_usage: whether the caller asked for the usage chunk.
    """

    def __init__(
        self, sinks: SinkGroup, out: Callable[[Any], None], *, wants_usage: bool, call: RunningCall
    ) -> None:
        super().__init__(sinks)
        self._call = call
        self._has_role = False
        self._has_calls = False  # of ours, in any round
        self._said = False  # some text was sent
        from openai.types.chat import ChatCompletionChunk

        self._chunk_type = ChatCompletionChunk
        self._out = out
        self._wants_usage = wants_usage
        self._base: dict[str, Any] = {}
        self._reason = "stop"
        self._round = 0
        self._begin_round()

    def _begin_round(self) -> None:
        self._round += 1
        self._held: deque[tuple[Any, int, int]] = deque()  # chunk, start and end of its text in this answer
        self._length = 0
        self._certain = 0
        self._has_blocks = False
        self._prose: list[dict[str, Any]] = []
        self._in_chunk = ""  # reasoning that whoever shows the stream reads in the chunk itself
        self._fresh = self._round > 1 and self._said  # no text of this round sent yet
        self._numbers: list[int | None] = []  # our numbers of the caller's calls, None for ours
        self._callers: dict[int | None, int | None] = {}  # the same by the provider's number of the last one

    @property
    def has_answer(self) -> bool:
        """See `Collector`."""
        return bool(self._base)

    # --- from the loop ---------------------------------------------------------------------------------

    def model_event(self, event: ModelEvent) -> None:
        if isinstance(event, ModelFinish | ModelToolCall):
            return  # its chunks came before it
        chunk: Any = event.raw
        self._adopt(chunk)
        if not chunk.choices:
            return  # the usage of one round; the sum comes at the end
        start, self._length = self._length, self._length + len(event.text)
        choice = chunk.choices[0]
        self._reason = choice.finish_reason or self._reason
        choice.finish_reason = None
        delta = choice.delta
        if delta is None:
            return
        plain = not event.text and not self._call.holds_text and event.reasoning == chat_reasoning(delta)
        self._in_chunk = event.reasoning if plain else ""
        if delta.tool_calls:
            delta.tool_calls = self._callers_own(delta.tool_calls)
        # Some servers leave the role out, and each round has one: ours stands in the first chunk.
        role, self._has_role = (None if self._has_role else "assistant"), True
        if delta.role != role:
            delta.role = role
        more = delta.model_fields_set - {"content", "role", "tool_calls"}
        if event.text or delta.role or delta.tool_calls or more or delta.model_extra:
            self._held.append((chunk, start, self._length))

    def _callers_own(self, pieces: list[Any]) -> list[Any] | None:
        """Return the pieces of calls that are the caller's business."""
        if self._has_blocks:
            return None  # made without the results of the blocks, like any text behind them
        left = []
        for piece in pieces:
            named = getattr(piece, "function", None) or getattr(piece, "custom", None)
            if name := getattr(named, "name", None):
                ours = self._call.offers.handles(name)
                number = None if ours else sum(n is not None for n in self._numbers)
                self._numbers.append(number)
                self._callers[getattr(piece, "index", None)] = number
            if (number := self._callers.get(getattr(piece, "index", None))) is not None:
                if name and not getattr(piece, "id", None):
                    piece.id = f"call_{number}"
                piece.index = number
                left.append(piece)
        return left or None

    def certain(self, end: int) -> None:
        self._certain = end
        self._release()

    def parsed(self) -> None:
        if not self._has_blocks:
            self._release()
        if self._prose:  # what the parser had held back
            self._say(*self._take_prose())

    def on_event(self, event: Event) -> None:
        if isinstance(event, TextDelta):
            self._prose.append({"type": "text_delta", "text": event.text})
        elif isinstance(event, RunEnd):
            if self.has_answer and event.stop_reason not in ("error", "cancelled"):
                self._finish(event)
        elif isinstance(event, ReasoningDelta) and event.text == self._in_chunk:
            self._in_chunk = ""
        elif not isinstance(event, RunStart):
            if event.type in ("code_start", "code_execution") and not self._call.mode.acting.bash_tool:
                self._has_blocks = True
            self._say(as_dict(event))

    def call_begun(self, id: str, call: ModelToolCall) -> None:
        self._has_calls = True

    def round_over(self, *, last: bool) -> None:
        if last and self._call.holds_text:
            self._certain = self._length
            self._release(held=True)
        self._begin_round()

    # --- chunks --------------------------------------------------------------------------------------

    def _adopt(self, chunk: Any) -> None:
        if not self._base:
            self._base = {
                "id": getattr(chunk, "id", None) or f"chatcmpl-{uuid4().hex}",
                "created": getattr(chunk, "created", None) or int(time.time()),
                "model": getattr(chunk, "model", None) or self._call.model.name,
                "object": "chat.completion.chunk",
            }
            if chunk.system_fingerprint is not None:
                self._base["system_fingerprint"] = chunk.system_fingerprint
        for name in ("id", "created", "model", "object"):
            if getattr(chunk, name, None) != self._base[name]:  # to set it takes ten times as long as to look
                setattr(chunk, name, self._base[name])
        if chunk.usage is not None:
            chunk.usage = None

    def _release(self, *, held: bool = False) -> None:
        """Send the chunks whose text is certain by now, unless only the last answer's is for the caller."""
        if self._call.holds_text and not held:
            return
        chunks = []
        text = ""
        while self._held:
            chunk, start, end = self._held[0]
            if end <= self._certain:
                self._held.popleft()
            elif start < self._certain:
                chunk = self._split(chunk, start, end)
            else:
                break
            chunks.append(chunk)
            text += chunk.choices[0].delta.content or ""
        if not chunks:
            return
        self._said = self._said or bool(text)
        if self._fresh and text:
            self._fresh = False
            self._say(content="\n\n")  # or the first word would stick to the last round's fence
        prose = self._take_prose()
        if text != "".join(p["text"] for p in prose):
            for chunk in chunks:
                if chunk.choices[0].delta.content:
                    chunk.agentd, prose = prose, []
        for chunk in chunks:
            self._out(chunk)

    def _split(self, chunk: Any, start: int, end: int) -> Any:
        """Return a chunk with the certain part of this one's text; the rest stays held."""
        delta = chunk.choices[0].delta
        at = self._certain - start
        head = self._make(content=delta.content[:at])
        delta.content = delta.content[at:]
        self._held[0] = (chunk, self._certain, end)
        return head

    def _take_prose(self) -> list[dict[str, Any]]:
        prose, self._prose = self._prose, []
        return prose

    def _make(self, *, content: str | None = None, finish: str | None = None, **more: Any) -> Any:
        delta: dict[str, Any] = {} if content is None else {"content": content}
        if finish and self._has_calls:
            delta["agentd"] = {"messages": self._call.added()}
        choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
        return self._chunk_type.model_validate({**self._base, "choices": choices, **more})

    def _say(self, *events: dict[str, Any], content: str | None = None) -> None:
        if self._base:  # else nothing has come yet, and an error is on its way
            self._out(self._make(content=content, agentd=list(events)))

    def _finish(self, end: RunEnd) -> None:
        reason = finish_reason(self._reason, end.stop_reason)
        self._out(self._make(finish=reason, agentd=[as_dict(end)]))
        if self._wants_usage:
            usage = add_usage(end.usage)
            self._out(self._chunk_type.model_validate({**self._base, "choices": [], "usage": usage}))
