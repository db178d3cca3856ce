"""Short ways of looking at data give what the long ones give."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
from agentd.errors import ModelError
from agentd_model_openai import ChatModel
from agentd_model_openai.line_limit import EventMeter
from agentd_model_openai.plain import is_plain
from agentd_model_openai.reasoning import field_of, fields_of
from openai.types.chat import ChatCompletionMessage
from openai.types.chat.chat_completion_chunk import ChoiceDelta

pytestmark = pytest.mark.anyio


class Word(StrEnum):
    ONE = "one"


class Text(str):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ("text", True),
        (None, True),
        ([], True),
        ({}, True),
        ([{"role": "user", "content": "a"}, {"role": "user", "content": [{"text": "b", "n": 1.5}]}], True),
        ({"a": [1, True, None, {"b": []}]}, True),
        (b"text", False),
        (("a",), False),
        ({1: "a"}, False),
        ({Word.ONE: "a"}, False),
        ({"a": Word.ONE}, False),
        ([Text("a")], False),
        ({"a": [{"b": {"c": {1, 2}}}]}, False),
        ([{"a": "b"}, {Text("c"): "d"}], False),
        ({"a": range(3)}, False),
    ],
)
def test_plain_is_what_json_has(value: object, plain: bool) -> None:
    assert is_plain(value) is plain


def test_the_open_event_is_measured_from_the_last_end_however_it_is_cut() -> None:
    dice = random.Random(5)
    for _ in range(2000):
        data = bytes(dice.choices(b"ab\n\r", k=dice.randrange(1, 40)))
        meter = EventMeter()
        at = 0
        while at < len(data):
            size = dice.randrange(1, 8)
            meter.add(data[at : at + size])
            at += size
        end = max(data.rfind(mark) for mark in (b"\n\n", b"\r\r", b"\r\n\r\n"))
        assert meter._open == (len(data) - end if end >= 0 else len(data)), data


@pytest.mark.parametrize(
    "message",
    [
        ChoiceDelta(content="a", role="assistant"),
        ChoiceDelta.construct(content="a", reasoning="why", refusal=None, thinking_blocks=[{"a": 1}]),
        ChatCompletionMessage.construct(role="assistant", content="", reasoning_content=""),
        SimpleNamespace(content="a", reasoning="b"),
        object(),
    ],
)
def test_fields_are_found_wherever_they_are(message: Any) -> None:
    names = ("reasoning_content", "reasoning", "content", "thinking_blocks", "refusal", "audio")
    wanted = {name: value for name in names if (value := field_of(message, name)) is not None}
    assert fields_of(message, names) == wanted
    assert list(fields_of(message, names)) == list(wanted)


async def test_what_is_no_async_stream_is_closed_and_told() -> None:
    closed = []

    class Half:
        async def close(self) -> None:
            closed.append(True)

    async def create(**_: Any) -> Half:
        return Half()

    model = ChatModel("m", create=create)
    model.add_task("go")
    with pytest.raises(TypeError, match="Half"):
        async with model.stream():
            pass
    assert closed


async def test_a_stream_is_closed_once_if_its_reader_leaves_or_it_breaks() -> None:
    closed = []

    class Stream:
        def __init__(self, error: Exception | None) -> None:
            self.error = error

        def __aiter__(self) -> AsyncIterator[Any]:
            return self

        async def __anext__(self) -> Any:
            if self.error is not None:
                raise self.error
            delta = ChoiceDelta(content="a", role="assistant")
            choice = SimpleNamespace(delta=delta, finish_reason=None)
            return SimpleNamespace(choices=[choice], usage=None)

        async def close(self) -> None:
            closed.append(self.error)

    errors: list[Exception | None] = [None, ConnectionError("gone")]

    async def create(**_: Any) -> Stream:
        return Stream(errors[0])

    model = ChatModel("m", create=create)
    model.add_task("go")
    async with model.stream() as events:
        await anext(events)
    assert closed == [None]
    errors.pop(0)
    with pytest.raises(ModelError, match="gone"):
        async with model.stream() as events:
            await anext(events)
    assert closed == [None, errors[0]]


DELTAS: list[dict[str, Any]] = [
    {"role": "assistant", "content": "a"},
    {"role": "assistant", "content": ""},
    {"role": "assistant", "content": None},
    {"content": "a\ud83d"},
    {"content": "\ude00b"},
    {"content": None, "reasoning_content": "because"},
    {"content": "c", "reasoning": "and"},
    {"content": "no", "refusal": None},
    {"content": None, "refusal": "I will not"},
    {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "d"}]},
    {"content": "x", "tool_calls": [{"index": 0, "id": "1", "function": {"name": "f", "arguments": "{}"}}]},
    {"content": "y", "images": [{"url": "data:"}]},
    {},
]  # fmt: skip


async def test_a_text_alone_is_read_as_any_other_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(3)

    async def events(deltas: list[dict[str, Any]], finishes: list[str | None]) -> list[Any]:
        async def create(**_: Any) -> Any:
            async def chunks() -> AsyncIterator[Any]:
                for delta, finish in zip(deltas, finishes, strict=True):
                    choice = SimpleNamespace(delta=ChoiceDelta.construct(**delta), finish_reason=finish)
                    yield SimpleNamespace(choices=[choice], usage=None)

            return chunks()

        model = ChatModel("m", create=create)
        model.add_task("go")
        found: list[Any] = []
        try:
            async with model.stream() as stream:
                async for event in stream:
                    data = attrs.asdict(event, filter=lambda field, _: field.name != "raw")
                    found.append(data)
        except ModelError as error:
            found.append(str(error))
        return [*found, model._extras]

    for _ in range(300):
        deltas = dice.choices(DELTAS, k=dice.randrange(1, 6))
        finishes = [*[None] * (len(deltas) - 1), dice.choice(["stop", "length", "tool_calls", None])]
        quick = await events(deltas, finishes)
        with monkeypatch.context() as patched:
            patched.setattr("agentd_model_openai.chat.is_text_alone", lambda _: False)
            assert await events(deltas, finishes) == quick, deltas
