"""No process of a server outlives the connection or the host, whatever it does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from agentd_mcp_bridge.errors import McpServerError
from helpers import numbers, source, wait_until_gone
from places import SUPPORT

pytestmark = pytest.mark.slow


@pytest.fixture
def anyio_backend() -> str:
    """Servers do not see on what loop the caller is."""
    return "asyncio"


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sub-reapers are Linux's")


@linux
@pytest.mark.anyio
async def test_children_of_a_server_end_with_it_even_those_in_sessions_of_their_own(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    seen: Any = await made.call("children", {})
    assert len(seen["pids"]) == 2
    await made.aclose()
    assert not wait_until_gone([*seen["pids"], *numbers(journal, "start")], 0)


@linux
@pytest.mark.anyio
async def test_children_of_a_server_that_crashed_are_ended_too(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    await made.call("children", {})
    with pytest.raises(Exception, match="died during this call"):
        await made.call("die", {})
    assert not wait_until_gone([*numbers(journal, "child"), *numbers(journal, "start")], 5)
    await made.aclose()


@linux
@pytest.mark.parametrize("start", ["well", "stubborn"])
def test_a_host_that_is_killed_leaves_no_process(start: str, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = f"""
    import sys
    sys.path.insert(0, {str(SUPPORT)!r})
    import anyio
    from pathlib import Path
    from helpers import source
    made = source({start!r}, Path({str(journal)!r}))
    async def work():
        await made.list_tools()
        await made.call("children", {{}})
        print("ready", flush=True)
        await anyio.sleep(60)
    anyio.run(work)
    """
    host = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    )
    try:
        assert host.stdout is not None
        assert host.stdout.readline() == b"ready\n"
        left = [*numbers(journal, "start"), *numbers(journal, "child")]
        assert len(left) == 3
        host.send_signal(signal.SIGKILL)
        host.wait()
        assert not wait_until_gone(left, 10)
    finally:
        host.kill()
        host.wait()
        assert host.stdout is not None
        host.stdout.close()


@linux
@pytest.mark.anyio
async def test_a_supervisor_that_is_killed_takes_the_server_along(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    made = source(journal=journal)
    await made.list_tools()
    [pid] = numbers(journal, "start")
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != os.getpid()
    os.kill(parent, signal.SIGKILL)
    assert not wait_until_gone([pid], 5)
    with suppress(McpServerError):  # unless its end is known already, this call meets it
        await made.call("echo", {"text": "x"})
    assert await made.call("echo", {"text": "anew"}) == "anew"
    await made.aclose()
