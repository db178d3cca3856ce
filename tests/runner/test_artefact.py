"""The runner as a zip: it runs where nothing of agentd can be read, and refuses a host of another release."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from agentd.errors import RunnerStartError
from agentd.types import BashAction
from agentd_runner import artefact
from agentd_runner.artefact import NAME, artefact_command, artefact_input, folder_command
from agentd_runner.host import RunnerExecutor, RunnerProcess, spawn
from agentd_runner.inside import frames

BASE = [sys.base_prefix + "/bin/python3", *artefact_command("")[1:]]

SHOW_OURS = """
import sys
print([name for name in sys.modules if "agentd" in name])
print([path for path in sys.path if "agentd_runner" in path or "/fd/" in path])
"""


class Shipped(RunnerExecutor):
    """Sends the artefact through the pipe, as an executor of another machine does."""

    def runner_command(self) -> list[str]:
        return artefact_command(self.python)

    def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
        process = spawn(command, env, cwd="/")
        with open(process.stdin, "wb", closefd=False) as pipe:
            pipe.write(artefact_input())
        return process


def of_release(release: str, *, compares: bool = True) -> bytes:
    """The artefact of another release; one that does not compare it with the host's, if that is wanted."""
    changed = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(artefact.artefact())) as ours,
        zipfile.ZipFile(changed, "w") as theirs,
    ):
        for name in ours.namelist():
            source = ours.read(name)
            if name == f"{NAME}/frames.py":
                assert frames.RELEASE.encode() in source
                source = source.replace(
                    f'RELEASE = "{frames.RELEASE}"'.encode(), f'RELEASE = "{release}"'.encode()
                )
            if name == f"{NAME}/setup.py" and not compares:
                assert b"if release != RELEASE:" in source
                source = source.replace(b"if release != RELEASE:", b"if False:")
            theirs.writestr(name, source)
    return changed.getvalue()


def talk(archive: bytes, hello: Mapping[str, object]) -> list[tuple[int, int, bytes]]:
    """Start an artefact with nothing but a Python installation, say hello, and return what it says."""
    data = b"%010d" % len(archive) + archive + frames.pack(frames.HELLO, 0, json.dumps(hello).encode())
    done = subprocess.run(BASE, input=data, capture_output=True, timeout=20, check=False, env={}, cwd="/")
    assert done.stderr == b""
    return frames.FrameReader(frames.TO_HOST).feed(done.stdout)


def hello(workspace: Path, **more: object) -> dict[str, object]:
    plain = {"version": frames.VERSION, "release": frames.RELEASE, "workspace": str(workspace), "env": {}}
    return {**plain, "limits": {}, "output_bytes": 1000, "grace_s": 1, "token": "t", **more}


def test_it_holds_the_package_s_files_and_nothing_else() -> None:
    with zipfile.ZipFile(io.BytesIO(artefact.artefact())) as archive:
        names = set(archive.namelist())
    sources = [path.relative_to(artefact.INSIDE) for path in artefact.INSIDE.rglob("*.py")]
    sources.append(Path("programs/job"))
    assert names == {"__main__.py"} | {f"{NAME}/{path}" for path in sources}


def test_it_is_the_same_bytes_whenever_it_is_made() -> None:
    assert artefact.artefact.__wrapped__() == artefact.artefact()


def test_it_runs_blocks_where_the_source_tree_cannot_be_seen(tmp_path: Path) -> None:
    with Shipped(tmp_path / "workspace", timeout=20, python=BASE[0]) as executor:
        assert executor.execute_bash("echo from bash") == ("from bash\n", 0)
        assert executor.execute_python(SHOW_OURS) == ("[]\n[]\n", 0)
        assert executor.execute_python("import agentd_runner")[1] == 1
        code = "for n in range(3): print(n)"
        assert executor.execute_bash(f"python3 -c '{code}' | head -1") == ("0\n", 0)
        unbuffered = BashAction(
            command="python3 -c 'import time; print(1, end=\"\"); time.sleep(9)'", timeout_s=1
        )
        assert executor.run_sync(unbuffered).stdout == b"1"
        runner = executor._connection.process.pid  # type: ignore[union-attr]
        if os.access(f"/proc/{runner}/fd", os.R_OK):  # a runner's are closed to all but root
            held = [
                os.readlink(entry) for entry in Path(f"/proc/{runner}/fd").iterdir() if entry.is_symlink()
            ]
            assert not [path for path in held if "agentd-runner" in path]


def test_it_answers_hello_with_its_release(tmp_path: Path) -> None:
    (kind, _, payload), *_ = talk(artefact.artefact(), hello(tmp_path))
    assert kind == frames.READY
    assert json.loads(payload)["release"] == frames.RELEASE


def test_an_artefact_of_another_release_is_refused_with_both_named(tmp_path: Path) -> None:
    (kind, _, payload), *rest = talk(of_release("0.1.2"), hello(tmp_path))
    assert kind == frames.FATAL
    message = json.loads(payload)["message"]
    assert f"the host is of agentd-runner {frames.RELEASE}, this runner of 0.1.2" in message
    assert rest == []


def test_the_user_of_an_executor_reads_both_releases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = of_release("0.1.2")
    monkeypatch.setattr(artefact, "artefact", lambda: other)
    with Shipped(tmp_path / "workspace") as executor, pytest.raises(RunnerStartError) as caught:
        executor.execute_bash("true")
    assert "0.1.2" in str(caught.value)
    assert frames.RELEASE in str(caught.value)


def test_a_runner_that_says_another_release_is_ended_by_the_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = of_release("0.1.2", compares=False)
    monkeypatch.setattr(artefact, "artefact", lambda: other)
    with Shipped(tmp_path / "workspace") as executor, pytest.raises(RunnerStartError) as caught:
        executor.execute_bash("true")
    assert f"it is of agentd-runner 0.1.2, the host of {frames.RELEASE}" in str(caught.value)


def test_a_pipe_that_closes_before_the_artefact_has_arrived_is_told(tmp_path: Path) -> None:
    done = subprocess.run(BASE, input=b"0000001000half", capture_output=True, timeout=20, check=False)
    assert done.returncode == 1
    assert done.stderr == b"the pipe was closed before the runner had arrived\n"


def test_kept_as_a_file_it_is_the_same_runner(tmp_path: Path) -> None:
    file = tmp_path / "agentd-runner.zip"
    file.write_bytes(artefact.artefact())
    data = frames.pack(frames.HELLO, 0, json.dumps(hello(tmp_path)).encode())
    done = subprocess.run(
        [BASE[0], "-I", "-S", "-X", "utf8", str(file)],
        input=data,
        capture_output=True,
        timeout=20,
        check=True,
    )
    (kind, _, _), *_ = frames.FrameReader(frames.TO_HOST).feed(done.stdout)
    assert kind == frames.READY


def test_code_sees_nothing_of_a_runner_that_was_started_from_its_folder(tmp_path: Path) -> None:
    class Local(RunnerExecutor):
        def launch(self, command: Sequence[str], env: Mapping[str, str]) -> RunnerProcess:
            assert list(command) == folder_command(self.python)
            return spawn(command, env, cwd="/")

    with Local(tmp_path / "workspace", timeout=20, python=BASE[0]) as executor:
        assert executor.execute_python(SHOW_OURS) == ("[]\n[]\n", 0)
