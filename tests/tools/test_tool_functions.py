"""`@tool`, docstrings, types to schemas, strict conversion."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import functools
import json
import pathlib
import sys
import uuid
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from agentd.errors import ConfigError, ToolInputError
from agentd_tools import ToolSet, decorated_tools, tool
from agentd_tools.function import describe_function


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Node:
    name: str
    children: list[Node] = field(default_factory=list)


@attrs.frozen
class Box:
    low: Point
    high: Point


class Options(TypedDict, total=False):
    depth: int


class Pair(NamedTuple):
    first: int
    second: str


class Address(pydantic.BaseModel):
    street: str
    number: int = 1


class Person(pydantic.BaseModel):
    name: str
    home: Address
    friend: Person | None = None


def schema_of(function: Any) -> dict[str, Any]:
    return dict(describe_function(function).spec.input_schema)


def properties_of(function: Any) -> dict[str, Any]:
    properties = schema_of(function)["properties"]
    assert isinstance(properties, dict)
    return properties


def called(function: Any, **arguments: object) -> object:
    return ToolSet([function]).call_sync(function.__name__, arguments)


# --- the decorator -----------------------------------------------------------------------------


def test_the_decorator_returns_the_very_function_and_lists_it() -> None:
    def double(n: int) -> int:
        return 2 * n

    assert tool(double) is double
    assert tool(name="twice", description="Doubles.", timeout=3)(double) is double
    assert decorated_tools()[-1] is double
    spec = describe_function(double).spec
    assert (spec.name, spec.description, spec.timeout_s) == ("twice", "Doubles.", 3)


def test_defining_a_function_again_replaces_it_as_in_a_notebook() -> None:
    def define(answer: int) -> Any:
        @tool
        def replaced_on_rerun() -> int:
            return answer

        return replaced_on_rerun

    define(1)
    second = define(2)
    same_name = [f for f in decorated_tools() if f.__name__ == "replaced_on_rerun"]
    assert same_name == [second]


def test_a_method_is_a_tool_once_it_is_bound() -> None:
    class Counter:
        def __init__(self) -> None:
            self.total = 0

        @tool(description="Count.")
        def count(self, by: int = 1) -> int:
            self.total += by
            return self.total

    counter = Counter()
    assert Counter.count not in decorated_tools()
    tools = ToolSet([counter.count])
    assert tools.call_sync("count", {"by": 5}) == 5
    assert counter.total == 5
    assert tools.specs()[0].description == "Count."


def test_a_set_without_functions_of_its_own_takes_those_marked_later_too() -> None:
    tools = ToolSet()

    @tool
    def marked_later() -> str:
        return "here"

    assert tools.update()
    assert not tools.update()
    assert tools.call_sync("marked_later", {}) == "here"
    assert "marked_later" not in [s.name for s in ToolSet([]).specs()]


@pytest.mark.parametrize("wrong", [5, dict, "text"])
def test_what_is_no_function_is_refused_by_the_decorator(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="functions, methods and callable objects"):
        tool(wrong)


@pytest.mark.parametrize("seconds", [0, -1, "5", True, [5], float("nan")])
def test_a_timeout_that_is_no_number_of_seconds_above_zero_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigError) as caught:

        @tool(timeout=seconds)
        def slow() -> None:
            pass

    line = slow_line(caught)
    assert str(caught.value) == (
        f"{__file__}:{line}: tool slow(): @tool(timeout=...) must be a number of seconds above 0, got {seconds!r}"
    )


def slow_line(caught: pytest.ExceptionInfo[ConfigError]) -> int:
    """Return the line of the test's decorator."""
    return next(entry.lineno + 1 for entry in caught.traceback if str(entry.path) == __file__)


def test_what_a_function_says_of_itself_is_what_an_mcp_server_says_of_its_tools() -> None:
    @tool(read_only=True, idempotent=True)
    def look() -> int:
        """Look."""
        return 1

    @tool(destructive=False)
    def append() -> int:
        """Append."""
        return 1

    @tool
    def anything() -> int:
        """Do anything."""
        return 1

    assert describe_function(look).spec.annotations == {"readOnlyHint": True, "idempotentHint": True}
    assert describe_function(append).spec.annotations == {"destructiveHint": False}
    assert describe_function(anything).spec.annotations == {}


def test_what_a_function_cannot_say_of_itself_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"@tool\(read_only=\.\.\.\) must be True, False or None, got 'yes'"
    ):
        tool(read_only="yes")(abs)  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="contradict each other"):
        tool(read_only=True, destructive=True)(abs)
    with pytest.raises(ConfigError, match="cannot keep its options"):
        tool(read_only=True)(abs)


