"""The contract of triggers: one that keeps it passes, and one that breaks a promise fails in words."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

# A trigger over letters in a folder, which puts an answer beside each. `wrong` names what it does wrong.
LETTERS = """
    import random, threading, time
    from pathlib import Path
    import anyio, pytest
    from agentd.errors import ConfigError
    from agentd.registry import Registry
    from agentd_daemon.triggers import TriggerEvent
    from agentd_testing import TriggerContract, trigger_lives

    class Letters:
        def __init__(self, folder, wrong):
            self.folder, self.wrong, self.was_blocked = Path(folder), wrong, False

        async def run(self, host):
            if self.wrong == "leaves":
                threading.Thread(target=threading.Event().wait, daemon=True).start()
            while True:
                host.report("")
                for letter in sorted(self.folder.glob("*.in")):
                    await self.take(host, letter)
                if host.once:
                    return
                if self.wrong == "blocks" and host.cursor and not self.was_blocked:
                    self.was_blocked = True
                    time.sleep(2)
                with anyio.CancelScope(shield=self.wrong == "stays"):
                    await anyio.sleep(1 if self.wrong == "stays" else 0.01)
                await anyio.sleep(0)

        async def take(self, host, letter):
            answer = letter.with_suffix(".answer")
            if self.wrong == "answers":
                answer.touch()
            id = str(random.random()) if self.wrong == "doubles" else letter.name
            await host.accept(TriggerEvent(id=id, text=letter.stem + ".", cursor="here"))
            if self.wrong != "doubles":
                letter.unlink()
            answer.touch()

    @pytest.fixture(autouse=True)
    def _made(monkeypatch):
        def make(registry, kind, options):
            if set(options) != {"folder", "wrong"}:
                raise ConfigError("'folder' and 'wrong' are needed, and no_such_option is none")
            return Letters(**options)
        monkeypatch.setattr(Registry, "create_trigger", make)
        monkeypatch.setattr(trigger_lives, "CLOSE_S", 0.3)

    class TestKeeps(TriggerContract):
        kind = "cron"  # for the daemon's check, which looks whether there is such a kind
        wrong = ""
        wrong_options = ({},)
        tells_late = False
        acknowledges = True

        def options(self, place):
            return {"folder": str(place), "wrong": self.wrong}

        async def cause(self, place, number):
            answer = place / f"{number}.answer"
            if not answer.exists():
                (place / f"{number}.in").touch()
            with anyio.fail_after(0.3):
                while not answer.exists():
                    await anyio.sleep(0.01)
            return f"{number}."
"""
ONCE = "test_what_happens_is_told_once_in_order_over_several_lives"
BROKEN = {
    "answers": (
        "test_a_kill_at_the_journal_loses_nothing_and_doubles_nothing",
        "the sender was ",
    ),
    "blocks": ("test_the_event_loop_goes_on_meanwhile", "what blocks belongs into a thread"),
    "doubles": (ONCE, "was told "),
    "leaves": ("test_ending_it_leaves_no_task_no_thread_and_no_open_file", "(tasks, threads, open files)"),
    "stays": (ONCE, "the trigger has not ended 0.3 s after it was cancelled"),
}


def test_a_trigger_that_breaks_a_promise_fails_in_words_and_one_that_keeps_all_passes(tmp_path: Path) -> None:
    classes = [f"class Test{wrong.title()}(TestKeeps):\n    wrong = {wrong!r}\n" for wrong in BROKEN]
    file = tmp_path / "test_letters.py"
    file.write_text("\n".join([textwrap.dedent(LETTERS), *classes]))
    chosen = [f"{file}::TestKeeps", *(f"{file}::Test{w.title()}::{name}" for w, (name, _) in BROKEN.items())]
    own = ("-p", "no:cacheprovider", "--rootdir", str(tmp_path), "--basetemp", str(tmp_path / "own"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rA", *own, *chosen],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "FAILED test_letters.py::TestKeeps" not in done.stdout, done.stdout
    assert "PASSED test_letters.py::TestKeeps" in done.stdout
    for wrong, (name, words) in BROKEN.items():
        assert f"FAILED test_letters.py::Test{wrong.title()}::{name}" in done.stdout, (wrong, done.stdout)
        assert words in done.stdout, (wrong, done.stdout)
