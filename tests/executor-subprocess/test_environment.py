"""What code sees of the host, and what it may use."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from agentd.errors import ConfigError, WorkspaceError
from agentd.types import BashAction, Limits, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor, from_options
from agentd_runner.artefact import INSIDE
from agentd_skills import layout_of


def test_no_secret_of_the_host_is_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-s3cr3t-one")
    monkeypatch.setenv("MY_TOKEN", "s3cr3t-two")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cr3t-three@proxy.invalid")
    with SubprocessExecutor(tmp_path, env={"WANTED": "yes"}) as executor:
        for output, _ in (
            executor.execute_bash("env"),
            executor.execute_python("import os; print(dict(os.environ))"),
            executor.execute_bash("cat /proc/$PPID/environ | tr '\\0' '\\n'"),
        ):
            assert "s3cr3t" not in output
        assert executor.execute_bash("echo $WANTED") == ("yes\n", 0)


def test_a_name_that_is_no_variable_in_bash_is_not_read_as_code(tmp_path: Path) -> None:
    env = {"A;echo x >planted": "1", "LC_$(echo x >planted)": "2", "A.B": "3", "GOOD": "4"}
    with SubprocessExecutor(tmp_path, env=env) as executor:
        for _ in range(2):  # the second time with a state
            assert executor.execute_bash("echo $GOOD; ls") == ("4\n", 0)
        assert executor.execute_python("import os; print(os.environ['A.B'])") == ("3\n", 0)


def test_two_executors_do_not_share_a_variable(tmp_path: Path) -> None:
    """0.8.6: environment globals let one client's code reach another's server."""
    with SubprocessExecutor(tmp_path / "a") as one, SubprocessExecutor(tmp_path / "b") as two:
        first, second = (
            e.execute_bash("echo $AGENTD_TOOLS_TOKEN $AGENTD_TOOLS_SOCKET")[0] for e in (one, two)
        )
        assert not set(first.split()) & set(second.split())


def test_the_interpreter_is_ours_and_first_on_path(executor: SubprocessExecutor) -> None:
    output, _ = executor.execute_bash("command -v python; python -c 'import sys; print(sys.executable)'")
    assert output.split() == [str(Path(sys.executable).parent / "python")] * 2


def test_another_interpreter_can_be_chosen_by_its_path(tmp_path: Path) -> None:
    base = os.path.realpath(sys.executable)
    with SubprocessExecutor(tmp_path, python=base) as executor:
        assert executor.execute_python("import sys; print(sys.executable)") == (f"{base}\n", 0)
    with pytest.raises(ConfigError, match="absolute path"):
        SubprocessExecutor(tmp_path, python="python3")


def test_skills_stand_last_on_path_so_that_nothing_there_takes_a_command_s_place(tmp_path: Path) -> None:
    """0.8.6: `skills/` in front of the host's PATH let sandboxed code plant `node`."""
    before = os.environ["PATH"]
    skills = tmp_path / "skills"
    (skills / "bin").mkdir(parents=True)
    planted = skills / "bin" / "ls"
    planted.write_text("#!/bin/sh\necho planted\n")
    planted.chmod(0o755)
    with SubprocessExecutor(tmp_path) as executor:
        executor.attach(tools=None, layout=layout_of(skills))
        ours = f"{INSIDE}/programs"  # of the command `job`
        assert executor.execute_bash("ls; echo $PATH | rev | cut -d: -f1,2 | rev") == (
            f"skills\n{skills}/bin:{ours}\n",
            0,
        )
    assert os.environ["PATH"] == before


def test_the_host_listens_on_no_port(executor: SubprocessExecutor) -> None:
    executor.execute_bash("true")
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    ours = set()
    for pid in (os.getpid(), executor._connection.process.pid):  # type: ignore[union-attr]
        if not os.access(f"/proc/{pid}/fd", os.R_OK):  # the runner's are closed to all but root
            continue
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            try:
                ours.add(os.readlink(descriptor))
            except OSError:
                continue
    assert not ours & inodes


def test_the_worker_holds_none_of_the_runner_s_descriptors(executor: SubprocessExecutor) -> None:
    with socket.socket() as extra:
        extra.set_inheritable(True)
        output, _ = executor.execute_python("import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))")
    assert set(eval(output)) - {0, 1, 2, 90} <= {3}  # 3: the listing itself


def test_resource_limits_hold(tmp_path: Path) -> None:
    limits = Limits(memory_mib=200, file_mib=1, open_files=64, cpu_s=1)
    with SubprocessExecutor(tmp_path, limits=limits) as executor:
        assert "MemoryError" in executor.execute_python("bytearray(10**9)")[0]
        output, code = executor.execute_bash("head -c 3000000 /dev/zero > big; stat -c %s big")
        assert "1048576" in output
        assert executor.execute_python("open('big2', 'wb').write(b'x' * 3000000)")[1] == 1
        assert executor.execute_bash("ulimit -n")[0] == "64\n"
        result = executor.run_sync(PythonAction(code="while True: pass", timeout_s=20))
        assert "SIGXCPU" in result.message or result.exit_code == 137
        assert code == 0


