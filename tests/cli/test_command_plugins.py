"""Subcommands that are plugins: one that is broken is shown and harms no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd_testing import fake_distribution

Agentd = Any
Install = Callable[..., None]

HELLO = """
    import click

    @click.command()
    @click.option("--loudly", is_flag=True)
    def hello(loudly):
        '''Greet the world.'''
        click.echo("HELLO" if loudly else "hello")
"""
HINT = "(cannot be loaded; `agentd plugins --check --kind command` says why)"


@pytest.fixture
def install(agentd: Agentd, tmp_path: Path) -> Install:
    """Install a distribution, `acme-NAME` by default, with one command."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    agentd.env["PYTHONPATH"] = str(folder)

    def install_command(name: str, source: str = HELLO, *, distribution: str = "") -> None:
        distribution = distribution or f"acme-{name}"
        module = f"{distribution.replace('-', '_')}_command"
        points = {"agentd.commands": {name: f"{module}:hello"}}
        fake_distribution(folder, distribution, entry_points=points, modules={module: source})

    return install_command


def records(agentd: Agentd, *arguments: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for record in json.loads(agentd("plugins", "--kind", "command", "--json", *arguments).stdout):
        found.setdefault(record["name"], []).append(record)
    return found


def in_help(agentd: Agentd, row: str) -> bool:
    done = agentd("--help")
    assert done.returncode == 0, done.stderr
    return row in " ".join(done.stdout.split())


def completed(agentd: Agentd, words: str) -> list[str]:
    agentd.command = [str(Path(agentd.command[0]).with_name("agentd"))]
    agentd.env |= {
        "_AGENTD_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = agentd()
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_a_command_of_a_plugin_runs_is_listed_and_completes(agentd: Agentd, install: Install) -> None:
    install("hello")
    assert agentd("hello", "--loudly").stdout == "HELLO\n"
    assert in_help(agentd, "hello Greet the world.")
    assert records(agentd)["hello"][0]["distribution"] == "acme-hello"
    assert completed(agentd, "agentd he") == ["hello"]
    assert completed(agentd, "agentd hello --l") == ["--loudly"]


BROKEN = {
    "raises": ("raise OSError('bad day')", "OSError: bad day"),
    "exits": ("raise SystemExit(3)", "SystemExit: 3"),
    "syntax": ("def broken(:", "SyntaxError"),
    "function": ("def hello(): ...", "its entry point names a function; name a click command"),
    "class": ("import click\nclass hello(click.Command): ...", "its entry point names the class hello"),
    "looks-like-one": (
        "class C:\n    def main(self): ...\n    def make_context(self): ...\nhello = C()",
        "its entry point names a C; name a click command",
    ),
    "absent": ("other = 1", "AttributeError"),
}


@pytest.mark.parametrize(("source", "why"), BROKEN.values(), ids=BROKEN)
def test_a_command_that_cannot_be_loaded_is_listed_with_a_hint_and_the_others_work(
    source: str, why: str, agentd: Agentd, install: Install
) -> None:
    install("oops", source)
    install("hello")
    assert agentd("hello").stdout == "hello\n"
    assert in_help(agentd, f"oops {HINT}")
    assert in_help(agentd, "hello Greet the world.")
    failed = records(agentd, "--check")["oops"][0]
    assert failed["state"] == "failed"
    assert why in failed["error"]
    assert agentd("plugins", "--check", "--kind", "command").returncode == 1
    run = agentd("oops")
    assert run.returncode == 2
    assert "the command plugin 'oops' of acme-oops failed: " in run.stderr
    assert "Traceback" not in run.stderr


def test_a_broken_command_does_not_break_completion(agentd: Agentd, install: Install) -> None:
    install("hello")
    install("hexed", "raise OSError('bad day')")
    assert completed(agentd, "agentd he") == ["hello"]
    assert completed(agentd, "agentd hexed --l") == []
    assert completed(agentd, "agentd nonsense --l") == []


@pytest.mark.parametrize("words", ["agentd agents.y", "agentd check agents.y", "agentd daemon agents.y"])
def test_names_of_files_complete_as_configurations_of_the_daemon(words: str, agentd: Agentd) -> None:
    last = len(words.split()) - 1
    agentd.env |= {"_AGENTD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(last)}
    assert agentd().stdout.split() == ["file,agents.y"]


def test_of_two_commands_with_one_name_one_works_and_the_other_is_shown(
    agentd: Agentd, install: Install
) -> None:
    install("hello", distribution="acme-one")
    install("hello", HELLO.replace('else "hello"', 'else "other"'), distribution="acme-two")
    assert agentd("hello").stdout == "hello\n"
    assert agentd("--help").stdout.count("Greet the world.") == 1
    first, second = records(agentd)["hello"]
    assert (first["distribution"], first["state"]) == ("acme-one", "available")
    assert second["state"] == "failed"
    assert "acme-one and acme-two both have the command 'hello'" in second["error"]
    agentd.env["AGENTD_PLUGINS_BLOCK"] = "acme-one"
    assert agentd("hello").stdout == "other\n"
    assert in_help(agentd, "hello Greet the world.")


def test_a_third_party_cannot_take_the_place_of_an_official_command(agentd: Agentd, install: Install) -> None:
    install("doctor", distribution="aaa")
    assert "Say what can be used" in agentd("doctor", "--help").stdout


def test_a_blocked_command_is_not_imported_and_says_so(
    agentd: Agentd, install: Install, tmp_path: Path
) -> None:
    install("hello", f"open({str(tmp_path / 'imported')!r}, 'w').close()\nhello = None")
    agentd.env["AGENTD_PLUGINS_BLOCK"] = "hello"
    assert "hello" not in agentd("--help").stdout
    run = agentd("hello")
    assert run.returncode == 2
    assert "the command plugin 'hello' is installed but blocked" in run.stderr
    assert records(agentd, "--check")["hello"][0]["state"] == "blocked"
    assert not (tmp_path / "imported").exists()
    del agentd.env["AGENTD_PLUGINS_BLOCK"]
    agentd("--help")
    assert (tmp_path / "imported").exists(), "else the test would not notice an import"


def test_a_hidden_command_runs_and_is_not_listed(agentd: Agentd, install: Install) -> None:
    install("hello", HELLO.replace("@click.command()", "@click.command(hidden=True)"))
    assert agentd("hello").stdout == "hello\n"
    assert "hello" not in agentd("--help").stdout
