"""A plugin of each kind, and what is said of one whose hook returns the wrong thing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import PluginLoadError
from agentd.hookspecs import GROUPS, HOOKS
from agentd.registry import Registry
from agentd_testing import PLUGIN_SOURCES, fake_distribution

HEAD = "from agentd.hookspecs import hookimpl\nAGENTD_API = 1\n"
MAKE: dict[str, Callable[[Registry, Path], Any]] = {
    "executor": lambda r, d: r.create_executor("fake", d),
    "parser": lambda r, d: r.create_notations(["fake"]),
    "tool_source": lambda r, d: r.create_tool_sources("fake:x"),
    "skill_renderer": lambda r, d: r.create_skill_renderer("fake"),
    "event_sink": lambda r, d: r.create_event_sink("fake"),
    "model": lambda r, d: r.open_model("fake/1"),
    "snapshot_store": lambda r, d: r.create_snapshot_store("fake", d, None, tuple),
    "trigger": lambda r, d: r.create_trigger("fake", {}),
    "command": lambda r, d: r.load("command", "fake"),
}


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Registry]]:
    """Install a plugin `fake` of a kind; return a registry that sees nothing else."""

    def put(kind: str, source: str, *distributions: str) -> Registry:
        for name in distributions or ("acme",):
            value = "fake_plugin:fake" if kind == "command" else "fake_plugin"
            points = {GROUPS[kind]: {"fake": value}}
            fake_distribution(tmp_path, name, entry_points=points, modules={"fake_plugin": source})
        monkeypatch.syspath_prepend(tmp_path)
        return Registry(distributions=metadata.distributions(path=[str(tmp_path)]))

    yield put
    sys.modules.pop("fake_plugin", None)


def test_there_is_a_row_for_every_kind() -> None:
    assert set(MAKE) == set(GROUPS) == set(PLUGIN_SOURCES)


@pytest.mark.parametrize("kind", MAKE)
def test_the_kits_plugin_of_each_kind_works(
    kind: str, install: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = install(kind, PLUGIN_SOURCES[kind])
    assert MAKE[kind](registry, tmp_path)
    assert [(record.kind, record.state) for record in registry.records()] == [(kind, "loaded")]


@pytest.mark.parametrize("kind", [kind for kind in MAKE if kind != "command"])
def test_a_hook_that_returns_the_wrong_thing_is_told_with_its_plugin(
    kind: str, install: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = install(kind, f"{HEAD}@hookimpl\ndef {HOOKS[kind]}(): return 7")
    with pytest.raises(PluginLoadError) as caught:
        MAKE[kind](registry, tmp_path)
    text = str(caught.value)
    assert f"plugin 'fake' of acme failed: {HOOKS[kind]}" in text
    assert "int" in text
    (record,) = registry.records()
    assert record.state == "failed"


@pytest.mark.parametrize("kind", MAKE)
def test_of_two_plugins_of_one_name_one_is_used_and_both_are_told(
    kind: str, install: Callable[..., Registry], tmp_path: Path
) -> None:
    registry = install(kind, PLUGIN_SOURCES[kind], "acme", "zeta")
    assert MAKE[kind](registry, tmp_path)
    used, other = registry.records()
    assert (used.distribution, used.state) == ("acme", "loaded")
    assert (other.distribution, other.state) == ("zeta", "failed")
    assert f"acme and zeta both have the {kind} 'fake'; the one of acme is used" in other.error


def test_what_serves_no_requests_is_told(install: Callable[..., Registry]) -> None:
    more = "\n@hookimpl\ndef agentd_serve_requests(name): return 7\n"
    registry = install("model", f"{HEAD}@hookimpl\ndef agentd_open_model(): ...{more}")
    with pytest.raises(PluginLoadError, match=r"agentd_serve_requests must return a function.*got int"):
        registry.serve_client("m", "http://x", "embeddings")
    with pytest.raises(PluginLoadError, match=r"agentd_serve_requests must return a function.*got int"):
        registry.serve_client("m", "http://x", "chat", {})
