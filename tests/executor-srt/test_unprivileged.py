"""As an unprivileged user: the same sandbox, without anything that only root can do."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sandbox
from unprivileged import NOBODY, run_as_nobody

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="all other tests run as an unprivileged user already"
)

# Takes what there is of it, and gives it back at once.
INOTIFY = """
import ctypes, os
libc = ctypes.CDLL(None)
taken = []
while (descriptor := libc.inotify_init1(0)) >= 0:
    taken.append(descriptor)
print(len(taken))
for descriptor in taken:
    os.close(descriptor)
"""
PROGRAM = """
import json, os, sys
import sandbox
from agentd.errors import RunnerDiedError
got = {"uid": os.getuid()}
with sandbox.make(sys.argv[1], deny_read=[sys.argv[2]], timeout=30) as executor:
    got["verify"] = executor.verify()
    got["id"] = executor.execute_bash("id -u; echo x > made; cp /bin/true t; chmod 4755 t 2>&1 || true")
    got["outside"] = executor.execute_bash(f"echo x > {sys.argv[2]}; cat {sys.argv[2]}")[1]
    got["python"] = executor.execute_python("print(6 * 7)")
    got["inotify"] = int(executor.execute_python(sys.argv[3])[0])
    try:
        executor.execute_bash("kill -9 -1; sleep 30")
    except RunnerDiedError:
        got["after"] = executor.execute_bash("echo on")[0]
got["left"] = sorted(os.listdir(sys.argv[1]))
got["mode"] = os.stat(sys.argv[1] + "/t").st_mode & 0o7777
print(json.dumps(got))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agentd-nobody-") as folder:
        yield Path(folder)


@pytest.mark.slow
def test_the_sandbox_holds_for_nobody(home: Path) -> None:
    sandbox.need_srt()
    outside = home / "outside"
    outside.write_text("s3cr3t")
    os.chown(outside, NOBODY, NOBODY)
    done = run_as_nobody(PROGRAM, str(home / "w"), str(outside), INOTIFY, home=home)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["uid"] == NOBODY
    assert got["verify"][0] is True, got["verify"]
    assert got["id"] == [f"{NOBODY}\nchmod: changing permissions of 't': Operation not permitted\n", 0]
    assert got["outside"] == 1
    assert got["python"] == ["42\n", 0]
    most = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    assert 0 < got["inotify"] <= most // 2
    assert got["after"].startswith("on\n")
    assert got["left"] == ["made", "t"]
    assert got["mode"] == 0o755
    assert outside.read_text() == "s3cr3t"