def test_the_decorator_tells_all_that_is_wrong_at_once_with_function_file_and_line() -> None:
    with pytest.raises(ConfigError) as caught:

        @tool(name=5, description=["text"], timeout="5")  # type: ignore[call-overload]
        def total(*values: int) -> int:
            return sum(values)

    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{__file__}:{slow_line(caught)}: tool total(): ") for line in lines)
    assert [line.partition("(): ")[2] for line in lines] == [
        "@tool(name=...) must be a text that is not blank, got 5",
        "@tool(description=...) must be a text, got ['text']",
        "@tool(timeout=...) must be a number of seconds above 0, got '5'",
        "parameter '*values' cannot be called by name; take a list instead, as `values: list`",
    ]
    assert not any(function.__name__ == "total" for function in decorated_tools())


def test_a_parameter_with_a_star_is_refused_at_decoration_in_all_kinds_of_functions() -> None:
    class Holder:
        def method(self, *rest: str) -> None: ...
        async def __call__(self, *rest: str) -> None: ...

    def plain(a: int, *rest: str) -> None: ...

    for wrong in (plain, Holder.method, Holder().method, Holder(), functools.partial(plain, 1)):
        with pytest.raises(ConfigError, match=rf"^{__file__}:\d+: tool \w+\(\): parameter '\*rest' cannot"):
            tool(wrong)


def test_a_name_in_place_of_the_function_is_told_how_to_be_written() -> None:
    with pytest.raises(ConfigError, match=r"got 'add'; write @tool\(name='add'\)"):
        tool("add")  # type: ignore[type-var]


def test_partials_callable_objects_static_methods_and_wrapped_functions_are_tools() -> None:
    class Adder:
        """Adds what it was made with."""

        def __call__(self, n: int) -> int:
            return n + 1

    def power(base: int, exponent: int) -> int:
        return int(base**exponent)

    @functools.wraps(power)
    def logged(*args: Any, **kwargs: Any) -> Any:
        return power(*args, **kwargs)

    class Space:
        @staticmethod
        @tool
        def twice(n: int) -> int:
            return 2 * n

    square = functools.partial(power, exponent=2)
    tools = ToolSet([Adder(), square, logged, Space.twice])
    assert [b.python_name for b in tools.bindings] == ["Adder", "power", "power_2", "twice"]
    assert tools.call_sync("Adder", {"n": 1}) == 2
    assert tools.call_sync("power", {"base": 3}) == 9
    assert tools.call_sync("power_2", {"base": 2, "exponent": 5}) == 32
    assert tools.call_sync("twice", {"n": 4}) == 8
    with pytest.raises(ToolInputError, match="expected int, got str"):
        tools.call_sync("power_2", {"base": "2", "exponent": 5})


def test_docstring_lines_describe_parameters_plain_google_and_sphinx() -> None:
    def plain(a: int, b: int) -> None:
        """Do it.
        a: the first
        b: the second,
           which goes on
        """

    def google(a: int, b: int) -> None:
        """Do it.

        Longer.

        Args:
            a (int): the first
            b: the second

        Returns:
            nothing
        """

    def sphinx(a: int, b: int) -> None:
        """Do it.

        :param a: the first
        :param int b: the second
        """

    for function in (plain, google, sphinx):
        described = {n: p["description"] for n, p in properties_of(function).items()}
        assert described["a"] == "the first"
        assert described["b"].startswith("the second")
    assert properties_of(plain)["b"]["description"] == "the second, which goes on"
    assert describe_function(plain).spec.description == "Do it."
    assert "Args" not in describe_function(google).spec.description
    assert "Returns:" in describe_function(google).spec.description


# --- types -------------------------------------------------------------------------------------


