"""Pydantic AI's agents with models that answer from a list: code that calls the agent's tools, and commands."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import AgentdError, ConfigError
from agentd_pydantic_ai import AgentdWorkspace, AgentdWorkspaces, CodeToolset
from pydantic import BaseModel
from pydantic_ai import Agent, FunctionToolset, ModelRetry, RunContext
from pydantic_ai.exceptions import ApprovalRequired, UserError
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from pydantic_ai.workspaces import WorkspaceRef, WorkspaceUnavailableError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Depot:
    items: dict[str, int]


class Item(BaseModel):
    name: str
    count: int


tools = FunctionToolset[Depot]()


@tools.tool
async def stock(ctx: RunContext[Depot], name: str, minimum: int = 0) -> Item:
    """How many of an item the depot has.

    Args:
        name: the item
        minimum: no fewer than these
    """
    if name not in ctx.deps.items:
        raise ModelRetry(f"no {name}; there are: {', '.join(ctx.deps.items)}")
    return Item(name=name, count=max(minimum, ctx.deps.items[name]))


@tools.tool_plain
def names() -> list[str]:
    """All items."""
    return ["nut", "bolt"]


@tools.tool_plain
def order(name: str) -> str:
    """Order an item, if somebody agrees."""
    raise ApprovalRequired


def listed(codes: list[str], seen: list[AgentInfo] | None = None, parallel: bool = False) -> FunctionModel:
    """A model that runs one piece of code after the other, then says what the last one printed."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if seen is not None:
            seen.append(info)
        said = [part.content for m in messages for part in m.parts if isinstance(part, ToolReturnPart)]
        if len(said) >= len(codes):
            return ModelResponse([TextPart("\n".join(map(str, said if parallel else said[-1:])))])
        wanted = codes if parallel else [codes[len(said)]]
        return ModelResponse([ToolCallPart("run_code", {"code": code}) for code in wanted])

    return FunctionModel(answer)


async def run(codes: list[str], executor: str | None = "subprocess", **settings: Any) -> str:
    model = listed(codes, settings.pop("seen", None), settings.pop("parallel", False))
    toolset = CodeToolset(tools, executor=executor, **settings)
    agent = Agent(model, deps_type=Depot, toolsets=[toolset])
    result = await agent.run("Count.", deps=Depot({"nut": 3, "bolt": 4}))
    return result.output.strip()


@pytest.mark.parametrize("executor", [None, "native", "subprocess"])
async def test_an_agent_solves_a_task_by_code_that_calls_its_tools(executor: str | None) -> None:
    seen: list[AgentInfo] = []
    code = "from lib.tools import names, stock\nprint(sum(stock(name)['count'] for name in names()))"
    assert await run([code], executor, seen=seen) == "7"
    (tool,) = seen[0].function_tools
    assert tool.name == "run_code"
    assert "- stock(name: str, minimum: int = 0)" in str(tool.description)
    assert "-> list[str]" in str(tool.description)
    assert "How many of an item the depot has." in str(tool.description)


async def test_what_a_tool_refuses_is_an_exception_of_the_code() -> None:
    code = (
        "from lib.tools import stock, order, ToolError\n"
        "for call in (lambda: stock('gear'), lambda: stock(name='nut', minimum='many'), lambda: order('nut')):\n"
        "    try:\n        call()\n"
        "    except ToolError as error:\n        print(type(error).__name__, str(error).splitlines()[0])\n"
    )
    first, second, third = (await run([code])).splitlines()
    assert first == "ToolError no gear; there are: nut, bolt"
    assert second.startswith("ToolInputError")
    assert third == "ToolDeniedError this call needs an answer from outside, which code cannot wait for"


async def test_code_that_fails_is_told_with_its_exit_code_and_the_run_goes_on() -> None:
    said = await run(["print('before'); 1 / 0"])
    assert "before" in said
    assert "ZeroDivisionError" in said
    assert said.endswith("[failed, exit code 1]")
    assert await run(["pass"]) == "(no output)"
    assert "characters left out" in await run(["print('x' * 100_000)"])


async def test_variables_stay_if_asked_and_files_in_any_case() -> None:
    assert (
        await run(["x = 5\nopen('f', 'w').write('kept')", "print(x, open('f').read())"], state="kept")
        == "5 kept"
    )
    assert "NameError" in await run(["x = 5", "print(x)"])


async def test_several_pieces_of_code_at_once_each_call_their_own_tools() -> None:
    code = "from lib.tools import stock\nprint({0!r}, stock({0!r})['count'])"
    said = await run([code.format("nut"), code.format("bolt")], parallel=True)
    assert sorted(line for line in said.splitlines() if line) == ["bolt 4", "nut 3"]


async def test_without_a_word_about_it_code_is_in_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("a key")
    assert "FileNotFoundError" in await run([f"open('{tmp_path}/private')"], None)
    with pytest.raises(AgentdError, match="srtt"):
        await run(["pass"], "srtt")


async def test_their_test_model_calls_the_tool_as_it_is_described() -> None:
    agent = Agent(TestModel(), deps_type=Depot, toolsets=[CodeToolset(tools, executor="subprocess")])
    async with agent:
        result = await agent.run("Count.", deps=Depot({}))
    assert "run_code" in result.output


