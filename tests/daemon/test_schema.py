"""The JSON Schema: the one in the documentation is that of the classes, and it and the loader agree."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import yaml
from agentd_daemon.config import values as classes
from agentd_daemon.config.loading import examine
from agentd_daemon.config.schema import make_schema, read_fields
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from places import ROOT

EXAMPLES: Final = sorted((ROOT / "docs" / "examples" / "config").glob("*.yaml"))
SCHEMA_FILE: Final = ROOT / "docs" / "reference" / "agents.schema.json"
# To JSON Schema 2.0 is an integer; YAML and the loader tell it from 2.
TYPES: Final = Draft202012Validator.TYPE_CHECKER.redefine(
    "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
)
VALIDATOR: Final = extend(Draft202012Validator, type_checker=TYPES)(make_schema())


def test_the_schema_in_the_documentation_is_that_of_the_classes() -> None:
    assert SCHEMA_FILE.read_text() == json.dumps(make_schema(), indent=2) + "\n", (
        f"write it again: agentd schema > {SCHEMA_FILE.relative_to(ROOT)}"
    )


def test_the_schema_is_a_schema_and_describes_every_key() -> None:
    schema = make_schema()
    Draft202012Validator.check_schema(schema)
    for name in classes.__all__:
        cls = getattr(classes, name)
        if attrs.has(cls):
            described = schema if name == "DaemonConfig" else schema["$defs"][name]
            assert list(described["properties"]) == sorted(
                described["properties"],
                key=[f.name for f in sorted(attrs.fields(cls), key=lambda f: f.inherited)].index,
            )
            assert set(described["properties"]) == {field.name for field in attrs.fields(cls)}
            assert all(entry["description"].endswith(".") for entry in described["properties"].values())
            assert described["additionalProperties"] is False
    assert not re.search(r":ivar|:param", json.dumps(schema))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_fits_the_schema_that_its_first_line_names(path: Path) -> None:
    text = path.read_text()
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert named is not None
    assert (path.parent / named[1]).resolve() == SCHEMA_FILE
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []


def test_the_page_of_the_documentation_has_every_key_and_default() -> None:
    page = (ROOT / "docs" / "daemon-config.md").read_text()
    for name in classes.__all__:
        cls = getattr(classes, name)
        if not attrs.has(cls):
            continue
        _, texts = read_fields(cls)
        assert texts
        for field in attrs.fields(cls):
            default = field.default if isinstance(field.default, (bool, int, float, str)) else ""
            cell = f"`{json.dumps(default)}`".replace(".0`", "`").replace('"', "") if default != "" else ""
            row = rf"^\| `{field.name}` \| [^|]+ \| {cell or '(?:required)?'} ?\| {re.escape(texts[field.name])} \|$"
            assert re.search(row, page, re.MULTILINE), f"{name}.{field.name}: no row as {row}"


# --- the schema and the loader ---------------------------------------------------------------------

TEXT = st.text(alphabet="ab.-_ /:$é\n", max_size=6)
WORDS = TEXT | st.sampled_from(
    ["m", "stdio", "http", "ptc", "drop", "park", "https://h/", "K=V", "${X}", "a://b"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-2, 3) | st.floats(allow_nan=False, allow_infinity=False) | WORDS
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "allow", "uri"]), inner, max_size=2)
    ),
    max_leaves=4,
)  # fmt: skip


def right(needed: dict[str, list[Any]], optional: dict[str, list[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with these keys; each has one of its values."""
    return st.fixed_dictionaries(
        {key: st.sampled_from(values) for key, values in needed.items()},
        optional={key: st.sampled_from(values) for key, values in optional.items()},
    )