def test_every_usual_type_arrives_as_itself() -> None:
    seen: dict[str, object] = {}

    def take(
        text: str,
        count: int,
        ratio: float,
        flag: bool,
        nothing: None,
        maybe: int | None,
        either: int | str,
        mode: Literal["a", "b", 3],
        colour: Colour,
        many: list[int],
        table: dict[str, int],
        fixed: tuple[int, str],
        unique: set[int],
        point: Point,
        node: Node,
        box: Box,
        options: Options,
        pair: Pair,
        person: Person,
        when: datetime.datetime,
        ident: uuid.UUID,
        money: decimal.Decimal,
        raw: bytes,
        path: pathlib.Path,
        bounded: Annotated[int, msgspec.Meta(ge=0)],
        anything: object,
        untyped,  # type: ignore[no-untyped-def]
    ) -> None:
        seen.update(locals())

    ident = uuid.uuid4()
    called(
        take,
        text="t", count=2**80, ratio=3, flag=True, nothing=None, maybe=None, either="x", mode=3, colour="red",
        many=[1], table={"a": 1}, fixed=[1, "x"], unique=[1, 1], point={"x": 1},
        node={"name": "n", "children": [{"name": "m"}]}, box={"low": {"x": 1}, "high": {"x": 2, "y": 3}},
        options={"depth": 2}, pair=[1, "b"], person={"name": "P", "home": {"street": "S"}},
        when="2026-01-02T03:04:05", ident=str(ident), money="1.10", raw="aGk=", path="/x/y", bounded=0,
        anything={"k": [1]}, untyped=[None],
    )  # fmt: skip
    assert seen["count"] == 2**80
    assert type(seen["ratio"]) is float
    assert seen["colour"] is Colour.RED
    assert seen["fixed"] == (1, "x")
    assert seen["unique"] == {1}
    assert seen["point"] == Point(1)
    assert seen["node"] == Node("n", [Node("m")])
    assert seen["box"] == Box(Point(1), Point(2, 3))
    assert seen["pair"] == Pair(1, "b")
    assert seen["person"] == Person(name="P", home=Address(street="S"))
    assert seen["when"] == datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert seen["ident"] == ident
    assert seen["money"] == decimal.Decimal("1.10")
    assert seen["raw"] == b"hi"
    assert seen["path"] == pathlib.Path("/x/y")
    assert seen["anything"] == {"k": [1]}
    assert seen["untyped"] == [None]


def test_unions_that_have_no_tag_are_tried_in_order() -> None:
    def take(value: Point | Box | list[Person] | None) -> str:
        return type(value).__name__

    assert called(take, value={"x": 1}) == "Point"
    assert called(take, value={"low": {"x": 1}, "high": {"x": 1}}) == "Box"
    assert called(take, value=[{"name": "n", "home": {"street": "s"}}]) == "list"
    assert called(take, value=None) == "NoneType"
    with pytest.raises(ToolInputError, match=r"argument 'value': fits none of the types"):
        called(take, value={"nothing": 1})


def test_references_of_pydantic_models_resolve_from_the_top() -> None:
    def take(person: Person, others: list[Person], point: Point) -> Person:
        return person

    for schema in (schema_of(take), describe_function(take).spec.output_schema):
        assert schema is not None
        definitions = schema["$defs"]
        assert isinstance(definitions, dict)
        references: set[str] = set()

        def collect(node: Any, references: set[str] = references) -> None:
            if isinstance(node, dict):
                references |= {node["$ref"]} if "$ref" in node else set()
                assert node is schema or "$defs" not in node  # noqa: B023
                for value in node.values():
                    collect(value)
            elif isinstance(node, list):
                for value in node:
                    collect(value)

        collect(schema)
        assert references
        assert references <= {f"#/$defs/{name}" for name in definitions}


def test_two_models_of_one_name_keep_their_own_definitions() -> None:
    def make(kind: type) -> Any:
        class Inner(pydantic.BaseModel):
            value: kind  # type: ignore[valid-type]

        class Outer(pydantic.BaseModel):
            inner: Inner

        return Outer

    first, second = make(int), make(str)

    @tool
    def take(a: first, b: second) -> None:  # type: ignore[valid-type]
        pass

    schema = schema_of(take)
    types = set()
    for name in ("a", "b"):
        node = schema["properties"][name]
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        inner = schema["$defs"][node["properties"]["inner"]["$ref"].rpartition("/")[2]]
        types.add(inner["properties"]["value"]["type"])
    assert types == {"integer", "string"}


def test_pydantic_says_which_field_is_wrong() -> None:
    def take(person: Person) -> None:
        pass

    with pytest.raises(ToolInputError, match=r"take\(\): argument 'person': home.number: .*integer"):
        called(take, person={"name": "n", "home": {"street": "s", "number": "7"}})


def test_descriptions_and_constraints_of_annotated_reach_the_schema() -> None:
    def take(
        a: Annotated[int, "how many"],
        b: Annotated[int, pydantic.Field(ge=1, le=9, description="a digit")],
        c: Annotated[str, msgspec.Meta(max_length=3)] = "abc",
    ) -> None:
        pass

    found = properties_of(take)
    assert found["a"]["description"] == "how many"
    assert (found["b"]["minimum"], found["b"]["maximum"], found["b"]["description"]) == (1, 9, "a digit")
    assert found["c"]["maxLength"] == 3
    with pytest.raises(ToolInputError, match="argument 'b': expected int <= 9"):
        called(take, a=1, b=10)


def test_none_as_default_makes_a_parameter_optional_in_type_too() -> None:
    def take(limit: int = None) -> str:  # type: ignore[assignment]  # noqa: RUF013
        return repr(limit)

    assert called(take) == "None"
    assert called(take, limit=None) == "None"
    assert properties_of(take)["limit"]["default"] is None