async def test_a_run_s_own_tool_works_in_its_workspace_and_another_process_finds_the_files(
    tmp_path: Path,
) -> None:
    agent = Agent(TestModel(call_tools=["check"]))

    @agent.tool
    async def check(ctx: RunContext[None]) -> str:
        """Run a command in the workspace."""
        await ctx.workspace.write_text("sum.py", "print(sum(range(11)))\n")
        return (await ctx.workspace.run(["python3", "sum.py"])).stdout

    async with AgentdWorkspaces("native", root=tmp_path) as workspaces:
        backend = workspaces.backend()
        result = await agent.run("Check.", workspace=backend)
        assert "55" in result.output
        ref = backend.ref
    assert isinstance(ref, WorkspaceRef)
    async with AgentdWorkspaces("subprocess", root=tmp_path) as later:
        again = later.backend(ref)
        assert (await again.run("cat sum.py | wc -l", shell=True)).stdout.strip() == "1"
        with pytest.raises(WorkspaceUnavailableError, match="not there"):
            await later.backend(WorkspaceRef(provider="agentd", id="nothing")).working_dir()
        with pytest.raises(WorkspaceUnavailableError, match="not the name"):
            await later.backend(WorkspaceRef(provider="agentd", id="../x")).working_dir()
        with pytest.raises(ValueError, match="provider"):
            later.backend(WorkspaceRef(provider="local", id="/"))


def waiting(*codes: str, executor: str | None = None, **settings: Any) -> Agent[Depot, str]:
    """An agent whose runs do what their prompt says, line by line, with one toolset for all."""

    def answer(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        said = [part.content for m in messages for part in m.parts if isinstance(part, ToolReturnPart)]
        wanted = str(messages[0].parts[0].content).split("|")  # type: ignore[union-attr]
        if len(said) >= len(wanted):
            return ModelResponse([TextPart(" ".join(str(each).strip() for each in said))])
        return ModelResponse([ToolCallPart("run_code", {"code": wanted[len(said)]})])

    return Agent(
        FunctionModel(answer), deps_type=Depot, toolsets=[CodeToolset(tools, executor=executor, **settings)]
    )


async def test_runs_at_the_same_time_have_a_sandbox_each_and_none_ends_another_s() -> None:
    agent = waiting()
    look = "import os; os.path.exists('who') or open('who', 'w').write({!r}); print(open('who').read())"
    quick, slow = (
        f"{look.format('ada')}",
        f"{look.format('bob')}|import time; time.sleep(1)|{look.format('eve')}",
    )
    results = await asyncio.gather(*(agent.run(prompt, deps=Depot({})) for prompt in (slow, quick)))
    assert [result.output for result in results] == ["bob (no output) bob", "ada"]


async def test_inside_of_an_entered_agent_all_runs_have_one_sandbox_until_it_is_left() -> None:
    agent = waiting(state="kept")
    async with agent:
        quick, slow = "open('f', 'w').write('kept')", "import time; time.sleep(1)|x = 5"
        await asyncio.gather(*(agent.run(prompt, deps=Depot({})) for prompt in (slow, quick)))
        assert (await agent.run("print(x, open('f').read())", deps=Depot({}))).output == "5 kept"
    assert "NameError" in (await agent.run("print(x)", deps=Depot({}))).output
    async with agent:
        assert "NameError" in (await agent.run("print(x)", deps=Depot({}))).output


async def test_what_a_tool_raises_is_told_with_its_type_and_what_is_wrong_with_a_toolset_at_once() -> None:
    broken = FunctionToolset[Depot]()

    @broken.tool_plain
    def look(key: str) -> int:
        """Look something up."""
        return {}[key]  # type: ignore[no-any-return]

    model = listed(["from lib.tools import look\nlook('abc')"])
    agent = Agent(model, deps_type=Depot, toolsets=[CodeToolset(broken, executor="subprocess")])
    assert "ToolError: KeyError: 'abc'" in (await agent.run("Look.", deps=Depot({}))).output
    with pytest.raises(ConfigError, match=r"'state' of CodeToolset.*'fresh' or 'kept'"):
        CodeToolset(tools, state="keep")  # type: ignore[arg-type]
    with pytest.raises(AgentdError):  # and no group of one
        await waiting(options={"limits": {"processes": -1}}).run("pass", deps=Depot({}))


async def test_a_capability_gives_runs_a_new_workspace_or_the_one_that_is_named(tmp_path: Path) -> None:
    async with AgentdWorkspaces("subprocess", root=tmp_path) as workspaces:
        agent = Agent(TestModel(call_tools=["look"]), capabilities=[AgentdWorkspace(workspaces)])

        @agent.tool
        async def look(ctx: RunContext[None]) -> str:
            """Say what was there, and leave something."""
            found = [entry.name for entry in await ctx.workspace.list_dir(".")]
            await ctx.workspace.write_text("been", "here")
            return f"found: {found}"

        assert "been" not in (await agent.run("Look.")).output
        first = workspaces.backend()
        assert "been" not in (await agent.run("Look.", workspace=first)).output
        assert first.ref is not None
        assert "been" in (await agent.run("Look.", workspace=first.ref)).output
        assert "been" not in (await agent.run("Look.")).output
        unknown = WorkspaceRef(provider="local", id="/")
        with pytest.raises(UserError):
            await agent.run("Look.", workspace=unknown)
    with pytest.raises(WorkspaceUnavailableError, match="were closed"):
        await workspaces.backend().working_dir()
    assert len(list(tmp_path.iterdir())) == 3
