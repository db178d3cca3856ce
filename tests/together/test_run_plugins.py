"""`agentd run` as the door to every kind of plugin: naming one, giving it options, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from agentd_cli.plugin_options import PluginOptions, read_plugin_options
from doors_plugins import install

Agentd = Any
IN_USE = {
    "executor": ["srt"],
    "parser": ["fence", "xml"],
    "sink": ["jsonl"],
    "model": ["gpt-4.1-mini", "openai"],
}


@pytest.fixture
def doors(agentd: Agentd, tmp_path: Path) -> Agentd:
    """The command with a plugin of each kind installed."""
    agentd.env["PYTHONPATH"] = str(install(tmp_path / "acme"))
    return agentd


# --- what works ----------------------------------------------------------------------------------------


def test_a_plugin_of_each_kind_is_named_and_gets_its_options(doors: Agentd) -> None:
    server = doors.replay("I ask.\n> python3 -c 'from lib.tools import rate; print(7 * rate())'\n", "done")
    result = doors(
        "run", "x", "--parser", "bang", "-o", "parser.bang.mark=> ", "--renderer", "loud",
        "-o", "renderer.loud.word=NOW",
        "--tools", "rates:EUR", "-o", "tool.rates.factor=6", "--sink", "tally", "-o", "sink.tally.path=events.txt",
        "--snapshots", "noted", "-o", "snapshots.noted.note=kept.txt", "--checkpoints",
        "-o", "state=kept", "-o", "executor.subprocess.env.COLOUR=blue",
        "-o", "model.request.temperature=0.25", "-o", "model.replayed.request.seed=3",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    body = server.requests[0].body
    assert (body["temperature"], body["seed"]) == (0.25, 3)
    told = body["messages"][0]["content"]
    assert "Begin a line with > ." in told
    assert "NOW: " in told
    assert "42" in server.requests[1].last
    assert (doors.cwd / "events.txt").read_text().startswith("RunStart")
    assert (doors.cwd / "kept.txt").read_text()


def test_options_of_the_executor_reach_the_code_with_and_without_its_name(doors: Agentd) -> None:
    server = doors.replay("```bash:execute\necho $COLOUR; ulimit -n\n```\n", "done")
    result = doors(
        "run", "x", "-o", 'env={"COLOUR": "blue"}', "-o", "executor.subprocess.limits.open_files=64"
    )
    assert result.returncode == 0, result.stderr
    assert "blue" in server.requests[1].last
    assert "64" in server.requests[1].last


@pytest.mark.parametrize(
    "option", ["model.words=hello", "model.echo.words=hello", "model.echo/one.words=hello"]
)
def test_a_model_of_another_provider_gets_options_of_its_own(doors: Agentd, option: str) -> None:
    result = doors("run", "x", "--quiet", "--model", "echo/one", "-o", option)
    assert (result.returncode, result.stdout) == (0, "hello\n"), result.stderr


def test_log_and_options_of_its_sink_go_together(doors: Agentd) -> None:
    doors.replay("done")
    assert doors("run", "x", "--sink", "jsonl", "-o", "sink.jsonl.path=one.jsonl").returncode == 0
    assert (doors.cwd / "one.jsonl").is_file()


# --- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--parser", "bnag"], ["unknown parser 'bnag'; installed: 'bang', 'fence', 'xml'", "mean 'bang'?"]),
        (["--renderer", "lound"], ["unknown skill renderer 'lound'", "did you mean 'loud'?"]),
        (["--snapshots", "pack"], ["unknown snapshot store 'pack'", "did you mean 'packs'?"]),
        (["--sink", "taly"], ["unknown event sink 'taly'", "did you mean 'tally'?"]),
        (["--tool", "rate:EUR"], ["'rate:EUR' is neither a file", "'models', 'python', 'rates'", "mean 'rates'?"]),
        (["-o", "prser.bang.mark=x"], ["unknown kind 'prser'", "executor, parser, renderer", "mean 'parser'?"]),
        (["-o", "parser.bnag.mark=x"], ["does not use the parser 'bnag'", "it uses: 'fence', 'bang', 'xml'"]),
        (["-o", "sink.tally.path=x"], ["this run does not use the sink 'tally'; it uses none"]),
        (["-o", "executor.srt.timeout=1"], ["does not use the executor 'srt'; it uses: 'subprocess'"]),
        (["-o", "executor.timeout=1"], ["must look like executor.NAME.KEY=VALUE"]),
        (["--mode", "tools", "-o", "state=kept"], ["this run has no executor"]),
        (["-o", "parser.bang.x=1"], ["unknown option 'x' of the parser 'bang'; there are: mark"]),
        (["-o", "parser.xml.x=1"], ["unknown option 'x' of the parser 'xml'; there are: starts_in_reasoning"]),
        (["-o", "parser.bang.mark=1"], ["option 'mark' of the parser 'bang': must be a string, got 1"]),
        (["-o", "renderer.agentskills.x=1"], ["unknown option 'x' of the skill renderer 'agentskills'"]),
        (["-o", "snapshots.packs.ignore=3"], ["option 'ignore' of the snapshot store 'packs': must be a list"]),
        (["--sink", "tally", "-o", "sink.tally.pth=x"], ["unknown option 'pth'", "did you mean 'path'?"]),
        (["-o", "timeout=soon"], ["option 'timeout' of the executor 'subprocess': must be a number", "'soon'"]),
        (["-o", "limits=5"], ["option 'limits' of the executor 'subprocess'"]),
        (["-o", "model.requst.seed=1"], ["unknown option 'requst' of the model 'replayed'", "mean 'request'?"]),
        (["-o", "model.prices=cheap"], ["option 'prices' of the model 'replayed': must be a mapping"]),
        (["--tool", "rates:EUR", "-o", "tool.rates.factor=six"], ["option 'factor' of the tool source 'rates'"]),
        (["--tool", "rates:EUR", "-o", "tool.mcp.timeout_s=5"], ["use the tool 'mcp'; it uses: 'rates'"]),
        (["-o", "limits.x=1"], ["unknown kind 'limits'"]),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_what_there_is_before_anything_runs(
    doors: Agentd, arguments: list[str], messages: list[str]
) -> None:
    server = doors.replay("never said")
    result = doors("run", "x", *arguments)
    assert result.returncode == 2, result.stderr
    first, *rest = result.stderr.splitlines()
    assert first.startswith("agentd: error: ")
    for message in messages:
        assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert len(rest) <= 1
    assert result.stdout == ""
    assert server.requests == []


def test_a_plugin_that_two_distributions_have_is_used_and_the_other_one_shown(
    doors: Agentd, tmp_path: Path
) -> None:
    other = install(tmp_path / "other")
    next(other.glob("acme-*.dist-info")).rename(other / "acme_twin-1.0.dist-info")
    metadata = other / "acme_twin-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("Name: acme", "Name: acme-twin"))
    doors.env["PYTHONPATH"] += f":{other}"
    doors.replay("done")
    assert doors("run", "x", "--sink", "tally").returncode == 0
    listed = doors("plugins", "--kind", "event_sink")
    assert "acme and acme-twin both have the event_sink 'tally'; the one of acme is used" in listed.stdout


def test_names_of_plugins_are_completed(doors: Agentd) -> None:
    doors.env |= {"_AGENTD_COMPLETE": "bash_complete", "COMP_CWORD": "3"}
    doors.command = [str(Path(doors.command[0]).with_name("agentd"))]
    for option, name in {
        "--parser": "bang",
        "--renderer": "loud",
        "--snapshots": "noted",
        "--sink": "tally",
    }.items():
        doors.env["COMP_WORDS"] = f"agentd run {option} {name[:2]}"
        assert doors().stdout == f"plain,{name}\n"


# --- reading -------------------------------------------------------------------------------------------


def test_values_are_json_where_they_can_be_and_dots_lead_into_mappings() -> None:
    read = read_plugin_options(
        ["timeout=5", 'executor.srt.allowed_domains=["example.com"]', "state=kept",
         "executor.srt.limits.open_files=9", "parser.xml.strict=true", "model.request.seed=null",
         "model.gpt-4.1-mini.request.x.y=a=b", "sink.jsonl.path=7 up"],
        IN_USE,
    )  # fmt: skip
    assert read == PluginOptions(
        {
            ("executor", "srt"): {
                "timeout": 5,
                "allowed_domains": ["example.com"],
                "state": "kept",
                "limits": {"open_files": 9},
            },
            ("parser", "xml"): {"strict": True},
            ("model", "gpt-4.1-mini"): {"request": {"seed": None, "x": {"y": "a=b"}}},
            ("sink", "jsonl"): {"path": "7 up"},
        }
    )
    assert read.spec("parser", "fence") == "fence"
    assert read.spec("parser", "xml") == ("xml", {"strict": True})


def test_every_mistake_is_told_at_once() -> None:
    with pytest.raises(click.BadParameter) as caught:
        read_plugin_options(["x", "parsr.xml.a=1", "parser.fenc.a=1", "executor.srt.a=1", "a.b.c"], IN_USE)
    lines = caught.value.message.splitlines()
    assert len(lines) == 4
    assert "got 'x'" in lines[0]
    assert "did you mean 'parser'?" in lines[1]
    assert "did you mean 'fence'?" in lines[2]


@pytest.mark.parametrize(
    "pairs", [["limits=5", "executor.srt.limits.x=1"], ["executor.srt.=1"], ["executor.srt.a..b=1"]]
)
def test_a_path_that_leads_nowhere_is_refused(pairs: list[str]) -> None:
    with pytest.raises(click.BadParameter, match=r"has a value already|empty part"):
        read_plugin_options(pairs, IN_USE)
