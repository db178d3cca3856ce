"""Which executor is taken where nobody names one, and what is said of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import agentd
import pytest
from agentd import ConfigError, Registry, Session
from agentd.registry import defaults as module
from agentd.registry.config import PluginConfig
from agentd.registry.defaults import default_executor, defaults
from agentd.session.resources import SessionResources
from agentd_executor_native.executor import NativeExecutor
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_openai import patch_openai_with_ptc
from openai import OpenAI


@pytest.fixture(autouse=True)
def _nothing_chosen_and_nothing_said() -> Iterator[None]:
    module._tell_that_it_is_no_sandbox.cache_clear()
    yield
    defaults(executor=None)
    module._tell_that_it_is_no_sandbox.cache_clear()


def made(folder: Path, **settings: Any) -> Any:
    """Return the executor that a session would have; nothing starts."""
    return SessionResources(cwd=folder, **settings).executor


def test_the_python_api_takes_subprocess_and_says_once_that_it_is_no_sandbox(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(Session("m", cwd=tmp_path).executor, SubprocessExecutor)
    assert isinstance(Session("m", cwd=tmp_path, executor=None).executor, SubprocessExecutor)
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("agentd.executor.subprocess", logging.WARNING)
    assert "no sandbox" in record.getMessage()
    assert 'executor="native"' in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("how", ["argument", "options", "defaults", "variable"])
def test_whoever_has_chosen_it_is_not_told(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor: Any = {"argument": "subprocess", "options": ("subprocess", {"timeout": 5})}.get(how)
    if how == "defaults":
        defaults(executor="subprocess")
    if how == "variable":
        monkeypatch.setenv("AGENTD_EXECUTOR", "subprocess")
    assert isinstance(made(tmp_path, executor=executor), SubprocessExecutor)
    assert caplog.records == []


def test_the_argument_beats_defaults_which_beat_the_variable_which_beats_subprocess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_EXECUTOR", "native")
    assert isinstance(made(tmp_path), NativeExecutor)
    agentd.defaults(executor=("subprocess", {"timeout": 7}))
    assert made(tmp_path).limits.timeout_s == 7
    assert made(tmp_path, executor_options={"timeout": 8}).limits.timeout_s == 8
    assert isinstance(made(tmp_path, executor="native"), NativeExecutor)
    agentd.defaults(executor=None)
    assert isinstance(made(tmp_path), NativeExecutor)
    monkeypatch.setenv("AGENTD_EXECUTOR", "")
    assert isinstance(made(tmp_path), SubprocessExecutor)


def test_a_patched_client_takes_the_same(tmp_path: Path) -> None:
    defaults(executor=("native", {"timeout": 9}))
    with OpenAI(api_key="none", base_url="http://127.0.0.1:9") as client:
        patch_openai_with_ptc(client, cwd=tmp_path)
        executor = client._agentd.state.resources.executor  # type: ignore[attr-defined]
        assert isinstance(executor, NativeExecutor)
        assert executor.limits.timeout_s == 9
        client.cleanup_ptc()  # type: ignore[attr-defined]


def test_an_error_says_where_the_name_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_EXECUTOR", "natve")
    wrong = r"^AGENTD_EXECUTOR: unknown executor 'natve'; installed: .*; did you mean 'native'\?"
    with pytest.raises(ConfigError, match=wrong):
        made(tmp_path)
    with pytest.raises(ConfigError, match=wrong):
        default_executor(Registry(), sandboxed=True)
    defaults(executor="nowhere")
    with pytest.raises(ConfigError, match=r"^agentd\.defaults: unknown executor 'nowhere'"):
        made(tmp_path)
    with pytest.raises(ConfigError, match=r"^defaults: executor: must be a plugin's name or a pair"):
        defaults(executor=3)  # type: ignore[arg-type]


def test_a_session_without_code_needs_no_executor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_EXECUTOR", "nowhere")
    assert Session("m", cwd=tmp_path, mode="tools").workspace == tmp_path


def test_programs_take_auto_where_it_is_installed_and_may_be_used(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_executor(Registry(), sandboxed=True) == "auto"
    assert caplog.records == []
    alone = Registry(distributions=[distribution("agentd-executor-subprocess")])
    assert default_executor(alone, sandboxed=True) == "subprocess"
    assert "no sandbox" in caplog.text
    blocking = Registry(config=PluginConfig(block=("agentd-executor-native",)))
    assert default_executor(blocking, sandboxed=True) == "subprocess"
    monkeypatch.setenv("AGENTD_EXECUTOR", "srt")
    assert default_executor(Registry(), sandboxed=True) == "srt"


@pytest.mark.parametrize("lists", [{"allow": ("native",)}, {"block": ("executor:auto",)}])
def test_where_only_the_sandbox_may_be_used_programs_take_that(
    lists: dict[str, tuple[str, ...]], caplog: pytest.LogCaptureFixture
) -> None:
    assert default_executor(Registry(config=PluginConfig(**lists)), sandboxed=True) == "native"
    assert caplog.records == []


@pytest.mark.parametrize("sandboxed", [True, False])
def test_where_no_default_may_be_used_the_error_names_those_that_may(
    sandboxed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(config=PluginConfig(allow=("srt",)))
    with pytest.raises(ConfigError, match=r"'subprocess' is blocked; choose one that may be used: 'srt'$"):
        default_executor(registry, sandboxed=sandboxed)
    assert caplog.records == []
