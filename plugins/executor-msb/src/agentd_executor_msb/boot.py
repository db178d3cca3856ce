"""How the runner gets into the guest: through the pipe that it is going to speak on.

Nothing of agentd is installed in an image, and a mount of agentd's package would show more than the runner
needs. So the interpreter starts with a few lines of code as its argument; they read the runner's source
from standard input, up to its last byte and no further, and run it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["BOOT", "boot_command", "boot_input"]

BOOT = """\
import os, sys
if sys.version_info < (3, 11):
    sys.exit("agentd needs Python 3.11 or newer in the image, this is " + sys.version.split()[0])
def take(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit("the pipe was closed before the runner had arrived")
        data += part
    return data
source = take(int(take(10)))
del take
exec(compile(source, "<agentd runner>", "exec"))
"""


def boot_command(python: str) -> Sequence[str]:
    """Return the command: isolated, without `site` (the runner brings it in where blocks are forked), UTF-8."""
    return [python, "-I", "-S", "-X", "utf8", "-c", BOOT]


def boot_input(runner: Path) -> bytes:
    """Return what that command must read first: the size in ten digits, then the source."""
    source = runner.read_bytes()
    return b"%010d" % len(source) + source
