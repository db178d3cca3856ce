"""`agentd check` and `agentd schema`, as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from places import ROOT

if TYPE_CHECKING:
    from command_process import Command

EXAMPLES = sorted((ROOT / "docs" / "examples" / "config").glob("*.yaml"))

BAD = """\
agents:
  - name: a
    model: m
    mode: ptc
    executor: srtt
    event_sinks: [console, jsonl, nowhere]
  - name: b
    model: m
    executor_options: {}
    mode: ptc
    executor: msb
"""


def test_there_are_five_examples() -> None:
    assert [path.stem for path in EXAMPLES] == ["coder", "fleet", "news", "team", "triggers"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_right_and_its_executor_is_known(path: Path, agentd: Command) -> None:
    agentd.env["DEPLOY_SECRET"] = (
        "whsec_c2l4dGVlbiBieXRlcyBvciBtb3Jl"  # the one that an example has no default for
    )
    done = agentd("check", str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: ")


def test_a_secret_of_an_example_that_is_not_set_is_named_with_its_line(agentd: Command) -> None:
    (example,) = [path for path in EXAMPLES if path.stem == "triggers"]
    agentd.env.pop("DEPLOY_SECRET", None)
    done = agentd("check", str(example))
    assert done.returncode == 2
    assert "triggers.yaml:19:40: agents[0].triggers[2].options.secret: " in done.stderr
    assert "DEPLOY_SECRET is not set; set it" in done.stderr


def test_what_is_right_names_its_agents(agentd: Command) -> None:
    (agentd.cwd / "one.yaml").write_text("defaults: {model: m}")
    (agentd.cwd / "two.yaml").write_text("agents: [{name: a}, {name: b}]")
    done = agentd("check", "one.yaml", "two.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok: 2 agents: a, b\n", "")


def test_what_is_wrong_goes_to_standard_error_a_line_each(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text("agents:\n  - nam: a\n    model: [m]\n")
    done = agentd("check", "agents.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    unknown, wrong, count = done.stderr.splitlines()
    assert unknown.startswith("agents.yaml:2:5: agents[0].nam: unknown key; ")
    assert unknown.endswith("did you mean 'name'?")
    assert wrong == "agents.yaml:3:12: agents[0].model: must be a list of 2, got a list of 1"
    assert count == "agentd: 2 errors"


def test_plugins_that_are_not_there_are_named_where_they_are_asked_for(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(BAD + "plugins: {block: [msb]}\n")
    done = agentd("check", "agents.yaml")
    assert done.returncode == 2
    executor, sink, blocked, _ = done.stderr.splitlines()
    assert executor.startswith("agents.yaml:5:15: agents[0].executor: unknown executor 'srtt'; installed: ")
    assert executor.endswith("did you mean 'srt'?")
    assert sink.startswith("agents.yaml:6:35: agents[0].event_sinks[2]: unknown event sink 'nowhere'")
    assert blocked.startswith(
        "agents.yaml:11:15: agents[1].executor: the executor plugin 'msb' is installed but blocked"
    )


def test_a_plugin_in_the_defaults_is_named_once(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(
        "defaults: {model: m, mode: ptc, executor: nowhere}\nagents: [{name: a}, {name: b}, {name: c, mode: tools}]\n"
    )
    done = agentd("check", "agents.yaml")
    assert done.stderr.count("unknown executor 'nowhere'") == 1
    assert done.stderr.startswith("agents.yaml:1:43: defaults.executor: ")


def test_folders_of_skills_that_cannot_be_used_are_named_where_they_stand(agentd: Command) -> None:
    for name in ("mine/tidy", "theirs/tidy"):
        (agentd.cwd / name).mkdir(parents=True)
        (agentd.cwd / name / "SKILL.md").write_text("---\nname: tidy\ndescription: Tidy up.\n---\n")
    (agentd.cwd / "empty").mkdir()
    (agentd.cwd / "agents.yaml").write_text(
        "defaults: {model: m}\nagents:\n  - name: a\n    mode: ptc\n    skills:\n      - mine\n      - nowhere\n"
        "      - empty\n      - ${OF_NOBODY:-gone}\n  - {name: b, mode: ptc, skills: [mine, theirs]}\n"
        "  - {name: c, mode: ptc, skills: [mine, theirs/tidy/../../mine]}\n"
    )
    done = agentd("check", "agents.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    missing, empty, referred, twice, _ = done.stderr.splitlines()
    what = "name a skill's folder or a folder of skills"
    assert missing == f"agents.yaml:7:9: agents[0].skills[1]: '{agentd.cwd}/nowhere' is no folder; {what}"
    assert empty.startswith(f"agents.yaml:8:9: agents[0].skills[2]: '{agentd.cwd}/empty' has no SKILL.md")
    assert referred == "agents.yaml:9:9: agents[0].skills[3]: the skill renderer cannot use this"
    assert twice.startswith("agents.yaml:10:34: agents[1].skills: two are called 'tidy': ")


def test_no_plugin_is_imported(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text(BAD.replace("srtt", "srt").replace(", nowhere", ""))
    agentd.command[1:1] = ["-X", "importtime"]
    done = agentd("check", "agents.yaml")
    assert done.returncode == 0, done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "agentd_daemon.config.loading" in loaded
    assert not {
        name
        for name in loaded
        if name.startswith(("agentd_", "openai", "mcp", "litellm", "prompt_toolkit"))
        and name.partition(".")[0] not in ("agentd_cli", "agentd_daemon", "agentd_sink_console")
    }


def test_the_object_has_errors_and_warnings_with_their_places(agentd: Command) -> None:
    (agentd.cwd / "key").write_text("sk-5ecret")
    (agentd.cwd / "key").chmod(0o644)
    (agentd.cwd / "agents.yaml").write_text("agents: [{name: a, model: m, api_key: '${file:key}'}]")
    done = agentd("check", "--json", "agents.yaml", "missing.yaml")
    report = json.loads(done.stdout)
    assert done.returncode == 2
    assert report["errors"] == [
        {
            "file": "missing.yaml", "line": None, "column": None, "path": "",
            "message": "cannot be read: No such file or directory",
        }
    ]  # fmt: skip
    (warning,) = report["warnings"]
    assert (warning["line"], warning["column"], warning["path"]) == (1, 39, "agents[0].api_key")
    assert "sk-5ecret" not in done.stdout + done.stderr
    done = agentd("check", "--json", "agents.yaml")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["agents"], report["errors"]) == (0, True, ["a"], [])


def test_a_value_from_the_environment_is_not_shown(agentd: Command) -> None:
    agentd.env["TOKEN"] = "sk-5ecret"
    (agentd.cwd / "agents.yaml").write_text("agents: [{name: a, model: m, mode: ptc, executor: '${TOKEN}'}]")
    done = agentd("check", "agents.yaml")
    assert "agents[0].executor: " in done.stderr
    assert "sk-5ecret" not in done.stderr


def test_the_schema_is_printed_as_it_lies_in_the_documentation(agentd: Command) -> None:
    done = agentd("schema")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (ROOT / "docs" / "reference" / "agents.schema.json").read_text()


def test_a_key_cannot_steer_the_terminal_or_forge_a_line(agentd: Command) -> None:
    key = r'"\e]0;owned\anam\nagents.yaml:1:1: forged"'
    (agentd.cwd / "agents.yaml").write_text(f"agents:\n  - name: a\n    model: m\n    {key}: 1\n")
    for command in (("check",), ("daemon", "--once")):
        done = agentd(*command, "agents.yaml")
        assert done.returncode == 2
        assert "\x1b" not in done.stderr
        assert "\a" not in done.stderr
        assert not [line for line in done.stderr.splitlines() if line.startswith("agents.yaml:1:1: forged")]
        assert "nam agents.yaml:1:1: forged: unknown key" in done.stderr.replace("\\n", " ")


def test_a_name_cannot_steer_the_terminal(agentd: Command) -> None:
    (agentd.cwd / "agents.yaml").write_text('agents: [{name: a, model: "m\\e[2J"}]')
    done = agentd("check", "agents.yaml")
    assert "\x1b" not in done.stdout + done.stderr
