"""Allow and block lists, and the strict reading of settings."""

from __future__ import annotations

from pathlib import Path

import importlib_metadata
import pytest
from agentd.registry import Registry
from agentd.registry.config import PluginConfig
from agentd.registry.official import normalize
from agentd_testing import fake_distribution
from hypothesis import given, strategies as st


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


@given(st.text(alphabet="aB-_.1", min_size=1))
def test_normalizing_twice_changes_nothing(name: str) -> None:
    assert normalize(normalize(name)) == normalize(name)