def test_names_local_to_a_function_are_found_in_string_annotations() -> None:
    class Local(TypedDict):
        value: int

    @tool
    def take(thing: Local) -> int:
        return thing["value"]

    assert called(take, thing={"value": 4}) == 4


def test_keyword_only_positional_only_and_double_star_parameters() -> None:
    def take(a: int, b: int = 2, /, *, c: int = 3, **rest: str) -> list[object]:
        return [a, b, c, rest]

    assert called(take, a=1) == [1, 2, 3, {}]
    assert called(take, a=1, c=4, more="x") == [1, 2, 4, {"more": "x"}]
    with pytest.raises(ToolInputError, match="argument 'more': expected str, got int"):
        called(take, a=1, more=5)
    assert schema_of(take)["additionalProperties"] == {"type": "string"}


def test_a_parameter_may_be_called_like_anything() -> None:
    def take(self_: int, type: str, id: int, fields: int, __x: int = 0) -> list[object]:
        return [self_, type, id, fields, __x]

    assert called(take, self_=1, type="t", id=2, fields=3) == [1, "t", 2, 3, 0]


class Opaque:
    pass


def test_a_type_without_json_form_is_named_with_function_and_parameter() -> None:
    def take(good: int, bad: list[Opaque]) -> None:
        pass

    def star(*values: int) -> None:
        pass

    def unknown(x: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821, UP037
        pass

    with pytest.raises(ConfigError, match=r"tool take\(\): parameter 'bad': .*Opaque"):
        ToolSet([take])
    with pytest.raises(ConfigError, match=r"tool star\(\): parameter '\*values'.*list"):
        ToolSet([star])
    with pytest.raises(ConfigError, match=r"tool unknown\(\): parameter 'x': .*Missing"):
        ToolSet([unknown])


def test_what_a_function_returns_is_described() -> None:
    def numbers() -> list[int]:
        return []

    def generated():  # type: ignore[no-untyped-def]
        yield 1

    async def point() -> Point:
        return Point(1)

    def opaque() -> Opaque:
        return Opaque()

    assert describe_function(numbers).spec.output_schema == {"type": "array", "items": {"type": "integer"}}
    assert describe_function(generated).spec.output_schema is None
    assert (describe_function(point).spec.output_schema or {})["$ref"] == "#/$defs/Point"
    assert describe_function(opaque).spec.output_schema is None


# --- no coercion -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": "7"}, "argument 'n': expected int, got str"),
        ({"n": 1.0}, "argument 'n': expected int, got float"),
        ({"n": True}, "argument 'n': expected int, got bool"),
        ({"n": None}, "argument 'n': expected int, got null"),
        ({}, "argument 'n' is missing"),
        ({"n": 1, "nam": "x"}, "unknown argument 'nam'; did you mean 'name'?"),
        ({"n": 1, "items": [1, "x"]}, "argument 'items[1]': expected int, got str"),
        ({"n": "x", "zzz": 1}, "argument 'n': expected int, got str; unknown argument 'zzz'"),
    ],
)
def test_a_wrong_argument_is_named_and_the_function_is_not_called(
    arguments: dict[str, object], message: str
) -> None:
    calls: list[int] = []

    def calculate(n: int, name: str = "", items: list[int] = []) -> None:  # noqa: B006
        calls.append(n)

    with pytest.raises(ToolInputError) as caught:
        called(calculate, **arguments)
    assert str(caught.value) == f"calculate(): {message}"
    assert not calls


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"\xff", b'{"n": NaN}', b"[" * 100_000])
def test_arguments_that_are_no_json_object_are_refused(data: bytes) -> None:
    def take(n: float = 0) -> None:
        pass

    reply = ToolSet([take]).call_json_sync("take", data)
    assert not reply.ok
    assert json.loads(reply.payload)["type"] == "ToolInputError"


def test_a_lone_surrogate_arrives() -> None:
    def echo(text: str) -> str:
        return text

    assert called(echo, text="\ud800") == "\ud800"


def test_describing_a_tool_imports_no_pydantic(tmp_path: pathlib.Path) -> None:
    import subprocess

    program = (
        "import sys; from agentd_tools import tool\n"
        "assert 'anyio' not in sys.modules and 'msgspec' not in sys.modules, 'heavy'\n"
        "from agentd_tools import ToolSet\n"
        "@tool\ndef f(a: int | None = None) -> list[str]: return []\n"
        "ToolSet()\nassert 'pydantic' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_async_functions_are_recognised_through_partials_and_objects() -> None:
    class Later:
        async def __call__(self, n: int) -> int:
            await asyncio.sleep(0)
            return n

    async def add(a: int, b: int) -> int:
        return a + b

    tools = ToolSet([Later(), functools.partial(add, b=1)])
    assert tools.call_sync("Later", {"n": 3}) == 3
    assert tools.call_sync("add", {"a": 3}) == 4
