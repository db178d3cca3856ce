"""The ways of asking a client for an answer: each method of the SDK, as one function of a client."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

__all__ = ["CALLS", "FORMED", "apply", "has_method"]

HOWS = ("create", "create-streamed", "parse", "stream")
PLACES = {
    "chat": ("chat.completions", HOWS),
    "chat-raw": ("chat.completions.with_raw_response", ("create", "create-streamed", "parse")),
    "chat-streaming": ("chat.completions.with_streaming_response", ("create", "create-streamed", "parse")),
    "beta-chat": ("beta.chat.completions", HOWS),
    "beta-chat-raw": ("beta.chat.completions.with_raw_response", ("create", "parse")),
    "beta-chat-streaming": ("beta.chat.completions.with_streaming_response", ("create",)),
    "client-chat-raw": ("with_raw_response.chat.completions", ("create", "parse")),
    "client-chat-streaming": ("with_streaming_response.chat.completions", ("create",)),
    "client-responses-raw": ("with_raw_response.responses", ("create", "parse")),
    "client-responses-streaming": ("with_streaming_response.responses", ("create",)),
    "responses": ("responses", HOWS),
    "responses-raw": ("responses.with_raw_response", ("create", "create-streamed", "parse")),
    "responses-streaming": ("responses.with_streaming_response", ("create", "create-streamed")),
}
CALLS = [f"{place}/{how}" for place, (_, hows) in PLACES.items() for how in hows]
FORMED = [name for name in CALLS if name.endswith(("/parse", "/stream"))]
"""Those that read the last answer as a type."""


def _place(client: Any, name: str) -> Any:
    path = PLACES[name.partition("/")[0]][0]
    for part in path.split("."):
        client = getattr(client, part, None)
    return client


def has_method(client: Any, name: str) -> bool:
    """Tell whether this SDK has the method."""
    return hasattr(_place(client, name), name.partition("/")[2].removesuffix("-streamed"))


def apply(kind: str, name: str, client: Any, form: Any = None, **more: Any) -> Any:
    """Ask, and return the text of the answer, or what it was parsed as if there is a form."""
    if kind == "sync":
        return _apply(name, client, form, more)

    async def ask() -> Any:
        try:
            return await _aapply(name, client, form, more)
        finally:
            await client.close()

    return asyncio.run(ask())


def _prepared(
    name: str, client: Any, form: Any, more: dict[str, Any]
) -> tuple[Callable[..., Any], dict[str, Any]]:
    how = name.partition("/")[2]
    given: dict[str, Any] = {"model": "m", **more}
    given |= {"input": "go"} if "responses" in name else {"messages": [{"role": "user", "content": "go"}]}
    if form is not None:
        given["text_format" if "responses" in name else "response_format"] = form
    if how == "create-streamed":
        given["stream"] = True
    return getattr(_place(client, name), how.removesuffix("-streamed")), given


def _apply(name: str, client: Any, form: Any, more: dict[str, Any]) -> Any:
    method, given = _prepared(name, client, form, more)
    how = name.partition("/")[2]
    if how == "stream":
        with method(**given) as stream:
            for _ in stream:
                pass
            chat = "chat" in name
            return _read(stream.get_final_completion() if chat else stream.get_final_response(), form)
    made = method(**given)
    if "-streaming/" in name:
        with made as response:
            return _result(how, response.parse(), form)
    return _result(how, made.parse() if "raw" in name else made, form)


def _result(how: str, made: Any, form: Any) -> Any:
    return _joined(list(made)) if how == "create-streamed" else _read(made, form)


async def _aapply(name: str, client: Any, form: Any, more: dict[str, Any]) -> Any:
    method, given = _prepared(name, client, form, more)
    how = name.partition("/")[2]
    if how == "stream":
        async with method(**given) as stream:
            async for _ in stream:
                pass
            chat = "chat" in name
            final = await (stream.get_final_completion() if chat else stream.get_final_response())
            return _read(final, form)
    if "-streaming/" in name:
        async with method(**given) as response:
            return await _aresult(how, await _awaited(response.parse()), form)
    made = await method(**given)
    return await _aresult(how, await _awaited(made.parse()) if "raw" in name else made, form)


async def _aresult(how: str, made: Any, form: Any) -> Any:
    return _joined([item async for item in made]) if how == "create-streamed" else _read(made, form)


async def _awaited(thing: Any) -> Any:
    return await thing if inspect.isawaitable(thing) else thing


def _joined(items: list[Any]) -> str:
    if hasattr(items[0], "choices"):
        return "".join(c.choices[0].delta.content or "" for c in items if c.choices)
    return str(items[-1].response.output_text)


def _read(answer: Any, form: Any) -> Any:
    if hasattr(answer, "choices"):
        message = answer.choices[0].message
        return message.content if form is None else message.parsed
    return answer.output_text if form is None else answer.output_parsed
