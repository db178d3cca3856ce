"""Models of other providers through LiteLLM, with the OpenAI SDK's methods and types.

`create_chat`, `create_response` and `create_embedding` take the arguments of the SDK's methods of that kind
and return its types. All three block: LiteLLM is imported by the first call, which takes seconds, so an event
loop calls them in a thread. LiteLLM's exceptions inherit the SDK's and are passed on.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

from agentd_model_litellm.litellm_stream import ChunkStream, plain

__all__ = ["ChunkStream", "create_chat", "create_embedding", "create_response", "full_name"]

_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it asks the network for a list of prices
    "LITELLM_MODE": "PRODUCTION",  # or it reads a file `.env` into the environment
}
TIMEOUT_S = 600.0
"""The SDK's default."""
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

    return ChatCompletion.construct(**plain(answer))


def create_response(**arguments: Any) -> Any:
    """Return a `Response`, or with `stream=True` an iterator over the events of a streamed one.

    LiteLLM is always asked for the whole: the stream that it makes of a provider's chat answer lacks the
    first piece of the text, and one that broke off ends in it as if it were complete.
    """
    stream = arguments.pop("stream", False)
    answer = _library().responses(**_named(arguments))
    from openai.types.responses import Response

    data = plain(answer)
    for item in data.get("output") or ():
        for part in item.get("content") or ():
            if part.get("type") == "output_text":
                part.setdefault("text", "")  # of an answer without words LiteLLM says None
    response: Any = Response.construct(**{**data, "object": "response"})
    return _events(response) if stream else response


def create_embedding(**arguments: Any) -> Any:
    """Return a `CreateEmbeddingResponse`."""
    if arguments["model"].startswith("litellm_proxy/"):
        arguments.setdefault("encoding_format", "float")  # or null is sent, which strict servers refuse
    answer = _library().embedding(**_named(arguments))
    from openai.types import CreateEmbeddingResponse

    return CreateEmbeddingResponse.construct(**plain(answer))


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
    # Asking again is the caller's business; LiteLLM's own time-outs are up to 6000 s.
    return {"timeout": TIMEOUT_S, **arguments, "model": full_name(arguments["model"]), "max_retries": 0}


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
        before = {name: os.environ.get(name) for name in (*_QUIET, "TIKTOKEN_CACHE_DIR")}
        os.environ.update({name: value for name, value in _QUIET.items() if before[name] is None})
        try:
            import litellm

            with contextlib.suppress(ImportError):  # sets TIKTOKEN_CACHE_DIR, when the first token is counted
                importlib.import_module("litellm.litellm_core_utils.default_encoding")
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value
        if module is None:
            litellm.suppress_debug_info = True
            litellm.disable_hf_tokenizer_download = True  # it would fetch some models' tokenizers to count
        return litellm
