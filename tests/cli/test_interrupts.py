"""Signals that find the main thread in a call that nothing interrupts."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

HELD_UP = """
import os, signal, threading, time
if {daemon}:
    from agentd_daemon.commands.signals import Signals
    signals = Signals()
else:
    from agentd_cli.interrupts import Interrupts
    signals = Interrupts(lambda: None)  # if the main thread is not waiting yet, its handler goes on to wait
reading, _ = os.pipe()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # gets the signals, and no handler runs
both = (signal.SIGINT, signal.SIGTERM)
signal.pthread_sigmask(signal.SIG_BLOCK, both)
with signals:
    os.write(1, b"ready\\n")
    os.read(reading, 1)
"""


def end_of(script: str, *signals: signal.Signals) -> int:
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            for number in signals:
                process.send_signal(number)
            return process.wait(30)
        finally:
            process.kill()


@pytest.mark.parametrize("daemon", [False, True])
def test_a_second_signal_ends_a_process_that_no_signal_wakes(daemon: bool) -> None:
    if daemon:
        pytest.importorskip("agentd_daemon", reason="needs agentd-daemon")
    code = end_of(HELD_UP.format(daemon=daemon), signal.SIGTERM, signal.SIGINT)
    assert code in (130, 143)  # they may arrive in either order


def test_the_descriptor_of_signals_is_given_back() -> None:
    script = """
import signal
from agentd_cli.interrupts import Interrupts
for _ in range(3):
    with Interrupts():
        pass
assert signal.set_wakeup_fd(-1) == -1
print("ready", flush=True)
"""
    assert end_of(script) == 0
