"""Models of other providers through LiteLLM, with the OpenAI SDK's methods and types.

`create_chat`, `create_response` and `create_embedding` take the arguments of the SDK's methods of that kind
and return its types. All three block: LiteLLM is imported by the first call, which takes seconds, so an event
loop calls them in a thread. LiteLLM's exceptions inherit the SDK's and are passed on.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["ChunkStream", "create_chat", "create_embedding", "create_response", "full_name"]

_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it asks the network for a list of prices
    "LITELLM_MODE": "PRODUCTION",  # or it reads a file `.env` into the environment
}
_importing = threading.Lock()


def full_name(name: str) -> str:
    """Return the name with its provider. LiteLLM would look for a bare `gemini-` name at Vertex, and knows
    of the bare `claude-` names only those that are older than itself."""
    if name.startswith("claude-"):
        return f"anthropic/{name}"
    return f"gemini/{name}" if name.startswith("gemini-") else name


def create_chat(**arguments: Any) -> Any:
    """Return a `ChatCompletion`, or with `stream=True` a `ChunkStream`."""
    answer = _library().completion(**_named(arguments))
    if arguments.get("stream"):
        return ChunkStream(answer)
    from openai.types.chat import ChatCompletion

    return ChatCompletion.construct(**_plain(answer))


def create_response(**arguments: Any) -> Any:
    """Return a `Response`, or with `stream=True` an iterator over the events of a streamed one.

    LiteLLM is always asked for the whole: the stream that it makes of a provider's chat answer lacks the
    first piece of the text, and one that broke off ends in it as if it were complete.
    """
    stream = arguments.pop("stream", False)
    answer = _library().responses(**_named(arguments))
    from openai.types.responses import Response

    response: Any = Response.construct(**{**_plain(answer), "object": "response"})
    return _events(response) if stream else response


def create_embedding(**arguments: Any) -> Any:
    """Return a `CreateEmbeddingResponse`."""
    answer = _library().embedding(**_named(arguments))
    from openai.types import CreateEmbeddingResponse

    return CreateEmbeddingResponse.construct(**_plain(answer))


class ChunkStream:
    """The chunks of LiteLLM's stream as `ChatCompletionChunk`s. `close` hangs up."""

    def __init__(self, stream: Any) -> None:
        from openai.types.chat import ChatCompletionChunk

        self._stream = stream
        self._type = ChatCompletionChunk

    @property
    def response(self) -> Any:
        """The HTTP response, where LiteLLM keeps it: for providers that it asks through the SDK."""
        return getattr(getattr(self._stream, "completion_stream", None), "response", None)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        data = _plain(next(self._stream))
        choices = data.get("choices") or []
        if not self._saw_finish():
            for choice in choices:
                choice.pop("finish_reason", None)
        if "usage" in data and not any(c.get("delta") or c.get("finish_reason") for c in choices):
            data["choices"] = []  # as the SDK has it
        return self._type.construct(**data)

    def _saw_finish(self) -> bool:
        """Tell whether the provider has said why it ended: LiteLLM says `stop` for one that did not."""
        if not hasattr(self._stream, "received_finish_reason"):
            return True
        given = self._stream.received_finish_reason
        return bool(given or getattr(self._stream, "intermittent_finish_reason", None))

    def close(self) -> None:
        """Close the connection. To be called by the thread that reads."""
        inner: Any = getattr(self._stream, "completion_stream", None)
        for part in (getattr(inner, "streaming_response", None), inner):
            close = getattr(part, "close", None)
            if close is not None:
                close()


def _events(response: Any) -> Iterator[Any]:
    """Make a whole response the stream of its events; the sequence numbers are given later."""
    from openai.types import responses as types

    def event(name: str, kind: str, **fields: Any) -> Any:
        return getattr(types, name).construct(type=f"response.{kind}", sequence_number=0, **fields)

    begun = response.model_copy(update={"status": "in_progress", "output": [], "usage": None})
    yield event("ResponseCreatedEvent", "created", response=begun)
    yield event("ResponseInProgressEvent", "in_progress", response=begun)
    for index, item in enumerate(response.output):
        is_message = item.type == "message"
        empty = item.model_copy(update={"status": "in_progress", "content": []}) if is_message else item
        yield event("ResponseOutputItemAddedEvent", "output_item.added", output_index=index, item=empty)
        for number, part in enumerate(item.content if is_message else ()):
            place = {"item_id": item.id, "output_index": index, "content_index": number}
            if part.type == "output_text":
                start = part.model_copy(update={"text": "", "annotations": []})
                text = {"logprobs": [], **place}
                yield event("ResponseContentPartAddedEvent", "content_part.added", part=start, **place)
                yield event("ResponseTextDeltaEvent", "output_text.delta", delta=part.text, **text)
                yield event("ResponseTextDoneEvent", "output_text.done", text=part.text, **text)
                yield event("ResponseContentPartDoneEvent", "content_part.done", part=part, **place)
        yield event("ResponseOutputItemDoneEvent", "output_item.done", output_index=index, item=item)
    if response.status == "failed":
        yield event("ResponseFailedEvent", "failed", response=response)
    elif response.status == "incomplete":
        yield event("ResponseIncompleteEvent", "incomplete", response=response)
    else:
        yield event("ResponseCompletedEvent", "completed", response=response)


def _named(arguments: dict[str, Any]) -> dict[str, Any]:
    return {**arguments, "model": full_name(arguments["model"])}


def _plain(answer: Any) -> dict[str, Any]:
    """Return LiteLLM's object as data. Its classes declare other fields than they hold: hence no warnings."""
    data: dict[str, Any] = answer.model_dump(exclude_none=True, warnings=False)
    return data


def _library() -> Any:
    """Return the module `litellm`, imported by the first call.

    This is the one place where agentd changes the environment of the process: LiteLLM reads these settings
    while it is imported, and nowhere else can they be given. What the person has set stays as it is, and
    afterwards everything is as before. Nor may it write its hints for reporting defects to standard output,
    unless the person has imported it and so decided about that.
    """
    with _importing:
        module = sys.modules.get("litellm")
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            return module
        added = [name for name in _QUIET if name not in os.environ]
        os.environ.update({name: _QUIET[name] for name in added})
        try:
            import litellm
        finally:
            for name in added:
                os.environ.pop(name, None)
        if module is None:
            litellm.suppress_debug_info = True
        return litellm
