"""The JSON Schema: the one in the documentation is that of the classes, and it and the loader agree."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
import pytest
import yaml
from agentd.daemon import config as classes
from agentd.daemon.loading import examine
from agentd.daemon.schema import make_schema, read_fields
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

ROOT: Final = Path(__file__).parents[3]
EXAMPLES: Final = sorted((ROOT / "docs" / "examples" / "config").glob("*.yaml"))
SCHEMA_FILE: Final = ROOT / "docs" / "reference" / "agents.schema.json"
VALIDATOR: Final = Draft202012Validator(make_schema())


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


def entries(cls: type, **known: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Mappings with keys of a class, mostly, and values that are right more often than not."""
    keys = {field.name: known.get(field.name, ANYTHING) | ANYTHING for field in attrs.fields(cls)}
    needed = {f.name: known.get(f.name, ANYTHING) for f in attrs.fields(cls) if f.default is attrs.NOTHING}
    return st.fixed_dictionaries(
        needed, optional={**{k: v for k, v in keys.items() if k not in needed}, "zz": SCALARS}
    )


SERVERS = st.lists(
    entries(
        classes.ServerConfig,
        command=st.just("x"),
        env_vars=st.lists(st.just("K=V") | WORDS, max_size=2),
        headers=st.dictionaries(st.just("A"), WORDS),
    ),
    max_size=2,
)
SHARED: Final = {
    "model": st.just("m"),
    "mcp_servers": SERVERS,
    "budgets": entries(classes.BudgetsConfig),
    "history": entries(classes.HistoryConfig, rule=st.sampled_from(["drop", "summarise"])),
    "on_error": entries(classes.OnErrorConfig, retries=st.integers(-1, 3)),
}
AGENTS = entries(
    classes.AgentConfig,
    name=st.sampled_from(["a", "a b", "${X}", "x" * 65, "B-1"]),
    subscriptions=st.lists(WORDS | entries(classes.SubscriptionConfig, uri=WORDS), max_size=2),
    **SHARED,
)
FILES = st.fixed_dictionaries(
    {"agents": st.lists(AGENTS, min_size=1, max_size=2)},
    optional={
        "defaults": entries(classes.AgentDefaults, **SHARED),
        "plugins": entries(classes.PluginConfig),
        "state_dir": SCALARS,
        "x-y": ANYTHING,
        "zz": SCALARS,
    },
)

# What the loader refuses and no schema can say, because it is about several values at once.
BEYOND: Final = re.compile(
    "goes with `mode: ptc`|must not be below|does not belong to|is missing: a server|a second time|has the name"
    "|must be a URI such as|no server could have it|of a server of this agent|is the same as"
    "|there is an agent|give it here or under|names no tool|has no '='|no text in UTF-8|must look like tool"
    # what a reference leads to
    "|is not set|is no reference|no closing brace|[$]{X}"
)


def refused_by_schema(data: Mapping[str, Any]) -> bool:
    return not VALIDATOR.is_valid(data)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(FILES | st.dictionaries(st.sampled_from(["agents", "defaults"]), ANYTHING))
def test_what_the_schema_refuses_the_loader_refuses_and_the_other_way_round(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "schema.yaml"
    path.write_text(json.dumps(data))  # JSON is YAML, and all its texts are in quotes
    assume(not re.search(r"[0-9]e", path.read_text()))  # 1e-07 is no number in YAML 1.1
    found = examine(path, environ={"X": "1"})
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
        "model_options": st.dictionaries(GOOD_KEYS, GOOD_TEXT | COUNTS | st.booleans() | st.none(), max_size=3),
        "budgets": st.fixed_dictionaries({}, optional={"max_turns": st.none() | COUNTS, "wall_time_s": NUMBERS}),
    },
)  # fmt: skip


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(GOOD_AGENTS, min_size=1, max_size=3, unique_by=lambda agent: str(agent["name"]).casefold()))
def test_a_valid_configuration_comes_out_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, agents: list[dict[str, Any]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.yaml"
    text = yaml.safe_dump({"agents": agents}, allow_unicode=True, sort_keys=False)
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
