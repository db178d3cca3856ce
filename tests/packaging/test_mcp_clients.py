"""`agentd mcp` is driven by fastmcp's client, of an environment of its own: its dependencies are not those of this one.

That of the MCP SDK and those of openai-agents drive it in tests/mcp-server."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import venv
from contextlib import ExitStack
from pathlib import Path

import pytest
from mcp_serving import command, served, shop

HERE = Path(__file__).parent
ENVIRONMENT = HERE.parents[1] / ".cache" / "envs" / "fastmcp"
VERSIONS = HERE / "fastmcp.txt"

pytestmark = [pytest.mark.packaging, pytest.mark.network, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def fastmcp_python() -> Path:
    """The interpreter of the environment, which is made if it is not there as it should be."""
    stamp, python = ENVIRONMENT / ".ready", ENVIRONMENT / "bin" / "python"
    made_of = hashlib.sha256(sys.version.encode() + VERSIONS.read_bytes()).hexdigest()
    if not stamp.is_file() or stamp.read_text() != made_of:
        venv.create(ENVIRONMENT, clear=True, symlinks=True, with_pip=False)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
        subprocess.run([*pip, "install", "--quiet", "--constraint", str(VERSIONS), "fastmcp"], check=True)
        stamp.write_text(made_of)
    return python


@pytest.mark.parametrize("mode", ["auto", "legacy"], ids=["2026-07-28", "handshake"])
@pytest.mark.parametrize("transport", ["stdio", "http"])
def test_fastmcps_client_uses_all_of_it(
    tmp_path: Path, fastmcp_python: Path, transport: str, mode: str
) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("rules:\n  - {verdict: ask, kind: create}\n")
    options = ["--mcp-config", str(shop(tmp_path)), "--policy", str(rules), "--reconnect", "0.2"]
    with ExitStack() as stack:
        target = (
            command(tmp_path, *options)
            if transport == "stdio"
            else [stack.enter_context(served(tmp_path, *options))]
        )
        done = subprocess.run(
            [fastmcp_python, HERE / "fastmcp_client.py", tmp_path / "w", mode, *target],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["tools"] == [
        "checkpoint",
        "create_file",
        "list_files",
        "rewind",
        "run_bash",
        "run_python",
        "search_tools",
    ]
    assert seen["created"][0] is False, seen["created"]
    assert seen["denied"][0] is True
    assert seen["asked"] == [
        "May the code write the file a.txt?",
        "May the code write the file b.txt?",
        "May the code call the tool price of 'shop'?",
        "May the code call the tool agentd_show of 'pictures'?",
    ]
    assert "a.txt  3 bytes" in seen["listed"]
    assert "b.txt" not in seen["listed"]
    assert seen["structured"]["output"] == "one[]\n"
    assert seen["data"] == "one[]\n"
    assert "price(name: string)" in seen["found"]
    assert seen["nested"] == "3"
    assert seen["failed"] == [True, 3]
    assert seen["picture"] == ["image/png", "\x89PNG"]
    assert seen["progress"][0] == "begun\n"
    assert seen["cancelled"] is True


def test_its_versions_are_names_and_versions_alone() -> None:
    for line in VERSIONS.read_text().splitlines():
        assert line.startswith("#") or (line.count("==") == 1 and "/" not in line and "@" not in line), line
