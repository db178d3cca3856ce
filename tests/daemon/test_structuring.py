"""Plain data becomes values, strictly, or every fault is told at once."""

from __future__ import annotations

import attrs
import pytest
from agentd.errors import ConfigError
from agentd.registry.config import PluginConfig
from agentd_daemon.config.structuring import structure
from hypothesis import given, strategies as st


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
