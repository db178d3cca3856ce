"""A whole deep agent, with a model that answers from a list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd.errors import AgentdError, ExecutorClosedError
from agentd.types import Limits
from agentd_deepagents import AgentdSandbox
from deepagents import create_deep_agent
from deepagents.backends import CompositeBackend, FilesystemBackend
from deepagents.backends.sandbox import BaseSandbox
from deepagents.middleware.filesystem import supports_execution
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool


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


@tool
def pages() -> str:
    """Search."""
    return "\n".join(f"line {number} {'x' * 60}" for number in range(5000))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
async def test_what_is_too_large_for_the_context_is_moved_into_the_workspace(asynchronous: bool) -> None:
    with AgentdSandbox() as backend:
        moved = backend.workspace / "large_tool_results" / "1"
        answers = [
            call("1", "pages"),
            call("2", "read_file", file_path=str(moved), offset=4000, limit=1),
            call("3", "execute", command="tail -n 1 large_tool_results/1"),
            AIMessage("Done."),
        ]
        agent = create_deep_agent(model=ListedModel(messages=iter(answers)), backend=backend, tools=[pages])
        asked = {"messages": [("user", "word " * 100_000)]}
        state = await agent.ainvoke(asked) if asynchronous else agent.invoke(asked)
        said = {message.tool_call_id: message.text for message in state["messages"] if message.type == "tool"}
        assert len(said["1"]) < 20_000
        assert str(moved) in said["1"]
        assert moved.read_text() == pages.invoke({})
        assert "line 4000 x" in said["2"]
        assert said["3"].startswith("line 4999 x")
        (question,) = (backend.workspace / "conversation_history").iterdir()
        assert question.read_text() == "word " * 100_000


def test_it_is_a_sandbox_also_behind_another_backend(tmp_path: Path) -> None:
    with AgentdSandbox("subprocess", workspace=tmp_path) as backend:
        assert isinstance(backend, BaseSandbox)
        notes = FilesystemBackend(root_dir=tmp_path / "notes", virtual_mode=True)
        both = CompositeBackend(backend, {"/notes/": notes}, artifacts_root=str(backend.workspace))
        assert supports_execution(both)
        assert both.write("/notes/a", "x").error is None
        assert both.execute("cat notes/a").output == "x"


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


def test_a_time_out_of_0_is_none_and_a_negative_one_is_an_error() -> None:
    with AgentdSandbox("subprocess", timeout=0.1) as backend:
        assert backend.execute("sleep 0.2; echo late").exit_code == 124
        assert backend.execute("sleep 0.2; echo late", timeout=0).output == "late\n"
        with pytest.raises(ValueError, match=r"timeout: .*-1"):
            backend.execute("true", timeout=-1)
    with pytest.raises(ValueError, match=r"timeout: .*-1"):
        AgentdSandbox("subprocess", timeout=-1)


def test_an_executor_has_no_time_out_of_its_own_unless_one_is_named() -> None:
    for executor, options, wanted in (
        ("subprocess", None, None),
        (("subprocess", {"limits": {"memory_mib": 100}}), None, None),
        (("subprocess", {"limits": {"timeout_s": 5}}), {}, 5),
        ("subprocess", {"limits": Limits(timeout_s=5)}, 5),
        ("subprocess", {"timeout": 5}, 5),
    ):
        with AgentdSandbox(executor, options=options) as backend:
            assert backend.sandbox.executor.limits.timeout_s == wanted


async def test_it_is_a_context_manager_of_an_event_loop_too() -> None:
    async with AgentdSandbox("subprocess") as backend:
        assert (await backend.aexecute("pwd")).output == f"{backend.workspace}\n"
    assert not backend.workspace.exists()


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
