"""Starts one MCP server and ends it, with everything below it, when its host lets go of it.

Run by `agentd_runner.reaper.supervisor_command`, with the arguments LIFELINE GRACE_S COMMAND... and the standard
library alone. LIFELINE is the descriptor of a pipe whose other end the host alone holds. When the host closes it (on
purpose, or because it was killed), the server gets GRACE_S seconds to end by itself (its standard input is closed by
then), then TERM, then KILL. The byte `k` on the pipe skips the waiting.

What is below the server, and how it is found and ended, is the `SubReaper`'s. The exit code is the server's, 128 + N
for signal N, 127 if it could not be started.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from agentd_runner.reaper import SubReaper

TERM_S = 2.0
LEFTOVERS_S = 0.5


class ServerSupervisor:
    """One server, from its start to its end."""

    def __init__(self, lifeline: int, grace_s: float, command: list[str]) -> None:
        self.lifeline = lifeline
        self.watched = {lifeline: select.POLLIN}
        self.let_go = self.urgent = False  # what the host has said
        self.grace_s = grace_s
        self.reaper = SubReaper()
        os.set_inheritable(lifeline, False)
        self.reaper.start(lambda: self._become_server(command), not_started=127)

    def _become_server(self, command: list[str]) -> None:
        self.reaper.end_with_parent(signal.SIGKILL)
        try:
            os.execvp(command[0], command)
        except OSError as error:
            os.write(2, f"{command[0]}: {error.strerror}\n".encode())

    def run(self) -> int:
        """Wait for the end of the server or of the host; return the exit code."""
        while self.reaper.exit_code is None and not self.let_go:
            self._wait(None)
        if self.let_go:
            self._give_time(self.grace_s, server_only=True)
        if not self.urgent:
            self.reaper.signal_below(signal.SIGTERM)
            # If the server has ended by itself, what it left is not wanted.
            self._give_time(TERM_S if self.let_go else LEFTOVERS_S)
        self.reaper.kill_below()
        return 1 if self.reaper.exit_code is None else self.reaper.exit_code

    def _give_time(self, seconds: float, *, server_only: bool = False) -> None:
        """Wait until nothing is left (or the server has ended), or the time is up, or the host is impatient."""
        deadline = time.monotonic() + seconds
        while not self.urgent and (remaining := deadline - time.monotonic()) > 0:
            if not self.reaper.reap() or (server_only and self.reaper.exit_code is not None):
                return
            self._wait(remaining)

    def _wait(self, seconds: float | None) -> None:
        """Wait for an end below this process, or a word of the host, for so long."""
        if self.reaper.wait(seconds, self.watched):
            word = os.read(self.lifeline, 1)
            self.let_go = True
            self.urgent = self.urgent or word == b"k"
            if not word:
                self.watched = {}  # closed: it would be ready for ever
        self.reaper.reap()


def main() -> int:
    """Supervise what the command line says."""
    supervisor = ServerSupervisor(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):  # or the server's pipes would not end when the server does
        os.dup2(null, number)
    return supervisor.run()
