"""Commands at a person's hand: `agentd run` that is interrupted, and `agentd chat` that goes on with a conversation."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from endurance.model import bash, task
from endurance.works.work import Work

__all__ = ["ChatTurns", "InterruptedRuns"]

PATIENCE_S = 120.0


class _Commands(Work):
    lane = "commands"
    pause_s = 3.0

    def _start(self, folder: Path, *arguments: str, stdin: str = "") -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "agentd", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.world.env(),
            cwd=folder,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(stdin)
        process.stdin.close()
        process.stdin = None
        return process


class InterruptedRuns(_Commands):
    """One run that ends, and one that gets Ctrl-C (SIGINT) while its code runs."""

    name = "interrupted-runs"

    def once(self) -> None:
        folder = self.place.folder("runs")
        done = self._start(folder, "run", "--no-config", "-q", task(bash("echo quick")))
        out, error = done.communicate(timeout=PATIENCE_S)
        assert done.returncode == 0, (done.returncode, error[-500:])
        assert "well" in out, out
        stopped = self._start(folder, "run", "--no-config", "--json", task(bash("echo runs; sleep 654321")))
        try:
            assert stopped.stdout is not None
            for line in stopped.stdout:
                if '"code_output"' in line:
                    break
            stopped.send_signal(signal.SIGINT)
            stopped.communicate(timeout=PATIENCE_S)
        finally:
            if stopped.poll() is None:
                stopped.kill()
                stopped.communicate()
        assert stopped.returncode in (130, -signal.SIGINT), stopped.returncode
        self.tally.add(sessions=2, runs=2, turns=3, blocks=2, ctrl_c=1)


class ChatTurns(_Commands):
    """A turn of a conversation that is kept; every fifth process is killed, and the next goes on."""

    name = "chat-turns"
    asked = 20
    """Turns of a conversation: it is kept whole, so a new one begins then."""

    def once(self) -> None:
        self.number += 1
        folder = self.place.folder("chat")
        goes_on = [] if self.number % self.asked == 1 else ["--continue"]
        command = ["chat", "--no-config", "-q", "--max-chats", "3", "--history", "drop:4000", *goes_on]
        said = task(bash("n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; echo turn"), "x" * 300)
        chat = self._start(folder, *command, stdin=said)
        if self.number % 5 == 0:
            try:
                chat.wait(self.dice.uniform(0.3, 2.5))  # at any moment of it
            except subprocess.TimeoutExpired:
                chat.kill()
                self.tally.add(killed_chats=1)
            chat.communicate()
            return
        out, error = chat.communicate(timeout=PATIENCE_S)
        assert chat.returncode == 0, (chat.returncode, error[-800:])
        assert "x" * 300 in out or "well" in out, (out, error[-800:])
        self.tally.add(runs=1, turns=3, blocks=1, chat_turns=1)
