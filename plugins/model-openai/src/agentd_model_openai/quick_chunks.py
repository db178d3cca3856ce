"""Chunks of text, made without the SDK's look-up of the type of each field, which takes most of the time that a chunk
takes here."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final

__all__ = ["QuickChunks", "chunk_type", "text_chunk"]

_CHUNK: Final = frozenset(("id", "object", "created", "model", "choices", "system_fingerprint", "usage"))
_DELTA: Final = frozenset(("content", "role", "reasoning", "reasoning_content", "refusal"))
_set: Final = object.__setattr__  # pydantic's own would check


class QuickChunks:
    """A client as a stream of the SDK asks for it: it makes chunks of text with the values that the client would set,
    and leaves all others to the client.

    :param client: an `AsyncOpenAI`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def _process_response_data(self, *, data: object, cast_to: Any, response: Any) -> Any:
        if isinstance(data, dict):
            made = text_chunk(data)
            if made is not None:
                return made
        return self._client._process_response_data(data=data, cast_to=cast_to, response=response)


def chunk_type() -> Any:
    """Return the SDK's type of chunks."""
    return _types()[0]


@cache
def _types() -> tuple[Any, Any, Any]:
    from openai.types.chat.chat_completion_chunk import ChatCompletionChunk, Choice, ChoiceDelta

    return ChatCompletionChunk, Choice, ChoiceDelta


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], frozenset[str]] | None:
    """Return the fields of a type with their defaults, and which of them have none; None if it is not that simple."""
    defaults, required = {}, set()
    for name, field in kind.model_fields.items():
        if field.alias or field.default_factory is not None:
            return None
        defaults[name] = None if field.is_required() else field.default
        if field.is_required():
            required.add(name)
    if any(not isinstance(value, str | None) for value in defaults.values()) or kind.__private_attributes__:
        return None
    return defaults, frozenset(required)


def _made(kind: Any, values: Mapping[str, Any]) -> Any:
    """Return an object of the SDK's as its own `construct` makes it of such values, field by field; None if it may be
    another one."""
    fields = _fields(kind)
    if fields is None or not values.keys() >= fields[1]:
        return None
    defaults = fields[0]
    known, more = values, {}
    if not values.keys() <= defaults.keys():
        known = {name: value for name, value in values.items() if name in defaults}
        more = {name: value for name, value in values.items() if name not in defaults}
    made = kind.__new__(kind)
    _set(made, "__dict__", {**defaults, **known})
    _set(made, "__pydantic_fields_set__", set(known))
    _set(made, "__pydantic_extra__", more)
    _set(made, "__pydantic_private__", None)
    return made


def text_chunk(data: Mapping[str, Any]) -> Any:
    """Return a chunk whose values are plain ones; None for any other: with calls, log probabilities, the usage."""
    if not data.keys() <= _CHUNK or data.get("usage") is not None:
        return None
    choices = data.get("choices")
    if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    delta = choice.get("delta")
    if choice.get("logprobs") is not None or not isinstance(delta, dict) or not delta.keys() <= _DELTA:
        return None
    if not all(value is None or isinstance(value, str) for value in delta.values()):
        return None
    chunk, choice_type, delta_type = _types()
    said = _made(delta_type, delta)
    made = None if said is None else _made(choice_type, {**choice, "delta": said})
    return None if made is None else _made(chunk, {**data, "choices": [made]})