@pytest.mark.slow
def test_a_fork_bomb_is_ended_with_its_block(tmp_path: Path) -> None:
    # Bounded by itself, for a machine on which the limit would not hold: 2^9 processes.
    code = "import os, time\nfor _ in range(9):\n    try: os.fork()\n    except OSError: pass\ntime.sleep(30)"
    with SubprocessExecutor(tmp_path, limits=Limits(grace_s=0.2)) as executor:
        assert executor.run_sync(PythonAction(code=code, timeout_s=2)).status == "timeout"
        assert executor.execute_bash("echo on") == ("on\n", 0)


def test_a_folder_for_temporary_files_that_others_use_is_not_the_session_s(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    limits = Limits(workspace_mib=20)
    with SubprocessExecutor(tmp_path / "w", limits=limits, env={"TMPDIR": str(shared)}) as executor:
        code = "import os, time; os.posix_fallocate(os.open(os.environ['TMPDIR'] + '/x', 66), 0, 60 << 20)"
        result = executor.run_sync(PythonAction(code=code + "; time.sleep(1.2)"))
    assert result.status == "completed", result.message


@pytest.mark.network
def test_pip_install_lands_in_the_workspace_and_is_there_for_the_next_block(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, timeout=100) as executor:
        output, code = executor.execute_bash("pip install -q --no-deps iniconfig==2.0.0")
        if code and "No matching distribution" in output:
            pytest.skip("needs a package registry that pip can reach")
        assert code == 0, output
        where = str(tmp_path / ".agentd" / "site" / "iniconfig")
        assert executor.execute_python("import iniconfig; print(iniconfig.__file__)")[0].startswith(where)
        assert executor.execute_bash("python -c 'import iniconfig; print(iniconfig.__file__)'")[0].startswith(
            where
        )
    import iniconfig

    assert not str(iniconfig.__file__).startswith(str(tmp_path))


def test_a_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WorkspaceError, match="file"):
        SubprocessExecutor(tmp_path / "file")


def test_an_unknown_option_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'timeout'"):
        from_options(tmp_path, {"timeot": 3})


def test_limits_may_come_as_plain_data(tmp_path: Path) -> None:
    with from_options(tmp_path, {"limits": {"open_files": 99}}) as executor:
        assert executor.execute_bash("ulimit -n") == ("99\n", 0)
    with pytest.raises(ConfigError, match="open_file"):
        from_options(tmp_path, {"limits": {"open_file": 99}})


def test_a_full_disk_in_the_workspace_keeps_the_old_file_and_the_session(tmp_path: Path) -> None:
    import subprocess

    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("needs root, to mount a small tmpfs")
    try:
        with SubprocessExecutor(disk) as executor:
            assert executor.create_file("kept.txt", "old") == "created kept.txt (3 bytes)"
            message = executor.create_file("kept.txt", "x" * 10**6)
            assert "No space left" in message
            assert "nothing was changed" in message
            output, code = executor.execute_bash("cat kept.txt; head -c 1000000 /dev/zero > fill")
            assert output.startswith("old")
            assert "No space left" in output
            assert code == 1
            told = ""
            for _ in range(100):  # a look at the disk comes in one of them, or in the pause after it
                result = executor.run_sync(BashAction(command="sleep 0.3; echo still here"))
                assert result.stdout == b"still here\n", "it has added nothing"
                told = result.message
                if told:
                    break
            assert "and the disk has only 0 MiB left. Delete files first" in told
    finally:
        subprocess.run(["umount", str(disk)], check=True)


PRINTING = "import time\nfor n in range(5): print('line', n)\n"


def test_a_python_whose_reader_has_left_is_as_silent_as_in_an_ordinary_shell(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, timeout=20) as executor:
        executor.create_file("x.py", PRINTING)
        command = (
            "set -o pipefail; python3 x.py | head -3; echo $?; python3 x.py | (sleep 0.3; true); echo $?"
        )
        assert executor.execute_bash(command) == ("line 0\nline 1\nline 2\n0\n0\n", 0)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_python_prints_is_there_when_it_is_ended(tmp_path: Path, stream: str) -> None:
    script = f"import sys, time\nsys.{stream}.write('no newline')\ntime.sleep(30)\n"
    with SubprocessExecutor(tmp_path, timeout=1) as executor:
        executor.create_file("x.py", script)
        result = executor.run_sync(BashAction(command="python3 x.py"))
        assert (getattr(result, stream), result.status) == (b"no newline", "timeout")
        code = "import subprocess, sys; subprocess.run([sys.executable, 'x.py'])"
        result = executor.run_sync(PythonAction(code=code, state="kept"))
        assert (getattr(result, stream), result.status) == (b"no newline", "timeout")


def test_redirected_output_keeps_its_encoding_and_the_session_s_end_leaves_nothing(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, timeout=20) as executor:
        printing = 'print("\\xe9\\u20ac"); print(1, file=open(1, "w", closefd=False))'
        command = f"export PYTHONIOENCODING=latin-1:replace; python3 -c '{printing}'"
        assert executor.run_sync(BashAction(command=command)).stdout == b"\xe9?\n1\n"
        temporary = executor.execute_bash("echo $TMPDIR")[0].strip()
        assert Path(temporary).is_dir()
    assert not Path(temporary).exists()
    assert not (tmp_path / ".agentd").exists()
