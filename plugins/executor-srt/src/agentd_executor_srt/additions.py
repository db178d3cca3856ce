"""What agentd adds to srt's sandbox: namespaces, by a script in the place of bubblewrap, and a filter of system calls.

srt takes a path of bubblewrap as a setting. The script that it gets (`bubblewrap.sh`) lies in this package, where
programs may be run; a temporary folder is often mounted `noexec`. The filter (`agentd_runner.call_filter`) is made here
and installed by the runner's own process before anything of the runner is imported (`inside/call_filter`): an
interpreter of its own would take another 20 ms. bubblewrap cannot install it, as it does for `native`: what srt runs in
there makes Unix sockets, namespaces and mounts before the command.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentd_runner.call_filter import filter_program, lacking_filter

__all__ = ["BUBBLEWRAP", "NO_LANDLOCK", "filtered", "lacking_additions"]

BUBBLEWRAP: Final = Path(__file__).parent / "bubblewrap.sh"

NO_LANDLOCK: Final = (
    "this kernel has no Landlock (Linux 5.19 or newer, CONFIG_SECURITY_LANDLOCK), so code may write to FIFOs of the "
    "host that it sees, where their modes let it"
)
"""What does not hold without it; the sandbox starts nevertheless."""

_NAME: Final = "_agentd_srt"
_BOOT: Final = f"""\
import sys
package = sys.modules[{_NAME!r}] = type(sys)({_NAME!r})
package.__path__ = [{{folder!r}}]
try:
    from {_NAME}.call_filter import install_filter
    from {_NAME}.write_guard import guard_writes
    guard_writes()
    install_filter(bytes.fromhex({{program!r}}))
except Exception as error:  # an interpreter without ctypes, too
    sys.exit("agentd: the sandbox is not safe without a filter of system calls: " + str(error))
del package, install_filter, guard_writes
for name in ("", ".call_filter", ".write_guard"):
    del sys.modules[{_NAME!r} + name]
del name
"""


def filtered(command: Sequence[str]) -> list[str]:
    """Return a command `[python, ..., "-c", code]` that installs the filter before it runs the code."""
    *start, code = command
    assert start[-1] == "-c"
    # System V memory, queues and semaphores are the sandbox's own here (`bubblewrap.sh`), and code has always had them.
    program = filter_program(os.uname().machine, system_v=True)
    return [*start, _BOOT.format(folder=str(Path(__file__).parent / "inside"), program=program.hex()) + code]


def lacking_additions() -> dict[str, str]:
    """Return by name what is added, each with what this machine lacks for it and what to do, or an empty string."""
    return {
        "system call filter": lacking_filter(),
        "IPC namespaces": ""
        if os.path.exists("/proc/self/ns/ipc")
        else "this kernel has no IPC namespaces (CONFIG_IPC_NS), so code would share System V memory with the host",
        "bubblewrap.sh": "" if os.access(BUBBLEWRAP, os.X_OK) else f"{BUBBLEWRAP} cannot be run: chmod +x it",
    }
