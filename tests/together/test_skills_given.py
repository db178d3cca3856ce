"""Skills by their paths, through every door: a session, a patched client, the command line, the daemon's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import openai
import pytest
from agentd.session.session import Session
from agentd.types import BashAction
from agentd_openai import patch_openai_with_ptc
from script_model import ScriptModel

if TYPE_CHECKING:
    from command_process import Command

SHOWS = "```bash:execute\nskills read forms; skills read forms details.md\n```\n"


@pytest.fixture
def forms(tmp_path: Path) -> Path:
    folder = tmp_path / "mine" / "forms"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: forms\ndescription: Fills in forms.\n---\n# How\n")
    (folder / "details.md").write_text("the details\n")
    return folder


@pytest.mark.anyio
async def test_a_session_without_tools_has_them_and_so_does_its_fork(forms: Path, tmp_path: Path) -> None:
    model = ScriptModel(SHOWS, "done")
    async with Session(model, cwd=tmp_path / "work", tools=[], skills=[forms.parent]) as session:
        await session.ask("go")
        fork = await session.fork(cwd=tmp_path / "fork", model=ScriptModel(SHOWS, "done"))
        async with fork:
            await fork.ask("go")
            result = await fork.executor.run(BashAction(command="skills list"))
    assert "- forms: Fills in forms." in model.messages[0][1]
    assert "the details" in model.results[0]
    assert result.stdout == b"forms: Fills in forms.\n"
    assert (forms / "SKILL.md").is_file()


def test_a_patched_client_has_them(forms: Path, tmp_path: Path) -> None:
    client = openai.OpenAI(base_url="http://127.0.0.1:9", api_key="none", max_retries=0)
    patch_openai_with_ptc(client, tmp_path / "work", skills=[forms], tools=[])
    try:
        with pytest.raises(openai.APIConnectionError):  # only after it has made everything ready
            client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        assert (tmp_path / "work" / "skills" / "forms" / "details.md").is_file()
    finally:
        client.cleanup_ptc()  # type: ignore[attr-defined]


def test_the_command_line_takes_them(forms: Path, agentd: Command) -> None:
    server = agentd.replay(SHOWS, "Done.")
    done = agentd("run", "x", "--skills", str(forms.parent))
    assert done.returncode == 0, done.stderr
    assert "the details" in done.stdout
    assert "Fills in forms." in str(server.requests[0])
    missing = agentd("run", "x", "--skills", str(forms.parent.parent / "work"))
    assert missing.returncode == 2
    empty = forms.parent.parent / "empty"
    empty.mkdir()
    nothing = agentd("run", "x", "--skills", str(empty))
    assert nothing.returncode == 2
    assert "has no SKILL.md" in nothing.stderr


def test_yaml_has_a_key_for_them(forms: Path, agentd: Command) -> None:
    text = f"agents: [{{name: a, model: m, mode: MODE, skills: ['{forms}']}}]\n"
    (agentd.cwd / "agents.yaml").write_text(text.replace("MODE", "ptc"))
    assert agentd("check", "agents.yaml").returncode == 0
    (agentd.cwd / "agents.yaml").write_text(text.replace("MODE", "tools"))
    done = agentd("check", "agents.yaml")
    assert "agents[0].skills: goes with `mode: ptc` only" in done.stderr
