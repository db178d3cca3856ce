"""The executor `auto`: the sandbox where this machine can run it, and a word where it cannot."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import distribution
from pathlib import Path

import native
import pytest
from agentd import Registry
from agentd.errors import ConfigError, SandboxUnavailableError
from agentd.registry.config import PluginConfig
from agentd_executor_native import choice, requirements, trial
from agentd_executor_native.executor import NativeExecutor
from agentd_executor_subprocess.executor import SubprocessExecutor
from unprivileged import run_as_nobody

Bwrap = Callable[[str], None]


@pytest.fixture(autouse=True)
def _nothing_found_yet() -> Iterator[None]:
    """Each test is a process of its own, as far as the choice goes."""
    trial._found.clear()
    choice._tell.cache_clear()
    yield
    trial._found.clear()
    choice._tell.cache_clear()


@pytest.fixture
def without_bubblewrap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "_FOLDERS", str(tmp_path))


@pytest.fixture
def bwrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bwrap]:
    """Put a program in bubblewrap's place that knows all options and does what is given when it is to start one."""
    # As root, the step before bubblewrap has given up root, and covers /tmp.
    folder = Path(tempfile.mkdtemp(prefix="agentd-tests-", dir="/var/tmp"))
    folder.chmod(0o755)
    monkeypatch.setattr(requirements, "_FOLDERS", str(folder))

    def put(what: str) -> None:
        program = folder / "bwrap"
        options = " ".join(requirements._NEEDED)
        program.write_text(
            f'#!/bin/sh\ncase "$1" in --version|--help) echo bubblewrap 0.11 {options};; *) {what};; esac\n'
        )
        program.chmod(0o755)

    yield put
    shutil.rmtree(folder)


def test_where_the_sandbox_runs_it_is_taken_and_nothing_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    native.need_native()
    with Registry().create_executor("auto", tmp_path, timeout=20) as executor:
        assert isinstance(executor, NativeExecutor)
        assert executor.plugin_name == "native"
        assert executor.limits.timeout_s == 20
        assert executor.execute_bash("test -e /home || echo in") == ("in\n", 0)
    assert caplog.records == []


@pytest.mark.usefixtures("without_bubblewrap")
def test_where_it_does_not_run_that_is_said_once_with_the_remedy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry()
    for _ in range(2):
        with registry.create_executor("auto", tmp_path, state="kept") as executor:
            assert isinstance(executor, SubprocessExecutor)
            assert executor.state == "kept"
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("agentd.executor.auto", logging.WARNING)
    assert "bubblewrap is missing" in record.getMessage()
    assert "apt-get install bubblewrap" in record.getMessage()
    assert "without a sandbox" in record.getMessage()


