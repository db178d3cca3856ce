"""What is wrong with the command line is told when the command starts, though no editor says anything."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from chat_person import model
from command_process import Command


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--policy", "polcy"), "policy: 'polcy' is neither a preset"),
        (("--executor", "subproces"), "unknown executor 'subproces'"),
        (("--executor", "srt"), "the executor 'srt' does not work: "),
        (("--parser", "fense"), "unknown parser 'fense'"),
        (("--renderer", "agentskils"), "unknown skill renderer 'agentskils'"),
        (("--tool", "python:shop.py"), "shop.py"),
        (("--model", "gpt-x", "--base-url", ""), "no API key"),
        (("-o", "executor.subprocess.tiemout=3"), "tiemout"),
    ],
    ids=[
        "policy",
        "executor",
        "a sandbox that is not there",
        "parser",
        "renderer",
        "tools",
        "model",
        "option",
    ],
)
def test_a_wrong_option_ends_the_command_before_the_first_message(
    agentd: Command, arguments: tuple[str, ...], told: str
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        agentd.env.pop(name, None)
    agentd.env["AGENTD_SRT"] = "/no/srt"
    done = agentd("acp", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_the_model_of_a_folder_is_left_to_its_sessions(agentd: Command) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "AGENTD_MODEL"):
        agentd.env.pop(name, None)
    for arguments in ((), ("-o", "model.request.temperature=0")):
        done = agentd("acp", *arguments)
        assert (done.returncode, done.stderr) == (0, "")


def test_what_is_right_starts_nothing_and_makes_no_folder(agentd: Command, tmp_path: Path) -> None:
    model(agentd, "Fine.")
    done = agentd("acp", "--cwd", str(tmp_path / "not there"), "--policy", "read-only")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "not there").exists()


def test_an_editor_that_never_reads_the_log_is_served(agentd: Command) -> None:
    model(agentd, "Fine.")
    (agentd.cwd / "tools.py").write_text(
        "from agentd import tool\nprint('x' * 200_000)\n\n@tool\ndef shout() -> str:\n    'Shout.'\n    return ''\n"
    )
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": 1}}
    with subprocess.Popen(
        [*agentd.command, "acp", "--tool", "tools.py"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=agentd.env,
        cwd=agentd.cwd,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(hello).encode() + b"\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["result"]["protocolVersion"] == 1
        process.stdin.close()
        assert process.wait(60) == 0
