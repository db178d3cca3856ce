"""A runner that cannot enter its sandbox says why: its process has given up its streams by then."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

_ENTER = """
import os, socket
from agentd_executor_native.sandbox_fork import RunnerFork

fork = RunnerFork.__new__(RunnerFork)  # no PID namespace is needed for what fails before it
fork._socket, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
fork._pid = 0
job = {"before": ["--proc", "/proc"], "after": [], "kept": [], "uid": 1, "filter": b"", "port": None}
"""


@pytest.mark.parametrize(
    ("enter", "told"),
    [
        ('fork.enter({**job, "before": []}, print)', "ValueError: '--proc' is not in list"),
        ("fork.enter(job, lambda job: os.write(1, b'the sandbox is there'))", "ModuleNotFoundError: "),
    ],
    ids=["before its streams are given up", "behind that"],
)
def test_what_nobody_foresaw_is_told_where_the_host_reads_it(enter: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_ENTER) + enter],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (125, "")
    assert done.stderr.startswith(f"agentd: the runner cannot enter its sandbox: {told}")