REFERENCE: Final = "${X}"
SERVER: Final = {
    "type": ["stdio"], "arguments": [[], ["-y"]], "env_vars": [[], ["K=V"], ["K=${X}"]], "headers": [{}], "url": [None],
    "tool_filter": [[], ["a"], {"allow": None}, {"deny": ["b"]}], "timeout": [None, 1, 0.5, REFERENCE],
}  # fmt: skip
SHARED: Final = {
    "system_prompt": ["", "p"], "mode": ["ptc", "tools", "${W:-ptc}"],
    "poll_interval": [1, 0.5, REFERENCE], "event_sinks": [[], ["jsonl"], [["jsonl", {"path": "x"}], "console"]],
    "tools": [[], ["models:"], [["models:m", {"depth": 0}]]],
    "parsers": [None, [], ["fence", ["xml", {}]]], "renderer": ["r", ["r", {"a": 1}]],
    "snapshots": ["s", ["s", {"a": [1]}], REFERENCE], "skills": [[], ["~/skills", "${S}"]],
    "budgets": [{}, {"max_turns": None}, {"wall_time_s": 1.5, "max_result_chars": 9}],
    "history": [{}, {"rule": "summarise", "max_tokens": 1, "keep_turns": 0}],
    "on_error": [{}, {"retries": 0, "backoff_s": 1, "max_backoff_s": REFERENCE, "then": "skip"}],
    "cwd": [None, "."], "provider": [None, "gemini"], "base_url": [None, "http://h", "${Y}/v1"], "api_key": [None, "k"],
    "api": ["responses"], "model_options": [{"temperature": 0.5}], "checkpoints": [True, False, "${Z}"],
}  # fmt: skip
SUBSCRIPTION: Final = right(
    {"uri": ["a://b", "tool://t/?u=1"]},
    {"poll_interval": [None, 2], "diff": [True], "server": [None], "prompt": ["p"]},
)
AGENT: Final = st.builds(
    lambda entry, servers, subscription: {**entry, "mcp_servers": servers, "subscriptions": [subscription]},
    right(
        {"name": ["a", "B-1.c", "n${X}"], "model": ["m", REFERENCE, ["m", {"prices": {}}]]},
        SHARED,
    ),
    st.lists(right({"command": ["x"]}, SERVER), min_size=1, max_size=2),
    st.just("c://d") | SUBSCRIPTION,
)
FILE: Final = st.fixed_dictionaries(
    {"agents": st.lists(AGENT, min_size=1, max_size=1)},
    optional={
        "defaults": right(
            {},
            {
                "model": ["m"],
                "executor": ["srt", ["srt", {"a": 1}]],
                "executor_options": [{}, {"a": [1, None]}],
                **SHARED,
            },
        ),
        "plugins": right({}, {"allow": [None, []], "block": [["x"]]}),
        "state_dir": st.sampled_from([None, "s"]),
        "x-y": ANYTHING,
    },
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value inside."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    """A file in which all is right but for one place, perhaps: another value, no value, or an unknown key."""
    data: dict[str, Any] = json.loads(json.dumps(draw(FILE)))
    *parents, last = draw(st.sampled_from(list(places(data))))
    holder: Any = data
    for part in parents:
        holder = holder[part]
    match draw(st.sampled_from(["nothing", "another", "remove", "add"])):
        case "another":
            holder[last] = draw(ANYTHING)
        case "remove":
            del holder[last]
        case "add" if isinstance(holder, dict):
            holder["zz"] = draw(ANYTHING)
    return data


# What the loader refuses and no schema can say, because it is about several values at once.
BEYOND: Final = re.compile(
    "goes with `mode: ptc`|has a key of its own|must not be below"
    "|does not belong to|is missing: a server|a second time|has the name"
    "|must be a URI such as|no server could have it|of a server of this agent|is the same as"
    "|there is an agent|give it here or under|names no tool|has no '='|no text in UTF-8|must look like tool"
    # what a reference leads to
    "|is not set|is no reference|no closing brace|[$]{[XYZ]}"
)


def refused_by_schema(data: Mapping[str, Any]) -> bool:
    return not VALIDATOR.is_valid(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(files() | st.dictionaries(st.sampled_from(["agents", "defaults"]), ANYTHING))
@example(data={"defaults": {"on_error": {"retries": 0.0}}, "agents": [{"name": "a", "model": "m"}]})
def test_what_the_schema_refuses_the_loader_refuses_and_the_other_way_round(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "schema.yaml"
    path.write_text(json.dumps(data))  # JSON is YAML, and all its texts are in quotes
    assume(not re.search(r"[0-9]e", path.read_text()))  # 1e-07 is no number in YAML 1.1
    found = examine(path, environ={"X": "1", "Y": "http://h", "Z": "true"})
    if refused_by_schema(data):
        assert found.problems, list(VALIDATOR.iter_errors(data))
    else:
        beyond = [problem for problem in found.problems if not BEYOND.search(problem.message)]
        assert not [p for p in beyond if "there is no agent" not in p.message]


# --- what is written comes out ---------------------------------------------------------------------

GOOD_TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Co", "Cn"]), min_size=1, max_size=20
)
# pyyaml writes `0e0` without quotes; the loader wants them
GOOD_TEXT = GOOD_TEXT.filter(
    lambda text: not re.fullmatch(r"[-+.0-9_]*[eE][-+0-9]+|0o[0-7]+|[-+]?[.][0-9]+", text)
)
GOOD_KEYS = GOOD_TEXT.filter(lambda text: "$" not in text)  # references are in values, not in keys
GOOD_NAMES = st.from_regex(classes.NAME_PATTERN.replace("$", r"\Z"), fullmatch=True).filter(
    lambda n: len(n) <= 64
)
COUNTS = st.integers(1, 10**20)
NUMBERS = st.floats(0.001, 1e9)
GOOD_AGENTS = st.fixed_dictionaries(
    {"name": GOOD_NAMES, "model": GOOD_TEXT},
    optional={
        "system_prompt": GOOD_TEXT,
        "mode": st.sampled_from(["tools", "ptc"]),
        "poll_interval": NUMBERS,
        "cwd": st.none() | GOOD_TEXT,
        "checkpoints": st.booleans(),
        "event_sinks": st.lists(GOOD_TEXT, max_size=3),
        "tools": st.lists(GOOD_TEXT, max_size=3),
        "snapshots": GOOD_TEXT,
        "model_options": st.dictionaries(GOOD_KEYS, GOOD_TEXT | COUNTS | st.booleans() | st.none(), max_size=3),
        "budgets": st.fixed_dictionaries({}, optional={"max_turns": st.none() | COUNTS, "wall_time_s": NUMBERS}),
    },
)  # fmt: skip


class _Quoted(yaml.SafeDumper):
    """Quotes every text: without quotes, `08` and the like mean different things to different readers of YAML."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"')


_Quoted.add_representer(str, _Quoted.represent_str)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(GOOD_AGENTS, min_size=1, max_size=3, unique_by=lambda agent: str(agent["name"]).casefold()))
def test_a_valid_configuration_comes_out_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, agents: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    text = yaml.dump({"agents": agents}, Dumper=_Quoted, allow_unicode=True, sort_keys=False)
    path.write_text(text.replace("$", "$$"), encoding="utf-8")
    found = examine(path, environ={})
    assert found.problems == ()
    assert found.config is not None
    for written, agent in zip(agents, found.config.agents, strict=True):
        for key, value in written.items():
            got = getattr(agent, key)
            if key == "budgets":
                assert {name: getattr(got, name) for name in value} == value
            else:
                assert (list(got) if isinstance(got, tuple) else got) == value
    validated = yaml.safe_load(text)
    assert VALIDATOR.is_valid(validated)
