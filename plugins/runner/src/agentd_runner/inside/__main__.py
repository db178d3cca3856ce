"""The start of the process: signals, descriptors, limits; then the runner's loop, or the fork server before it."""

from __future__ import annotations

import gc
import os
import resource
import sys

from .fork_server import fork_runners
from .frames import SERVE
from .loop import Runner
from .primitives import signal


def main() -> None:
    """Run on standard input and output until the host closes them."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the host ends us by closing the pipe
    if sys.argv[1:] == [SERVE]:
        fork_runners()
    descriptor_in, descriptor_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)  # nothing but frames may reach the pipe
    os.dup2(null, 1)
    os.close(null)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.set_blocking(descriptor_in, True)
    os.set_blocking(descriptor_out, False)  # a host that does not read must not keep us from reading
    if sys.version_info >= (3, 14):
        # Since 3.14 the default re-imports `__main__` by its file, which a block does not have.
        import multiprocessing

        multiprocessing.set_start_method("fork")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Channels and pipes take many; actions have their own limit.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()
    Runner(descriptor_in, descriptor_out).run()
    os._exit(0)  # to take the interpreter down piece by piece costs a third of what its start did


if __name__ == "__main__":
    main()
