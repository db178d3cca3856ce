"""The tutorials, carried out from top to bottom: every command is run, every file written, every output compared.

A block `console` holds commands behind `$` and what they print (`...` is anything). A block `python` with a title is
the whole new text of that file in the project. `pip` is a script that installs without a network.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
TUTORIALS = sorted(
    set(DOCS.glob("tutorial-*.md")) - {DOCS / "tutorial-daemon.md"}
)  # test_daemon_walk has that one
_BLOCK = re.compile(r'^```(?P<kind>\w+)(?: title="(?P<title>[^"]+)")?\n(?P<text>.*?)^```$', re.M | re.S)
_COMMAND = re.compile(r"^\$ (?P<command>.*)\n(?P<output>(?:(?!\$ ).*\n)*)", re.M)
_INSTALL = """#!/bin/sh
[ "$*" = "install -q -e . --group test" ] || exit 64
exec {python} -m pip install -q --no-deps --no-build-isolation --no-index --disable-pip-version-check --target {site} .
"""


class Reader:
    """A person who does what a page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        site, programs = folder / "site", folder / "bin"
        programs.mkdir()
        (programs / "pip").write_text(_INSTALL.format(python=sys.executable, site=site))
        (programs / "pip").chmod(0o755)
        self.cwd = folder / "home"
        self.cwd.mkdir()
        env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "AGENTD_", "OPENAI_"))}
        path = f"{programs}:{Path(sys.executable).parent}:{env['PATH']}"
        # `src` comes first: an editable installation finds a module's newest text.
        self._env = {**env, "PATH": path, "PYTHONPATH": f"src:{site}", "COLUMNS": "100", "NO_COLOR": "1"}

    def write(self, name: str, text: str) -> None:
        """Replace a file of the project, or add one."""
        (self.cwd / name).write_text(text)

    def run(self, command: str, shown: str) -> None:
        """Run a command and compare what it prints with what the page shows."""
        if command.startswith("cd "):
            self.cwd = self.cwd / shlex.split(command)[1]
            return
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.cwd,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
            check=False,
        )
        printed = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
        pattern = re.escape(shown).replace(r"\.\.\.", ".*?")
        assert re.fullmatch(pattern, printed, re.S), f"$ {command}\n{printed}"


def test_there_are_tutorials_and_each_has_commands() -> None:
    assert {path.stem for path in TUTORIALS} >= {"tutorial-executor", "tutorial-parser"}
    for path in TUTORIALS:
        assert _COMMAND.search(path.read_text()), path.name


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", TUTORIALS, ids=lambda path: path.stem)
def test_each_step_of_a_tutorial_does_what_the_page_shows(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    if "ionice" in text and shutil.which("ionice") is None:
        pytest.skip("no ionice here; util-linux has it")
    reader = Reader(tmp_path)
    for block in _BLOCK.finditer(text):
        if block["title"]:
            reader.write(block["title"], block["text"])
        else:
            assert block["kind"] == "console", f"a block without a title that is no command: {block[0]}"
            commands = list(_COMMAND.finditer(block["text"]))
            assert "".join(found[0] for found in commands) == block["text"], block[0]
            for found in commands:
                reader.run(found["command"], found["output"])
