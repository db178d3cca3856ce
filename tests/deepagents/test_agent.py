"""A whole deep agent, with a model that answers from a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import AgentdError, ExecutorClosedError
from agentd_deepagents import AgentdSandbox
from deepagents import create_deep_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage


class ListedModel(GenericFakeChatModel):
    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self


def call(ident: str, name: str, **arguments: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"id": ident, "name": name, "args": arguments}])


@pytest.mark.parametrize("executor", [None, "subprocess"], ids=["as-it-comes", "subprocess"])
def test_an_agent_writes_edits_runs_and_reads(executor: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    script = f"{folder}/count.py"
    answers = [
        call("1", "write_file", file_path=script, content="print(sum(range(10)))\n"),
        call("2", "edit_file", file_path=script, old_string="10", new_string="11"),
        call("3", "execute", command="python3 count.py | tee result.txt"),
        call("4", "read_file", file_path=f"{folder}/result.txt"),
        AIMessage("It is 55."),
    ]
    with AgentdSandbox(executor, workspace=folder) as backend:
        agent = create_deep_agent(model=ListedModel(messages=iter(answers)), backend=backend)
        state = agent.invoke({"messages": [("user", "Write a program that adds up 0 to 10, and run it.")]})
    said = {message.tool_call_id: message.text for message in state["messages"] if message.type == "tool"}
    assert said["3"].startswith("55\n")
    assert "55" in said["4"]
    assert state["messages"][-1].text == "It is 55."
    assert (folder / "result.txt").read_text() == "55\n"


def test_without_a_word_about_it_code_is_in_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("a key")
    with AgentdSandbox() as backend:
        assert backend.execute(f"cat {tmp_path}/private").exit_code == 1
        assert backend.execute("pwd").output == f"{backend.workspace}\n"
        folder = backend.workspace
        assert backend.id.startswith("agentd-")
    assert not folder.exists()
    with pytest.raises(ExecutorClosedError):
        backend.execute("true")
    with pytest.raises(AgentdError, match="srtt"):
        AgentdSandbox("srtt")


def test_a_command_that_takes_too_long_ends_with_everything_below_it() -> None:
    with AgentdSandbox("subprocess", timeout=0.5) as backend:
        done = backend.execute("echo before; sleep 60 & sleep 60")
        assert done.exit_code == 124
        assert done.output.startswith("before\n")
        assert "0.5 s" in done.output
        own = backend.execute("sleep 0.7; echo late", timeout=20)
        assert (own.output, own.exit_code, own.truncated) == ("late\n", 0, False)
        much = backend.execute("head -c 10000000 /dev/zero", timeout=20)
        assert much.truncated


async def test_what_cannot_be_written_is_told_with_its_reason() -> None:
    with AgentdSandbox() as backend:
        backend.execute("echo x > file")
        paths = [
            "/etc/x",
            f"{backend.workspace}/file/x",
            f"{backend.workspace}/{'x' * 300}",
            "x",
            "/dev/full",
        ]
        wanted = [(path, b"x") for path in paths]
        told = [answer.error for answer in backend.upload_files(wanted)]
        invalid = "invalid_path"
        assert told == [
            "permission_denied",
            invalid,
            "File name too long",
            invalid,
            "No space left on device",
        ]
        assert [answer.error for answer in await backend.aupload_files(wanted)] == told
        assert backend.write("/etc/x", "x").error == "Failed to write file '/etc/x': permission_denied"
