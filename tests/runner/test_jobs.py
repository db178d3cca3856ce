"""Jobs, at the runner's two borders: what its host is told first, and what a supervisor knows that comes late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd_runner import artefact
from agentd_runner.inside import frames

from tests.runner.test_artefact import BASE, hello

PACKAGE = Path(artefact.INSIDE).parents[1]

# The worker has ended, and left a process, before its supervisor looks for the first time.
LATE = """\
import os, socket, sys, time
sys.path.insert(0, sys.argv[1])
from agentd_runner.inside import processes
from agentd_runner.inside.supervisor import COMMAND, LEFT_OVER_S, ActionSupervisor
processes.adopt_orphans(processes.load_prctl())
ours, theirs = socket.socketpair()
for letter in sys.argv[2]:
    ours.send(COMMAND.pack(letter.encode(), 0.0))
worker = os.fork()
if worker == 0:
    if os.fork() == 0:
        time.sleep(LEFT_OVER_S * 8)
        os.write(1, b"lasted ")
    os._exit(0)
os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
ActionSupervisor(theirs, worker, sys.maxsize).supervise()
os.write(1, ours.recv(512).rpartition(b"\\n")[2])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sub-reapers are Linux's")
@pytest.mark.parametrize(("said", "lasts"), [("", False), ("C", False), ("J", True), ("CJ", True)])
def test_what_was_said_of_a_job_counts_if_its_first_process_has_ended_already(said: str, lasts: bool) -> None:
    command = [sys.executable, "-c", LATE, str(PACKAGE), said]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert done.stderr == b""
    lasted, _, report = done.stdout.rpartition(b"[")
    killed = json.loads(b"[" + report)[3]
    assert (lasted, killed) == ((b"lasted ", 0) if lasts else (b"", 1))


def test_the_host_is_told_of_a_job_before_its_block_is_answered(tmp_path: Path) -> None:
    header = json.dumps({"type": "bash", "job": "one"}).encode()
    payload = frames.U32.pack(len(header)) + header + b"exec sleep 20"
    with subprocess.Popen(BASE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}, cwd="/") as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None
        archive = artefact.artefact()
        greeting = json.dumps(
            hello(tmp_path, jobs=1, job_output_bytes=1000, env={"PATH": os.defpath})
        ).encode()
        runner.stdin.write(b"%010d" % len(archive) + archive + frames.pack(frames.HELLO, 0, greeting))
        runner.stdin.write(frames.pack(frames.RUN, 1, payload))
        runner.stdin.flush()
        reader, told = frames.FrameReader(frames.TO_HOST), list[int]()
        while frames.EXIT not in told and (data := runner.stdout.read1(frames.MESSAGE_SIZE)):
            told += [kind for kind, _, _ in reader.feed(data)]
        runner.stdin.write(frames.pack(frames.END, 0, b""))
    assert told == [frames.READY, frames.JOB, frames.EXIT]
    assert runner.returncode == 0
