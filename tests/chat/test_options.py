"""The options of `agentd chat`, and those that agentd.toml may set."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import click
import pytest
from agentd.types import Usage
from agentd_chat import views
from agentd_chat.command import chat
from agentd_cli.run import run
from agentd_cli.settings.keys import NO_KEYS, settings_keys
from chat_person import block, model
from pictures import png
from rich.console import Console

Agentd = Any  # the fixture's class


def test_every_long_option_is_a_key_but_what_is_for_one_start_alone() -> None:
    for command in (run, chat):
        names = {
            option.removeprefix("--")
            for parameter in command.params
            for option in parameter.opts[-2:] + parameter.opts[:1]
            if isinstance(parameter, click.Option) and option.startswith("--")
        }
        unknown = names - set(settings_keys())
        assert unknown - {"tools", "executor-option"} <= NO_KEYS  # two are other names of one


@pytest.mark.slow
def test_pictures_are_shown_to_the_model_and_a_long_conversation_is_kept_short_as_for_a_run(
    agentd: Agentd, home: Path
) -> None:
    (agentd.cwd / "mine.png").write_bytes(png(1))
    (agentd.cwd / "its.png").write_bytes(png(2))
    shows = block("python:execute", "import agentd", 'agentd.show("its.png")')
    server = model(
        agentd, shows, "Two pictures.", *[block("bash:execute", "printf '%08000d' 0")] * 3, "Long."
    )
    seen = agentd("chat", "-q", "--image", "mine.png", "what is here?")
    assert (seen.returncode, seen.stdout) == (0, "Two pictures.\n"), seen.stderr
    assert [json.dumps(r.body).count("data:image/png") for r in server.requests] == [1, 2]
    (home / ".config/agentd").mkdir(parents=True)
    (home / ".config/agentd/agentd.toml").write_text('images = true\nhistory = "shorten:4500"\n')
    on = agentd("chat", "-q", "--continue", "print a lot")
    assert (on.returncode, on.stdout) == (0, "Long.\n"), on.stderr
    assert json.dumps(server.requests[2].body).count("data:image/png") == 2
    assert len(json.dumps(server.requests[-1].body["messages"][1:])) < 20_000
    wrong = agentd("chat", "-q", "--image", "agentd.toml", "x")
    assert wrong.returncode == 2


def shown(view: object) -> list[str]:
    console = Console(width=100, file=io.StringIO(), color_system=None)
    with console.capture() as taken:
        console.print(view)
    return [line.rstrip() for line in taken.get().splitlines()]


def test_the_columns_of_jobs_stand_under_their_heading() -> None:
    heading = "NAME  STATE    PID  SECONDS  OUTPUT    COMMAND"
    job = "web   running  9    3.4      61 bytes  python3 -m http.server\x1b[2J"
    lines = shown(views.jobs([(heading, ""), (job, "Serving\n")]))
    assert lines[:2] == [heading, job.replace("\x1b[2J", "")]
    assert lines[2] == "  │ Serving"


@pytest.mark.parametrize(
    ("cost_usd", "unpriced", "money"),
    [
        (0.5, 0, "$0.5000"),
        (0.5, 1, "$0.5000, and 1 turn with a model whose price is unknown"),
        (None, 2, "unknown: no price of the model is known"),
    ],
)
def test_a_cost_says_what_it_leaves_out(cost_usd: float | None, unpriced: int, money: str) -> None:
    spent = Usage(input_tokens=1, output_tokens=1, requests=3, cost_usd=cost_usd)
    assert shown(views.cost(spent, turns=3, limit_usd=None, unpriced=unpriced))[0] == f"money   {money}"
