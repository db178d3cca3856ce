"""A caller's conversation, told to a `Model`: for providers that keep conversations of their own.

Text and native calls are carried, and a person's pictures to a model that takes parts. What a `Model` cannot be told
(audio, files, a provider's own items) is refused with the place where it stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import attrs
from agentd.errors import ConfigError
from agentd.protocols import Model, ModelToolCall, PartsModel, ToolResult

__all__ = ["Said", "said_in_chat", "said_in_responses", "tell"]

_TEXTS: Final = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
"""Where the text stands, by the type of a part of a message."""


@attrs.frozen(kw_only=True)
class Said:
    """One thing that was said. A `call` belongs to the assistant's message before it, if there is one.

    :ivar where: its place in the caller's arguments, for errors.
    :ivar parts: those of a message with pictures, as chat completions have them.
    """

    kind: Literal["system", "user", "assistant", "call", "result"]
    text: str = ""
    call: ModelToolCall | None = None
    call_id: str = ""
    where: str = ""
    parts: tuple[dict[str, Any], ...] = ()


def said_in_chat(messages: Sequence[Any], *, first: int = 0, pictures: bool = False) -> Iterator[Said]:
    """Read the messages of chat completions. Raises `ConfigError` for what cannot be carried.

    :param pictures: carry a person's pictures.
    :param first: the number of the first one, for errors; below 0 for those that stand before the caller's.
    """
    for number, message in enumerate(messages, first):
        plain, where = _plain(message), f"messages[{number}]"
        role = plain.get("role")
        for name in ("audio", "function_call"):
            if plain.get(name) is not None:
                raise _refused(f"{where}.{name}", "is")
        if pictures and role == "user" and (parts := _parts(plain.get("content"))):
            yield Said(kind="user", parts=parts, where=where)
            continue
        text = _text(plain.get("content"), f"{where}.content") or str(plain.get("refusal") or "")
        if role in ("system", "developer"):
            yield Said(kind="system", text=text, where=where)
        elif role == "user":
            yield Said(kind="user", text=text, where=where)
        elif role == "tool":
            yield Said(kind="result", text=text, call_id=str(plain.get("tool_call_id") or ""), where=where)
        elif role == "assistant":
            yield Said(kind="assistant", text=text, where=where)
            for call in plain.get("tool_calls") or ():
                yield Said(kind="call", call=_chat_call(_plain(call), where), where=where)
        else:
            raise _refused(f"{where}.role", f"with the value {role!r} is")


def _chat_call(call: Mapping[str, Any], where: str) -> ModelToolCall:
    function = call.get("function")
    if not isinstance(function, Mapping):
        raise _refused(f"{where}.tool_calls", f"of the type {call.get('type')!r} are")
    return ModelToolCall(
        id=str(call.get("id") or ""),
        name=str(function.get("name") or ""),
        arguments=str(function.get("arguments") or ""),
    )


def said_in_responses(
    instructions: object, given: str | Sequence[Any], *, pictures: bool = False
) -> Iterator[Said]:
    """Read instructions and input of the responses API. Raises `ConfigError` for what cannot be carried.

    Reasoning items are left out: only the model that wrote them can read them.
    """
    if instructions:
        yield Said(kind="system", text=_text(instructions, "instructions"), where="instructions")
    for number, item in enumerate([{"role": "user", "content": given}] if isinstance(given, str) else given):
        plain, where = _plain(item), f"input[{number}]"
        kind, role = plain.get("type") or "message", plain.get("role")
        if kind == "reasoning":
            continue
        if kind == "function_call":
            call = ModelToolCall(
                id=str(plain.get("call_id")),
                name=str(plain.get("name")),
                arguments=str(plain.get("arguments") or ""),
            )
            yield Said(kind="call", call=call, where=where)
        elif kind == "function_call_output":
            text = _text(plain.get("output"), f"{where}.output")
            yield Said(kind="result", text=text, call_id=str(plain.get("call_id")), where=where)
        elif pictures and role == "user" and (parts := _parts(plain.get("content"))):
            yield Said(kind="user", parts=parts, where=where)
        elif kind == "message" and role in ("user", "assistant", "system", "developer"):
            text = _text(plain.get("content"), f"{where}.content")
            yield Said(kind="system" if role == "developer" else role, text=text, where=where)
        else:
            raise _refused(where, f"of the type {kind!r} is")


def tell(model: Model, conversation: Iterable[Said]) -> None:
    """Tell a new model everything that was said, in order."""
    said = list(conversation)
    first = next((n for n, one in enumerate(said) if one.kind != "system"), len(said))
    model.start("\n\n".join(one.text for one in said[:first] if one.text))
    at = first
    while at < len(said):
        one = said[at]
        if one.kind == "system":
            raise ConfigError(
                f"{one.where}: a system message must stand before all others for {model.name!r}"
            )
        if one.kind == "user":
            if one.parts and isinstance(model, PartsModel):
                model.add_parts(one.parts)
            else:
                model.add_task(one.text)
            at += 1
        elif one.kind == "result":
            group = _while(said, at, "result")
            _needs_native_calls(model, one.where)
            model.add_tool_results([ToolResult(call_id=r.call_id, output=r.text) for r in group])
            at += len(group)
        else:
            at += one.kind == "assistant"
            group = _while(said, at, "call")
            model.add_answer(one.text, [c.call for c in group if c.call is not None])
            at += len(group)


def _while(said: Sequence[Said], at: int, kind: str) -> list[Said]:
    group = []
    while at < len(said) and said[at].kind == kind:
        group.append(said[at])
        at += 1
    return group


def _needs_native_calls(model: Model, where: str) -> None:
    if not hasattr(model, "add_tool_results"):
        raise ConfigError(f"{where}: the model {model.name!r} takes no results of native tool calls")


def _text(content: object, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for number, part in enumerate(content if isinstance(content, Iterable) else ()):
        plain = _plain(part)
        kind = plain.get("type")
        if kind not in _TEXTS:
            raise _refused(f"{where}[{number}]", f"of the type {kind!r} is")
        texts.append(str(plain.get(_TEXTS[kind]) or ""))
    return "\n".join(texts)


def _parts(content: object) -> tuple[dict[str, Any], ...]:
    """Return the parts of a content of texts and pictures in the form of chat completions; none if that is not all
    that it has, or there is no picture in it."""
    if isinstance(content, str) or not isinstance(content, Iterable):
        return ()
    made: list[dict[str, Any]] = []
    for plain in map(_plain, content):
        kind, url = str(plain.get("type")), plain.get("image_url")
        if kind in _TEXTS:
            made.append({"type": "text", "text": str(plain.get(_TEXTS[kind]) or "")})
        elif kind == "image_url" and isinstance(url, Mapping):
            made.append({"type": "image_url", "image_url": dict(url)})
        elif kind == "input_image" and isinstance(url, str):
            detail = {"detail": plain["detail"]} if isinstance(plain.get("detail"), str) else {}
            made.append({"type": "image_url", "image_url": {"url": url, **detail}})
        else:
            return ()
    return tuple(made) if any(part["type"] == "image_url" for part in made) else ()


def _refused(where: str, what: str) -> ConfigError:
    return ConfigError(
        f"{where}: {what} not carried to a model of a provider plugin, which is told text and tool calls; "
        "leave it out, or ask a model that the client itself serves"
    )


def _plain(thing: Any) -> Mapping[str, Any]:
    if isinstance(thing, Mapping):
        return thing
    made: Mapping[str, Any] = getattr(thing, "to_dict", dict)()
    return made
