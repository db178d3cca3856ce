"""Runners that were taken over, behind every way in which a runner is held: each harms nobody but itself."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import hostile_runner
import pytest
import sandbox
from agentd_executor_msb.stream import StreamProcess
from agentd_executor_msb.thread import sdk_thread
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_executor_srt.process import start_sandbox
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.host import RunnerProcess, executor, start_runner
from hostile_attack import HostileExecutor, attack
from places import ROOT
from standin import Handle


class AsChild(HostileExecutor):
    """As the executor `subprocess` starts it."""

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        return start_runner(command, env)


class UnderSupervisor(HostileExecutor):
    """As the executor `srt` holds it, with the command where srt would be."""

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        run_dir = self.workspace_dir.parent / "run"
        run_dir.mkdir(exist_ok=True)
        job = {
            "command": list(command),
            "workspace": str(self.workspace_dir),
            "writable": [],
            "giving_s": 1.0,
            "run_dir": str(run_dir),
            "readable": [sys.prefix, sys.base_prefix, str(ROOT)],
            "mark": str(self.workspace_dir.parent / "mark"),
            "stand_ins": {},
            "made": [],
            "home": str(self.workspace_dir),
            "grace_s": 0.5,
        }
        return start_sandbox(job, env)


class InStream(HostileExecutor):
    """As the executor `msb` holds it, with a local process where the microVM's would be."""

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        async def start() -> Handle:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(env),
                start_new_session=True,
            )
            return Handle(process)

        return StreamProcess(sdk_thread(), sdk_thread().run(start()))


class InSrt(SandboxRuntimeExecutor):
    """A real sandbox with the hostile process in it."""

    case = ""

    def runner_command(self) -> list[str]:
        script = [hostile_runner.__file__, self.case]
        code = f"import runpy, sys; sys.argv = {script!r}; runpy.run_path({script[0]!r}, run_name='__main__')"
        return [sys.executable, "-X", "utf8", "-c", code]


@pytest.fixture(scope="module")
def neighbour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SubprocessExecutor]:
    """Another session of the same process."""
    with SubprocessExecutor(tmp_path_factory.mktemp("neighbour"), timeout=20) as made:
        made.execute_bash("true")
        yield made


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "HUNG_MARGIN_S", 0.5)


@pytest.mark.parametrize(
    "kind",
    [
        AsChild,
        pytest.param(UnderSupervisor, marks=pytest.mark.slow),
        pytest.param(InStream, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("case", hostile_runner.CASES)
def test_a_hostile_runner_harms_nobody_but_itself(
    kind: type[HostileExecutor], case: str, tmp_path: Path, neighbour: SubprocessExecutor
) -> None:
    attack(kind, case, tmp_path / "workspace", neighbour)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["exit-deep-object", "output-endless", "calls-with-one-number", "killed"])
def test_a_hostile_runner_in_a_sandbox_harms_nobody_but_itself(
    case: str, tmp_path: Path, neighbour: SubprocessExecutor
) -> None:
    def make(workspace: Path, **options: Any) -> SandboxRuntimeExecutor:
        sandbox.need_srt()
        return InSrt(workspace, srt_path=sandbox.CLI, **options)

    attack(make, case, tmp_path / "workspace", neighbour)
