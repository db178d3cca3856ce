"""`ask(task, output=...)`: the last answer as a value of a type, with code in between."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import attrs
import pydantic
import pytest
from agentd import AnswerError
from agentd.errors import ConfigError
from agentd.events import RunEnd
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from agentd.types import Budgets
from fake_openai import Answer, FakeOpenAI
from script_model import ScriptModel

pytestmark = pytest.mark.anyio
BLOCK = "```bash:execute\necho 3\n```\n"
RIGHT = '{"files": 3, "names": ["a"]}'
APIS = pytest.mark.parametrize("api", ["chat", "responses"])


class Model(pydantic.BaseModel):
    files: int
    names: list[str] = []


@dataclass
class Data:
    files: int
    names: list[str]


@attrs.frozen
class Attrs:
    files: int
    names: list[str] = attrs.field(factory=list)


class Typed(TypedDict):
    files: int
    names: list[str]


SCHEMA = {
    "type": "object",
    "properties": {"files": {"type": "integer"}, "names": {"type": "array"}},
    "required": ["files"],
}


@pytest.mark.parametrize(
    ("output", "value"),
    [
        (Model, Model(files=3, names=["a"])),
        (Data, Data(3, ["a"])),
        (Attrs, Attrs(3, ["a"])),
        (Typed, {"files": 3, "names": ["a"]}),
        (SCHEMA, {"files": 3, "names": ["a"]}),
        ({}, {"files": 3, "names": ["a"]}),
    ],
    ids=["pydantic", "dataclass", "attrs", "TypedDict", "schema", "any"],
)
async def test_the_answer_comes_as_a_value_after_rounds_with_code(
    output: Any, value: Any, tmp_path: Path
) -> None:
    model = ScriptModel(BLOCK, RIGHT)
    async with Session(model, cwd=tmp_path, executor="subprocess") as session:
        assert await session.ask("Count.", output=output) == value
    ((_, told),) = [m for m in model.messages if m[0] == "user"]
    assert told.startswith("Count.\n\nThe answer that ends this task")
    assert ('"files"' in told) is (output != {})
    assert model.read > 0


async def test_other_json_than_objects(tmp_path: Path) -> None:
    async with Session(ScriptModel("[1, 2]"), cwd=tmp_path) as session:
        assert await session.ask("Count.", output=list[int]) == [1, 2]


def test_a_sync_session_does_the_same(tmp_path: Path) -> None:
    with SyncSession(ScriptModel(RIGHT, RIGHT, "plain"), cwd=tmp_path) as session:
        assert session.ask("Count.", output=Data) == Data(3, ["a"])
        end = list(session.run("Count.", output=Data))[-1]
        assert isinstance(end, RunEnd)
        assert json.loads(end.text) == {"files": 3, "names": ["a"]}
        assert session.ask("Say it.").text == "plain"


@attrs.frozen
class Node:
    value: int
    next: Node | None = None


async def test_a_type_may_hold_itself(tmp_path: Path) -> None:
    async with Session(ScriptModel('{"value": 1, "next": {"value": 2}}'), cwd=tmp_path) as session:
        assert await session.ask("Count.", output=Node) == Node(1, Node(2))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("Three.", "it is no JSON"),
        (f"```json\n{RIGHT}\n```", "it is no JSON"),
        ('{"files": "many"}', "files"),
        ('{"names": []}', "files"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("output", [Model, Attrs, SCHEMA], ids=["pydantic", "attrs", "schema"])
async def test_what_does_not_fit_is_asked_for_once_more(
    output: Any, wrong: str, why: str, tmp_path: Path
) -> None:
    model = ScriptModel(wrong, RIGHT) if wrong else ScriptModel('{"files": null}', RIGHT)
    async with Session(model, cwd=tmp_path) as session:
        value = await session.ask("Count.", output=output)
    assert value["files"] == 3 if isinstance(value, dict) else value.files == 3
    (told,) = model.results
    assert told.startswith("Your answer does not have the form that it must have: ")
    assert why in told


async def test_a_model_that_never_gives_it_ends_in_an_error_with_its_text(tmp_path: Path) -> None:
    async with Session(ScriptModel("Three.", "It is three.", "fine"), cwd=tmp_path) as session:
        with pytest.raises(AnswerError, match=r"it is no JSON .*'It is three.'") as failed:
            await session.ask("Count.", output=Model)
        assert failed.value.text == "It is three."
        assert (await session.ask("Go on.")).text == "fine"
        assert [m.role for m in session.transcript.messages] == [
            *("task", "answer", "results", "answer"),
            *("task", "answer"),
        ]


async def test_a_run_that_ends_before_its_answer_says_so(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"cwd": tmp_path, "executor": "subprocess", "budgets": Budgets(max_turns=1)}
    async with Session(ScriptModel(BLOCK), **settings) as session:
        with pytest.raises(AnswerError, match=r"the run ended without one .*turns"):
            await session.ask("Count.", output=Model)


@pytest.mark.parametrize("output", [print, object(), 5, complex])
async def test_what_has_no_json_form_is_refused_before_anything_is_sent(output: Any, tmp_path: Path) -> None:
    model = ScriptModel(RIGHT)
    async with Session(model, cwd=tmp_path) as session:
        with pytest.raises(ConfigError, match="output: must be a type that has a JSON form"):
            await session.ask("Count.", output=output)
    assert model.requests == 0


class Forward(pydantic.BaseModel):
    later: "NotThere"  # type: ignore[name-defined]  # noqa: F821, UP037


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"type": "objekt"}, r"is no JSON Schema: \$\.type: 'objekt'"),
        ({"type": "object", "required": 5}, r"\$\.required: 5 is not of type 'array'"),
        ({"properties": {"n": {"multipleOf": 0}}}, r"\$\.properties\.n\.multipleOf"),
        ({"enum": {1, 2}}, "is no JSON Schema"),
        ({"$ref": "#"}, "refers to itself without an end"),
        (
            {"properties": {"n": {"$ref": "#/$defs/gone"}}},
            r"refers to '#/\$defs/gone', which it does not have",
        ),
        ({"properties": {"n": {"$ref": "https://schemas.example/n.json"}}}, "nothing is fetched"),
        ({"$id": "https://schemas.example/a.json", "$ref": "b.json"}, "refers to 'b.json'"),
        (Forward, "is not fully defined"),
    ],
)
async def test_a_schema_that_is_none_is_refused_before_anything_is_sent(
    schema: Any, why: str, tmp_path: Path
) -> None:
    model = ScriptModel(RIGHT)
    async with Session(model, cwd=tmp_path) as session:
        with pytest.raises(ConfigError, match=why):
            await session.ask("Count.", output=schema)
    assert model.requests == 0


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"inner": {"$ref": "#"}}},
        {"$defs": {"a": {"type": "integer"}}, "properties": {"files": {"$ref": "#/$defs/a"}}},
        {
            "$id": "https://schemas.example/a",
            "properties": {"files": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {}},
        },
        {"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": True},
        {"properties": {"names": {"items": {"pattern": "\\p{L}+"}}}},
    ],
)
async def test_a_schema_of_any_draft_that_refers_to_its_own_parts_is_taken(
    schema: Any, tmp_path: Path
) -> None:
    async with Session(ScriptModel(RIGHT), cwd=tmp_path) as session:
        assert (await session.ask("Count.", output=schema))["files"] == 3


class Checked(pydantic.BaseModel):
    files: int

    @pydantic.field_validator("files")
    @classmethod
    def known(cls, value: int) -> int:
        return {3: 3}[value]


DEEP = {"properties": {"inner": {"$ref": "#"}}, "type": "object"}


@pytest.mark.parametrize(
    ("output", "text", "why"),
    [
        (Checked, '{"files": 4}', "its check raised KeyError: 4"),
        (DEEP, '{"inner": ' * 900 + "{}" + "}" * 900, "its check raised RecursionError"),
        ({"properties": {"n": {"multipleOf": 0.1}}}, '{"n": 1e400}', "its check raised OverflowError"),
        ({}, '{"n": NaN}', "NaN is no JSON"),
    ],
)
async def test_a_check_that_raises_is_an_answer_that_does_not_fit(
    output: Any, text: str, why: str, tmp_path: Path
) -> None:
    async with Session(ScriptModel(text, text), cwd=tmp_path) as session:
        with pytest.raises(AnswerError, match=why) as failed:
            await session.ask("Count.", output=output)
    assert failed.value.text == text


def _form(request: dict[str, Any]) -> Any:
    return request.get("response_format") or (request.get("text") or {}).get("format")


@APIS
@pytest.mark.parametrize("strict", [True, False])
async def test_the_provider_holds_the_second_answer_to_the_schema_and_no_other_one(
    api: Any, strict: bool, tmp_path: Path
) -> None:
    with FakeOpenAI(BLOCK, "Three.", RIGHT, "plain") as server:
        made = {"base_url": server.base_url, "api_key": "x", "cwd": tmp_path, "executor": "subprocess"}
        async with Session("m", api=api, **made) as session:
            await session.ask("Count.", output=Data if strict else Model)
            await session.ask("Say it.")
        forms = [_form(request) for request in server.requests]
    assert [form is not None for form in forms] == [False, False, True, False]
    held = forms[2]["json_schema"] if api == "chat" else forms[2]
    assert forms[2]["type"] == "json_schema"
    assert held["strict"] is strict  # what may be left out would be null
    assert "files" in json.dumps(held["schema"])


@APIS
async def test_a_server_that_knows_no_such_form_is_asked_without_it(api: Any, tmp_path: Path) -> None:
    error = {"message": "response_format: json_schema is not supported (text.format)"}
    with FakeOpenAI("Three.", Answer(status=400, error=error), RIGHT) as server:
        async with Session("m", api=api, base_url=server.base_url, api_key="x", cwd=tmp_path) as session:
            assert (await session.ask("Count.", output=Model)).files == 3
        assert [_form(request) is not None for request in server.requests] == [False, True, False]
