"""An executor whose microVM is the stand-in, and, on hosts that can boot one, a real one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import microsandbox
import pytest
import standin
from agentd_executor_msb import probes
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from host_processes import command_lines
from kvm import why_no_kvm

Make = Callable[..., MicrosandboxCLIExecutor]


@pytest.fixture(scope="session", autouse=True)
def _msb_home() -> Iterator[None]:
    """Keep what the real SDK and `msb` store away from the person's own; short, for sockets lie in it."""
    folder = tempfile.mkdtemp(prefix="msb-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MSB_HOME", folder)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> type[standin.StandIn]:
    """Put the stand-in in the place of the SDK's `Sandbox`; what it was asked is forgotten before each test."""
    monkeypatch.setenv("AGENTD_STANDIN_HOME", str(tmp_path / "standin"))
    monkeypatch.setattr(microsandbox, "Sandbox", standin.StandIn)
    monkeypatch.setattr(microsandbox, "Snapshot", standin.StandInSnapshot)
    monkeypatch.setattr(probes, "virtualisation_problem", lambda: "")
    monkeypatch.setattr(probes, "unpulled_problem", standin.unpulled_problem)
    standin.StandIn.calls.clear()
    standin.StandIn.created.clear()
    return standin.StandIn


@pytest.fixture
def make(stand_in: type[standin.StandIn], tmp_path: Path) -> Iterator[Make]:
    """Make executors on the stand-in; they are closed at the end."""
    made: list[MicrosandboxCLIExecutor] = []

    def make(workspace: Path | None = None, **options: object) -> MicrosandboxCLIExecutor:
        workspace = workspace or tmp_path / "workspace"
        workspace.mkdir(exist_ok=True)
        defaults: dict[str, object] = {"timeout": 20, "python": standin.GUEST_PYTHON}
        if standin.BWRAP is None:  # plain processes: nothing can be mounted elsewhere
            defaults["guest_dir"] = str(workspace)
        executor = MicrosandboxCLIExecutor(workspace, **{**defaults, **options})  # type: ignore[arg-type]
        made.append(executor)
        return executor

    yield make
    for executor in made:
        executor.close()


@pytest.fixture(params=["stand-in", pytest.param("microVM", marks=pytest.mark.kvm)])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MicrosandboxCLIExecutor]:
    """An executor: every test that takes it runs on the stand-in and, where that can boot, on a microVM."""
    if request.param == "stand-in":
        yield request.getfixturevalue("make")()
        return
    if reason := why_no_kvm():
        pytest.skip(reason)
    with MicrosandboxCLIExecutor(
        tmp_path / "workspace", image=Path(os.environ["AGENTD_TEST_ROOTFS"]), timeout=60
    ) as made:
        yield made


@pytest.fixture
def survivors() -> Callable[[str], list[str]]:
    """A function that lists the command lines of living processes of this host that contain a word."""
    return command_lines
