"""Allow and block lists, and the strict reading of settings."""

from __future__ import annotations

from pathlib import Path

import attrs
import importlib_metadata
import pytest
from agentd.config import PluginConfig, normalize, structure
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd.testing import fake_distribution
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize("entry", ["srt", "executor:srt", "Acme_Sandbox", "acme-*", "s?t", "executor:*"])
def test_an_entry_is_a_name_a_kind_with_a_name_or_a_distribution(entry: str) -> None:
    allowing, blocking = PluginConfig(allow=(entry,)), PluginConfig(block=(entry,))
    assert not allowing.objection("executor", "srt", "acme-sandbox")
    assert blocking.objection("executor", "srt", "acme-sandbox")
    assert allowing.objection("parser", "fence", "other")
    assert not blocking.objection("parser", "fence", "other")


def test_block_wins_over_allow() -> None:
    assert PluginConfig(allow=("srt",), block=("srt",)).objection("executor", "srt", "acme")


def test_no_allow_list_allows_all_and_an_empty_one_none() -> None:
    assert not PluginConfig().objection("executor", "srt", "acme")
    assert PluginConfig(allow=()).objection("executor", "srt", "acme")


def test_what_belongs_to_core_needs_no_allowing_but_can_be_blocked() -> None:
    assert not PluginConfig(allow=()).objection("event_sink", "console", "agentd-core")
    assert PluginConfig(block=("console",)).objection("event_sink", "console", "agentd-core")


def test_environment_variables_are_lists_with_commas_and_empty_means_unset() -> None:
    environ = {"AGENTD_PLUGINS_ALLOW": " a, b,,", "AGENTD_PLUGINS_BLOCK": "c"}
    assert PluginConfig.from_environ(environ) == PluginConfig(allow=("a", "b"), block=("c",))
    assert PluginConfig.from_environ({"AGENTD_PLUGINS_ALLOW": ""}) == PluginConfig()


@pytest.mark.parametrize(
    ("config", "environ", "allowed"),
    [
        (PluginConfig(), {}, "abc"),
        (PluginConfig(allow=("a", "b")), {"AGENTD_PLUGINS_ALLOW": "b,c"}, "b"),
        (PluginConfig(block=("a",)), {"AGENTD_PLUGINS_BLOCK": "b"}, "c"),
        (PluginConfig(allow=("a", "b")), {"AGENTD_PLUGINS_BLOCK": "b"}, "a"),
        (PluginConfig(block=("b",)), {"AGENTD_PLUGINS_ALLOW": "b,c"}, "c"),
    ],
)
def test_config_and_environment_combine(
    config: PluginConfig, environ: dict[str, str], allowed: str, tmp_path: Path
) -> None:
    points = {"agentd.executors": {name: f"module_{name}" for name in "abc"}}
    fake_distribution(tmp_path, "acme", entry_points=points)
    found = importlib_metadata.distributions(path=[str(tmp_path)])
    records = Registry(config=config, environ=environ, distributions=found).records()
    assert "".join(r.name for r in records if r.state == "available") == allowed
    assert all(r.error for r in records if r.state == "blocked")


# --- strict reading ----------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Inner:
    size_mib: int
    ratio: float = 0.5


@attrs.frozen(kw_only=True)
class Outer:
    name: str
    plugins: PluginConfig = attrs.field(factory=PluginConfig)
    inner: tuple[Inner, ...] = ()
    keep: bool = False


def test_data_becomes_values() -> None:
    data = {"name": "x", "plugins": {"allow": ["a"]}, "inner": [{"size_mib": 1, "ratio": 2}], "keep": True}
    assert structure(data, Outer) == Outer(
        name="x", plugins=PluginConfig(allow=("a",)), inner=(Inner(size_mib=1, ratio=2.0),), keep=True
    )
    assert structure({"name": "x", "plugins": {"allow": None}}, Outer).plugins.allow is None
    assert structure({"name": "x", "plugins": {"allow": []}}, Outer).plugins.allow == ()


def test_all_errors_come_at_once_each_with_its_path() -> None:
    data = {
        "name": 7,
        "plugins": {"alow": ["a"], "allow": ["a", 7], "block": "-y"},
        "inner": [{"size_mib": 1}, {"size_mib": "1"}, {"ratio": True}, 5],
        "keep": "yes",
    }
    with pytest.raises(ConfigError) as caught:
        structure(data, Outer, where="agents.yaml")
    assert set(str(caught.value).splitlines()) == {
        "agents.yaml: name: must be a string, got 7",
        "agents.yaml: plugins.alow: unknown key; allowed: allow, block; did you mean 'allow'?",
        "agents.yaml: plugins.allow[1]: must be a string, got 7",
        "agents.yaml: plugins.block: must be a list, got '-y'",
        "agents.yaml: inner[1].size_mib: must be a whole number, got '1'",
        "agents.yaml: inner[2].size_mib: is missing",
        "agents.yaml: inner[2].ratio: must be a number, got True",
        "agents.yaml: inner[3]: must be a mapping, got 5",
        "agents.yaml: keep: must be true or false, got 'yes'",
    }


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(plain | st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "plugins", "inner", "keep"), plain)))
def test_whatever_is_written_gives_values_or_a_config_error(data: object) -> None:
    try:
        outer = structure(data, Outer)
    except ConfigError:
        return
    assert type(outer.name) is str
    assert type(outer.keep) is bool


@given(st.text(alphabet="aB-_.1", min_size=1))
def test_normalizing_twice_changes_nothing(name: str) -> None:
    assert normalize(normalize(name)) == normalize(name)
