"""The registry with plugins that are as they should be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import importlib_metadata
import pytest
from agentd.errors import (
    BlockedPluginError,
    ConfigError,
    MissingPluginError,
    UnknownPluginError,
)
from agentd.hookspecs import GROUPS
from agentd.protocols import Executor, Parser
from agentd.registry import Registry, scan
from agentd_testing import PLUGIN_SOURCES, fake_distribution

Make = Callable[..., Registry]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Install a plugin `name` of a kind into this test's own folder."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def put(kind: str, name: str, distribution: str, source: str | None = None) -> None:
        module = f"fake_{distribution}_{name}".replace("-", "_")
        monkeypatch.delitem(sys.modules, module, raising=False)
        fake_distribution(
            tmp_path,
            distribution,
            entry_points={GROUPS[kind]: {name: module}},
            modules={module: source or PLUGIN_SOURCES[kind]},
        )

    yield put
    for module in set(sys.modules) - before:
        if module.startswith("fake_"):
            del sys.modules[module]


@pytest.fixture
def registry(tmp_path: Path) -> Make:
    """Make a registry over this test's folder, with no environment."""

    def make(**arguments: Any) -> Registry:
        arguments.setdefault("environ", {})
        return Registry(distributions=importlib_metadata.distributions(path=[str(tmp_path)]), **arguments)

    return make


def test_listing_imports_no_plugin(install, registry: Make) -> None:
    install("executor", "ours", "acme-executor", "raise AssertionError('imported')")
    (record,) = registry().records()
    assert (record.name, record.kind, record.distribution) == ("ours", "executor", "acme-executor")
    assert (record.version, record.state, record.error) == ("1.0", "available", "")
    assert "fake_acme_executor_ours" not in sys.modules


def test_records_are_sorted_and_can_be_narrowed_to_a_kind(install, registry: Make) -> None:
    install("parser", "b", "acme-b")
    install("parser", "a", "acme-z")
    install("executor", "x", "acme-x")
    assert [r.name for r in registry().records()] == ["x", "a", "b"]
    assert [r.name for r in registry().records("parser")] == ["a", "b"]
    with pytest.raises(UnknownPluginError, match="did you mean 'parser'"):
        registry().records("parsers")


def test_an_executor_gets_its_resolved_workspace_and_options(install, registry: Make, tmp_path: Path) -> None:
    install("executor", "ours", "acme")
    executor = registry().create_executor("ours", tmp_path / "x" / "..", timeout=3)
    assert isinstance(executor, Executor)
    assert executor.workspace_dir == tmp_path.resolve()
    assert executor.options == {"timeout": 3}  # type: ignore[attr-defined]


def test_loading_is_remembered_and_shown(install, registry: Make) -> None:
    install("executor", "ours", "acme")
    made = registry()
    assert made.load("executor", "ours") is made.load("executor", "ours")
    assert made.records()[0].state == "loaded"
    assert registry().records()[0].state == "available"  # registries share nothing


def test_check_loads_everything(install, registry: Make) -> None:
    install("executor", "ours", "acme-e")
    install("parser", "mine", "acme-p")
    assert {r.state for r in registry().check()} == {"loaded"}


def test_parser_factories_come_in_the_order_of_names_and_make_new_parsers(install, registry: Make) -> None:
    install("parser", "b", "acme-b")
    install("parser", "a", "acme-z")
    factories = [notation.parser for notation in registry().create_notations()]
    assert [type(f()).__module__ for f in factories] == ["fake_acme_z_a", "fake_acme_b_b"]
    assert factories[0]() is not factories[0]()
    assert isinstance(factories[0](), Parser)
    (only,) = [notation.parser for notation in registry().create_notations(["b"])]
    assert type(only()).__module__ == "fake_acme_b_b"


def test_no_parser_names_the_distribution_to_install(registry: Make) -> None:
    with pytest.raises(MissingPluginError, match="pip install agentd-parser-fence"):
        registry().create_notations()


def test_a_tool_source_plugin_is_asked_until_one_takes_the_spec(install, registry: Make) -> None:
    refuses = PLUGIN_SOURCES["tool_source"].replace('"fake:"', '"other:"')
    install("tool_source", "a", "acme-a", refuses)
    install("tool_source", "b", "acme-b")
    (source,) = registry().create_tool_sources("fake:x", {})
    assert type(source).__module__ == "fake_acme_b_b"
    with pytest.raises(ConfigError, match=r"no tool source plugin takes a dict 'files'; asked: 'a', 'b'"):
        registry().create_tool_sources({"name": "files", "env": {"KEY": "secret"}}, {})
    with pytest.raises(ConfigError, match="no tool source plugin takes an int; asked"):
        registry().create_tool_sources(5, {})


def test_no_tool_source_plugin_names_the_bridge(registry: Make) -> None:
    with pytest.raises(MissingPluginError, match="pip install agentd-mcp-bridge"):
        registry().create_tool_sources("https://example.org/mcp?key=secret", {})


def test_an_official_name_that_is_not_installed_names_its_distribution(
    registry: Make, tmp_path: Path
) -> None:
    with pytest.raises(MissingPluginError, match="pip install agentd-executor-srt"):
        registry().create_executor("srt", tmp_path)


def test_an_unknown_name_lists_what_is_installed_and_suggests(
    install, registry: Make, tmp_path: Path
) -> None:
    install("executor", "ours", "acme")
    with pytest.raises(UnknownPluginError, match=r"unknown executor 'our'; installed: 'ours'; did you mean"):
        registry().create_executor("our", tmp_path)
    with pytest.raises(UnknownPluginError, match=r"did you mean 'srt'\? .*pip install agentd-executor-srt"):
        registry().create_executor("srtt", tmp_path)


