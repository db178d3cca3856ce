"""The eight ways of calling a patched client, behind one function."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["WAYS", "Outcome", "arguments", "call", "create_of", "text_of"]

import attrs

WAYS = [
    f"{kind}-{api}-{mode}"
    for kind in ("sync", "async")
    for api in ("chat", "responses")
    for mode in ("whole", "stream")
]


@attrs.define(kw_only=True)
class Outcome:
    """What a call gave: the whole answer or the stream's items, and the events for display."""

    whole: Any = None
    items: list[Any] = attrs.field(factory=list)
    shown: list[Any] = attrs.field(factory=list)


def arguments(api: str, task: str = "go", **more: Any) -> dict[str, Any]:
    if api == "chat":
        return {"model": "m", "messages": [{"role": "user", "content": task}], **more}
    return {"model": "m", "input": task, **more}


def create_of(client: Any, api: str) -> Any:
    return client.chat.completions.create if api == "chat" else client.responses.create


def call(way: str, client: Any, **more: Any) -> Outcome:
    kind, api, mode = way.split("-")
    create, given = create_of(client, api), arguments(api, **more)
    if kind == "async":
        return asyncio.run(_acall(create, given, mode, client))
    if mode == "whole":
        return Outcome(whole=create(**given))
    items = list(create(**given, stream=True))
    return _shown(items)


async def _acall(create: Any, given: dict[str, Any], mode: str, client: Any) -> Outcome:
    try:
        if mode == "whole":
            return Outcome(whole=await create(**given))
        stream = await create(**given, stream=True)
        return _shown([item async for item in stream])
    finally:
        await client.close()


def _shown(items: list[Any]) -> Outcome:
    from agentd_openai.display import display_events

    return Outcome(items=items, shown=list(display_events(items)))


def text_of(way: str, outcome: Outcome) -> str:
    """Return the final answer's text."""
    _, api, mode = way.split("-")
    if mode == "stream":
        last = max((i for i, e in enumerate(outcome.shown[:-1]) if e.type == "turn_end"), default=-1)
        return "".join(e.text for e in outcome.shown[last + 1 :] if e.type == "text_delta")
    if api == "chat":
        return str(outcome.whole.choices[0].message.content)
    return str(outcome.whole.output_text)
