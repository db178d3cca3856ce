"""`CommandContract`: what every command of `agentd` promises, as tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

import pytest

__all__ = ["CommandContract"]

_HEAVY = ("litellm", "mcp", "openai", "pydantic", "rich")
_PROGRAM = """
import sys
sys.path[:0] = {path!r}
from importlib import import_module
command = getattr(import_module({module!r}), {name!r})
print(*sorted(set({heavy!r}) & set(sys.modules)))
"""


class CommandContract:
    """Subclass it and name the click command as its entry point does:

        class TestMyCommand(CommandContract):
            command = "my_package.command:hello"
            good_calls = {("you",): "Hello, you!"}

    `good_calls` are arguments with which it succeeds, and a text that it then prints.
    """

    command: ClassVar[str] = ""
    good_calls: ClassVar[Mapping[tuple[str, ...], str]] = {}

    def load(self) -> Any:
        """Return the command."""
        if not self.command:
            pytest.fail("set `command` in the subclass: 'MODULE:FUNCTION'", pytrace=False)
        module, _, name = self.command.partition(":")
        return getattr(import_module(module), name)

    def _invoke(self, *arguments: str) -> Any:
        from click.testing import CliRunner

        return CliRunner().invoke(self.load(), list(arguments))

    def test_its_entry_point_names_a_click_command(self) -> None:
        import click

        assert isinstance(self.load(), click.Command), (
            "an entry point of agentd.commands names a click command"
        )

    def test_it_says_what_it_does(self) -> None:
        assert self.load().get_short_help_str().strip(), "`agentd --help` shows a line for each command"
        done = self._invoke("--help")
        assert done.exit_code == 0, done.output
        assert done.output.startswith("Usage:")
        assert self.load().help, "give the function a docstring: it is what `--help` prints"

    def test_every_option_is_explained(self) -> None:
        import click

        silent = [
            option.opts[0]
            for option in self.load().params
            if isinstance(option, click.Option)
            and not option.hidden
            and not (option.help or option.metavar)
            and not isinstance(option.type, click.Choice)
        ]
        assert silent == [], "these options have no help"

    def test_an_unknown_option_is_a_usage_error(self) -> None:
        done = self._invoke("--no-such-option-at-all")
        assert done.exit_code == 2, done.output
        assert "no-such-option-at-all" in done.output

    def test_importing_it_is_cheap(self) -> None:
        """`agentd --help` imports every command."""
        module, _, name = self.command.partition(":")
        program = _PROGRAM.format(path=sys.path, module=module, name=name, heavy=_HEAVY)
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [], "import what is heavy inside the command's function"

    def test_the_good_calls_succeed(self) -> None:
        if not self.good_calls:
            pytest.skip("set `good_calls`: arguments, and a text that the command then prints")
        for arguments, text in self.good_calls.items():
            done = self._invoke(*arguments)
            assert done.exit_code == 0, (arguments, done.output, done.exception)
            assert text in done.output, (arguments, done.output)
