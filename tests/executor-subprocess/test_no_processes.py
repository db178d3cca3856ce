"""What happens where no more processes can be made. Root is not bound by that limit, so this runs as nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

NOBODY = 65534
PYTHON = "/usr/bin/python3"  # as root: the interpreter of the tests may lie where nobody cannot go

PROGRAM = """
import json, resource, sys
sys.path[:0] = json.loads(sys.argv[1])
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd.types import PythonAction

def limit(pids, soft):
    for pid in pids:  # a worker that is ready has a lower hard limit than the others
        hard = resource.prlimit(pid, resource.RLIMIT_NPROC)[1]
        resource.prlimit(pid, resource.RLIMIT_NPROC, (hard if soft is None else soft, hard))

def family(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [pid, *(below for child in file.read().split() for below in family(int(child)))]

with SubprocessExecutor(sys.argv[2], timeout=20) as executor:
    executor.execute_bash("true")
    pid = executor._connection.process.pid
    limit(family(pid), 0)
    limit(family(pid), 0)  # and what came to be meanwhile
    codes = [executor.execute_bash("true")[1] for _ in range(3)]  # the first may find a spare worker
    kept = executor.run_sync(PythonAction(code="1", state="kept"))
    limit(family(pid), None)
    again = executor.execute_bash("echo on")
    same = executor._connection.process.pid == pid
print(json.dumps({"codes": codes, "kept": kept.message, "again": again, "same": same}))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        yield Path(folder)


def test_without_processes_blocks_fail_with_a_reason_and_the_session_outlives_it(home: Path) -> None:
    root = os.geteuid() == 0
    python = PYTHON if root else sys.executable
    version = "import sys; print(sys.version_info[:2])"
    found = subprocess.run([python, "-c", version], capture_output=True, text=True, check=False).stdout
    if found.strip() != str(sys.version_info[:2]):
        pytest.skip(f"needs {python} of version {sys.version_info[0]}.{sys.version_info[1]}")
    paths = [path for path in sys.path if "site-packages" in path or path.endswith("/src")]
    done = subprocess.run(
        [python, "-c", PROGRAM, json.dumps(paths), str(home / "w")],
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if root else {}),
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["codes"][1:] == [137, 137]
    assert "no process could be made" in got["kept"]
    assert (got["again"], got["same"]) == (["on\n", 0], True)