def test_a_blocked_plugin_is_listed_and_never_imported(install, registry: Make) -> None:
    install("executor", "ours", "acme", "raise AssertionError('imported')")
    made = registry(environ={"AGENTD_PLUGINS_BLOCK": "executor:o*"})
    (record,) = made.check()
    assert record.state == "blocked"
    assert "executor:o*" in record.error
    with pytest.raises(BlockedPluginError, match="the block list of the environment"):
        made.load("executor", "ours")


def test_blocked_parsers_are_not_called_missing(install, registry: Make) -> None:
    install("parser", "fence", "agentd-parser-fence")
    with pytest.raises(BlockedPluginError):
        registry(environ={"AGENTD_PLUGINS_BLOCK": "fence"}).create_notations()


def test_one_module_may_serve_several_entry_points(registry: Make, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    fake_distribution(
        tmp_path,
        "acme",
        entry_points={
            "agentd.parsers": {"a": "fake_shared", "b": "fake_shared"},
            "agentd.executors": {"c": "fake_shared"},
        },
        modules={"fake_shared": PLUGIN_SOURCES["executor"]},
    )
    with (tmp_path / "fake_shared.py").open("a") as file:
        file.write("\n@hookimpl\ndef agentd_create_parser(options):\n    return None\n")
    states = {r.name: r.state for r in registry().check()}
    assert states == {"a": "loaded", "b": "loaded", "c": "loaded"}


def test_a_plugin_may_be_an_instance(registry: Make, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    source = """
        from agentd.hookspecs import hookimpl
        class Plugin:
            AGENTD_API = 1
            @hookimpl
            def agentd_create_event_sink(self, options):
                return self
            def emit(self, event): ...
            def close(self): ...
        plugin = Plugin()
    """
    points = {"agentd.event_sinks": {"mine": "fake_instance:plugin"}}
    fake_distribution(tmp_path, "acme", entry_points=points, modules={"fake_instance": source})
    assert registry().create_event_sink("mine", path="x")


def test_threads_load_a_plugin_once(install, registry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    install("executor", "ours", "acme")
    made = registry()
    start = threading.Barrier(8)
    imports: list[object] = []
    got: list[object] = []

    def import_object(value: str) -> object:
        imports.append(value)
        return scan.import_object(value)

    def load() -> None:
        start.wait()
        got.append(made.load("executor", "ours"))

    monkeypatch.setattr("agentd.registry.table.import_object", import_object)
    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(imports) == 1
    assert len(got) == 8
    assert len(set(map(id, got))) == 1


def test_a_process_scans_once_and_again_when_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    before = {r.name for r in Registry(environ={}).records()}
    points = {"agentd.executors": {"latecomer": "fake_latecomer"}}
    fake_distribution(tmp_path, "acme-late", entry_points=points)
    assert {r.name for r in Registry(environ={}).records()} == before
    assert {r.name for r in Registry(environ={}, refresh=True).records()} == {*before, "latecomer"}


def names_after(put: Callable[[Path], object], tmp_path: Path) -> str:
    """Return what a new process finds of the executors once `put` has installed some; the folder is `sys.path[0]`."""
    put(tmp_path)
    show = (
        "import sys; from agentd import Registry; print(*[r.name for r in Registry().records('executor')]); "
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{show}print('importlib.metadata' in sys.modules)"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "here")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


def acme(folder: Path) -> None:
    points = {"agentd.executors": {"acme_one": "fake_acme"}}
    fake_distribution(folder, "acme-one", entry_points=points, modules={"fake_acme": ""})


def test_folders_are_read_without_importlib_metadata(tmp_path: Path) -> None:
    found, loaded = names_after(lambda folder: acme(folder / "here"), tmp_path).splitlines()
    assert "acme_one" in found.split()
    assert loaded == "False"


def test_a_distribution_in_an_archive_is_found(tmp_path: Path) -> None:
    def put(folder: Path) -> None:
        acme(folder / "packed")
        shutil.make_archive(str(folder / "packed"), "zip", folder / "packed")
        (folder / "packed.zip").rename(folder / "here")

    found, loaded = names_after(put, tmp_path).splitlines()
    assert "acme_one" in found.split()
    assert loaded == "True"


def test_what_an_import_system_of_its_own_finds_is_found(tmp_path: Path) -> None:
    finder = """
        import sys
        from pathlib import Path

        class Finder:
            def find_spec(self, *_):
                return None

            def find_distributions(self, *_):
                from importlib.metadata import Distribution
                return [Distribution.at(path) for path in Path(__file__, "..", "..", "elsewhere").resolve().iterdir()]

        sys.meta_path.append(Finder())
    """

    def put(folder: Path) -> None:
        acme(folder / "elsewhere")
        (folder / "elsewhere" / "fake_acme.py").unlink()
        (folder / "here").mkdir()
        (folder / "here" / "sitecustomize.py").write_text(textwrap.dedent(finder))

    found, loaded = names_after(put, tmp_path).splitlines()
    assert "acme_one" in found.split()
    assert loaded == "True"


@pytest.mark.parametrize(
    "folder",
    [
        "agentd_tools-1.0.dist-info",
        "Agentd.Tools-1.0.egg-info",
        "agentd_tools.egg-info",
        "agentd_tools-1.0-py3.11.egg/EGG-INFO",
    ],
)
def test_a_folder_says_whose_metadata_it_has(folder: str) -> None:
    assert scan.DistributionFolder(f"/somewhere/{folder}").project == "agentd-tools"
