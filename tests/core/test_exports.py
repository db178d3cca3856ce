"""`from agentd import NAME`: core's names, plugins' names, and names that are missing."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import agentd
import pytest
from agentd.errors import BlockedPluginError, MissingPluginError, PluginLoadError
from agentd.registry.official import OFFICIAL_EXPORTS
from agentd_testing import PLUGIN_SOURCES, fake_distribution

COMPATIBLE = {
    "patch_openai_with_ptc", "patch_openai_with_mcp", "display_events", "display_events_async",
    "TextDelta", "CodeExecution", "TurnEnd", "tool", "ConversationLog",
    "create_sandbox_runtime_executor", "SandboxRuntimeExecutor", "create_microsandbox_cli_executor",
    "MicrosandboxCLIExecutor", "SubprocessExecutor",
}  # fmt: skip
"""What users of agentd 0.8 import."""


def run(code: str, **environ: str) -> subprocess.CompletedProcess[str]:
    keep = {k: v for k, v in os.environ.items() if not k.startswith("AGENTD_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**keep, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_every_name_of_old_is_known() -> None:
    assert {*agentd.CORE_EXPORTS, *OFFICIAL_EXPORTS} >= COMPATIBLE


def test_all_is_the_table_and_the_type_checkers_see_the_same() -> None:
    assert sorted(agentd.__all__) == sorted({*agentd.CORE_EXPORTS, "__version__"})
    tree = ast.parse(Path(agentd.__file__).with_suffix(".pyi").read_text())
    typed: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("agentd."):
            for name in [alias.name for alias in node.names]:
                every = importlib.import_module(node.module).__all__ if name == "*" else [name]
                typed |= dict.fromkeys(every, node.module)
    assert typed == agentd.CORE_EXPORTS


@pytest.mark.parametrize("name", sorted(agentd.CORE_EXPORTS))
def test_every_public_name_is_there_and_is_public_where_it_lives(name: str) -> None:
    module = importlib.import_module(agentd.CORE_EXPORTS[name])
    assert getattr(agentd, name) is getattr(module, name)
    assert name in module.__all__


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert agentd.__version__ == version("agentd-core")


def test_dir_lists_core_and_installed_plugins(tmp_path: Path) -> None:
    fake_distribution(tmp_path, "acme", entry_points={"agentd.exports": {"acme_thing": "acme_module:thing"}})
    done = run(
        "import agentd; print('acme_thing' in dir(agentd), 'Session' in dir(agentd))",
        PYTHONPATH=str(tmp_path),
    )
    assert done.stdout.split() == ["True", "True"], done.stderr


def test_an_unknown_name_is_an_attribute_error_with_a_suggestion() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Sesion'; did you mean 'Session'"):
        _ = agentd.Sesion
    assert not hasattr(agentd, "__wrapped__")
    assert not hasattr(agentd, "nothing_like_it")


@pytest.mark.parametrize("name", sorted(OFFICIAL_EXPORTS))
def test_a_name_of_a_missing_plugin_gives_the_pip_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentd.registry.scan.scan", lambda **_: ())
    monkeypatch.delitem(vars(agentd), name, raising=False)
    with pytest.raises(ImportError, match=f"pip install {OFFICIAL_EXPORTS[name]}") as caught:
        exec(f"from agentd import {name}")
    assert isinstance(caught.value, MissingPluginError)


def test_the_traceback_of_a_missing_import_shows_the_command(tmp_path: Path) -> None:
    hide = "import agentd.registry.scan as s; s.scan = lambda **_: (); "
    done = run(f"{hide}from agentd import create_sandbox_runtime_executor")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "agentd.errors.MissingPluginError: 'create_sandbox_runtime_executor' comes with the distribution "
        "'agentd-executor-srt', which is not installed; install it with: pip install agentd-executor-srt"
    )


def test_an_older_distribution_that_lacks_a_name_is_told_with_its_version_and_the_one_that_is_needed(
    tmp_path: Path,
) -> None:
    fake_distribution(tmp_path, "agentd-policy", entry_points={}, version="0.9.1")
    code = (
        "from agentd.errors import MissingPluginError; print(MissingPluginError('--policy', 'agentd-policy'))"
    )
    done = run(code, PYTHONPATH=str(tmp_path))
    assert done.stdout == (
        "'--policy' comes with the distribution 'agentd-policy', of which 0.9.1 is installed; "
        f"install it with: pip install agentd-policy=={agentd.__version__}\n"
    )
    hide = "import agentd.registry.scan as s; s.scan = lambda **_: (); "
    done = run(f"{hide}from agentd import create_policy", PYTHONPATH=str(tmp_path))
    assert "of which 0.9.1 is installed; install it with: pip install agentd-policy==" in done.stderr
    fake_distribution(tmp_path / "half", "agentd-gone", entry_points={}, metadata=False)
    done = run(code.replace("agentd-policy", "agentd-gone"), PYTHONPATH=str(tmp_path / "half"))
    assert "which is not installed; install it with: pip install agentd-gone\n" in done.stdout


# --- names that plugins add --------------------------------------------------------------------


def put(
    folder: Path, name: str, value: str, *, distribution: str = "acme", source: str = "thing = 42"
) -> str:
    fake_distribution(
        folder,
        distribution,
        entry_points={"agentd.exports": {name: value}, "agentd.executors": {"acme": "acme_module"}},
        modules={"acme_module": source},
    )
    return str(folder)


def test_a_plugin_adds_a_name(tmp_path: Path) -> None:
    path = put(tmp_path, "acme_thing", "acme_module:thing")
    done = run("from agentd import acme_thing; print(acme_thing)", PYTHONPATH=path)
    assert done.stdout == "42\n", done.stderr


def test_a_plugin_cannot_take_a_name_of_core(tmp_path: Path) -> None:
    path = put(tmp_path, "Registry", "acme_module:thing")
    done = run("from agentd import Registry; print(Registry.__module__)", PYTHONPATH=path)
    assert done.stdout == "agentd.registry.registry\n", done.stderr


def test_a_stranger_cannot_take_an_official_name(tmp_path: Path) -> None:
    path = put(tmp_path, "MicrosandboxCLIExecutor", "acme_module:thing", distribution="aaa")
    done = run("from agentd import MicrosandboxCLIExecutor as x; print(x)", PYTHONPATH=path)
    assert done.stdout != "42\n"


def test_a_broken_export_names_its_distribution(tmp_path: Path) -> None:
    path = put(tmp_path, "acme_thing", "acme_module:thing", source="raise SystemExit(9)")
    done = run("from agentd import acme_thing", PYTHONPATH=path)
    assert (
        f"{PluginLoadError.__name__}: the export plugin 'acme_thing' of acme failed: SystemExit: 9"
        in done.stderr
    )


def test_an_export_of_a_blocked_plugin_is_blocked(tmp_path: Path) -> None:
    path = put(tmp_path, "acme_thing", "acme_module:thing", source=PLUGIN_SOURCES["executor"])
    done = run("from agentd import acme_thing", PYTHONPATH=path, AGENTD_PLUGINS_BLOCK="executor:acme")
    assert BlockedPluginError.__name__ in done.stderr


@pytest.mark.parametrize("name", ["Budget", "Sesion", "patch_openai_with_pct"])
def test_an_import_of_a_wrong_name_suggests_the_right_one(name: str) -> None:
    done = run(f"from agentd import {name}")
    assert done.stderr.splitlines()[-1].startswith(
        f"ImportError: cannot import name '{name}' from 'agentd'; did you mean"
    )


def test_modules_are_imported_from_the_package_though_names_look_like_them() -> None:
    done = run(
        "from agentd import session, errors, types; import agentd; print(session, hasattr(agentd, 'Budget'))"
    )
    assert done.stdout.endswith("False\n"), done.stderr