@pytest.mark.parametrize(
    "said",
    [
        "No permissions to create new namespace, likely because ...",
        "setting up uid map: Permission denied",
        "loopback: Failed RTM_NEWADDR: Operation not permitted",
        "Can't mount proc on /newroot/proc: Operation not permitted",
        "Creating new namespace failed, likely because the kernel does not support user namespaces.",
    ],
)
def test_a_machine_that_refuses_the_sandbox_is_told_and_remembered(
    said: str, bwrap: Bwrap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bwrap(f'echo "bwrap: {said}" >&2; exit 1')
    assert isinstance(Registry().create_executor("auto", tmp_path), SubprocessExecutor)
    assert "the sandbox native cannot run here: " in caplog.text
    bwrap("exit 0")
    assert isinstance(Registry().create_executor("auto", tmp_path), SubprocessExecutor)


@pytest.mark.parametrize(
    "does",
    [
        'echo "bwrap: Creating new namespace failed: Resource temporarily unavailable" >&2; exit 1',
        'echo "bwrap: Creating new namespace failed: nesting depth or max_*_namespaces exceeded (ENOSPC)" >&2; exit 1',
        'echo "bwrap: Can\'t fork: Cannot allocate memory" >&2; exit 1',
        "exit 3",
        "kill -9 $$",
    ],
)
def test_what_has_run_out_is_an_error_and_decides_nothing(
    does: str, bwrap: Bwrap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bwrap(does)
    with pytest.raises(SandboxUnavailableError, match="try again, or choose an executor by its name"):
        Registry().create_executor("auto", tmp_path)
    assert trial._found == {}
    assert caplog.records == []
    bwrap("exit 0")
    assert isinstance(Registry().create_executor("auto", tmp_path), NativeExecutor)


def test_a_bubblewrap_that_cannot_even_say_what_it_is_decides_nothing(bwrap: Bwrap, tmp_path: Path) -> None:
    bwrap("exit 0")
    (Path(requirements._FOLDERS) / "bwrap").write_text("#!/bin/sh\nexit 127\n")
    with pytest.raises(SandboxUnavailableError, match="does not say what it is"):
        Registry().create_executor("auto", tmp_path)
    assert trial._found == {}


def test_once_the_sandbox_ran_nothing_makes_it_go_away(
    bwrap: Bwrap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bwrap("exit 0")
    assert isinstance(Registry().create_executor("auto", tmp_path), NativeExecutor)
    monkeypatch.setattr(requirements, "_FOLDERS", str(tmp_path))
    with Registry().create_executor("auto", tmp_path) as executor:
        assert isinstance(executor, NativeExecutor)
        with pytest.raises(SandboxUnavailableError, match="bubblewrap is missing"):
            executor.execute_bash("true")


@pytest.mark.usefixtures("without_bubblewrap")
@pytest.mark.parametrize(
    "options",
    [{"read": ["/opt"]}, {"write": ["data"]}, {"deny": [".env"]}, {"allowed_hosts": []}, {"secrets": {}},
     {"backend": "auto"}, {"allow_git_config": False}, {"on_host_request": print}],
)  # fmt: skip
def test_without_a_sandbox_what_only_one_can_do_is_refused(
    options: dict[str, object], tmp_path: Path
) -> None:
    with pytest.raises(SandboxUnavailableError, match=f"bubblewrap is missing.*: {next(iter(options))}$"):
        Registry().create_executor("auto", tmp_path, timeout=5, **options)


def test_an_option_that_nobody_has_is_refused_in_any_case(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'tiemout' of the executor 'auto'.*'timeout'"):
        Registry().create_executor("auto", tmp_path, tiemout=5)


@pytest.mark.usefixtures("without_bubblewrap")
def test_a_subprocess_that_is_blocked_or_not_installed_does_not_stand_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocking = Registry(config=PluginConfig(block=("executor:subprocess",)))
    with pytest.raises(
        SandboxUnavailableError, match=r"bubblewrap is missing.*'subprocess' is installed but blocked"
    ):
        blocking.create_executor("auto", tmp_path)
    alone = Registry(distributions=[distribution("agentd-executor-native")])
    with pytest.raises(
        SandboxUnavailableError, match=r"bubblewrap is missing.*pip install agentd-executor-subprocess"
    ):
        alone.create_executor("auto", tmp_path)
    assert caplog.records == []


def test_a_sandbox_that_is_blocked_is_named_with_the_ways_out(bwrap: Bwrap, tmp_path: Path) -> None:
    bwrap("exit 0")
    registry = Registry(config=PluginConfig(allow=("auto", "subprocess")))
    with pytest.raises(
        ConfigError, match=r"takes 'native' .* 'native' is installed but blocked: .*allow it, or"
    ):
        registry.create_executor("auto", tmp_path)


def test_options_for_the_sandbox_alone_reach_it_and_win(bwrap: Bwrap, tmp_path: Path) -> None:
    bwrap("exit 0")
    options = {"timeout": 5, "state": "kept", "native": {"timeout": 7, "deny": [".env"]}}
    executor = Registry().create_executor("auto", tmp_path, **options)
    assert isinstance(executor, NativeExecutor)
    assert (executor.limits.timeout_s, executor.state) == (7, "kept")
    assert executor.deny == (tmp_path / ".env",)
    with pytest.raises(ConfigError, match=r"unknown option 'dney' of the executor 'native'.*'deny'"):
        Registry().create_executor("auto", tmp_path, native={"dney": []})


@pytest.mark.usefixtures("without_bubblewrap")
def test_options_for_the_sandbox_alone_go_nowhere_else(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailableError, match=r"bubblewrap is missing.*for 'native' alone: timeout$"):
        Registry().create_executor("auto", tmp_path, native={"timeout": 5})


def test_a_workspace_that_the_sandbox_refuses_is_an_error_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bwrap: Bwrap
) -> None:
    bwrap("exit 0")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=r"is your home.*a folder of its own.*'subprocess'"):
        Registry().create_executor("auto", tmp_path)
    assert trial._found == {"obstacle": ""}


def test_an_unprivileged_user_gets_the_same_answer(tmp_path: Path) -> None:
    native.need_native()
    tmp_path.chmod(0o755)
    done = run_as_nobody(
        "from agentd_executor_native.trial import obstacle; print(repr(obstacle()))", home=tmp_path
    )
    assert done.stdout == "''\n", done.stderr
