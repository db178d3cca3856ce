"""As an unprivileged user: the same sandbox, without the step that only root needs."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import native
import pytest
from unprivileged import NOBODY, run_as_nobody

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="all other tests run as an unprivileged user already"
)

PROGRAM = """
import json, os, sys
import native
got = {"uid": os.getuid()}
with native.make(sys.argv[1], timeout=30) as executor:
    got["verify"] = executor.verify()
    got["id"] = executor.execute_bash("id -u; whoami; echo x > made")
    got["outside"] = executor.execute_bash(f"cat {sys.argv[2]}; echo x > {sys.argv[2]}")[0]
    got["python"] = executor.execute_python("print(6 * 7)")
    got["killed"] = executor.execute_bash("kill -9 -1; sleep 30")[1]
    got["after"] = executor.execute_bash("echo on")
got["left"] = sorted(os.listdir(sys.argv[1]))
print(json.dumps(got))
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agentd-nobody-") as folder:
        yield Path(folder)


def test_the_sandbox_holds_for_nobody(home: Path) -> None:
    native.need_native()
    outside = home / "outside"
    outside.write_text("s3cr3t")
    os.chown(outside, NOBODY, NOBODY)
    done = run_as_nobody(PROGRAM, str(home / "w"), str(outside), home=home)
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout)
    assert got["uid"] == NOBODY
    assert got["verify"][0] is True, got["verify"]
    assert got["id"] == [f"{NOBODY}\nnobody\n", 0]
    assert "s3cr3t" not in got["outside"]
    assert got["python"] == ["42\n", 0]
    assert got["killed"] != 0
    assert got["after"] == ["on\n", 0]
    assert got["left"] == ["made"]
    assert outside.read_text() == "s3cr3t"
