"""Run in a process of its own with a fresh MSB_HOME: start a microVM with the real SDK, print what msb stored of it.

The configuration is stored before the boot, so this works on hosts that cannot boot. Prints one JSON object:
`config` is what msb has stored of the executor's microVM, `left` what `msb list` says after `down`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import wait
from pathlib import Path
from typing import Any

from agentd_executor_msb.factory import create_microsandbox_cli_executor
from agentd_executor_msb.thread import sdk_thread
from agentd_skills import layout_of
from microsandbox import Sandbox, SandboxNotFoundError

MSB = Path(sys.executable).parent / "msb"


def msb(*arguments: str) -> str:
    done = subprocess.run([MSB, *arguments], capture_output=True, text=True, timeout=30)
    return done.stdout if done.returncode == 0 else ""


def command_lines() -> list[bytes]:
    """Those of all processes of this machine, which any user may read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


async def stored(name: str) -> dict[str, Any] | None:
    """Return what `msb inspect` shows, asked of the SDK: the command may wait for ever while its own boot hangs."""
    try:
        config: dict[str, Any] = (await Sandbox.get(name)).config()
    except SandboxNotFoundError:
        return None
    return config


def main(options: dict[str, Any]) -> None:
    workspace = Path(options["workspace_dir"])
    (workspace / "skills").mkdir(parents=True)
    executor = create_microsandbox_cli_executor(**options)
    executor.attach(tools=None, layout=layout_of(workspace / "skills"))
    vm, thread = executor._vm, sdk_thread()
    starting = thread.start(vm.up())
    config = None
    until = time.monotonic() + 60
    while config is None and not starting.done() and time.monotonic() < until:
        config = thread.run(stored(vm.name), 30)
        wait([starting], timeout=0.1)
    shown = [line for line in command_lines() if os.environ["CONTRACT_SECRET"].encode() in line]
    found = {"secret_in_argv": len(shown), "config": config, "name": vm.name}
    if starting.done():
        found["error"] = repr(starting.exception())
    wait([starting], timeout=15)  # msb answers slowly while a boot hangs
    thread.run(vm.down(), 60)
    found["left"] = msb("list", "--format", "json")
    wait([starting], timeout=30)
    found["start"] = repr(starting.exception()) if not starting.cancelled() else "cancelled"
    print(json.dumps(found))


if __name__ == "__main__":
    os.environ["CONTRACT_SECRET"] = os.urandom(16).hex()
    main(json.loads(sys.argv[1]))
