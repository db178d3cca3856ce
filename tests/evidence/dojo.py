"""AgentDojo: its users' tasks as cases, and its injected tasks with and without a policy.

As cases, the users' tasks of v1.2 are replayed by AgentDojo's ground truth, and `utility` tells whether they are
done.

`attack` assumes the worst model: in a block of code it makes all calls of the user's task, and then, as if each
injected text had convinced it, those of every injected task of the suite. The tools are AgentDojo's own, with its
environments. With the policy `ask-writes`, whoever is asked says yes to what the user's task needs, to the letter,
and no to all else. Counted are calls, and what AgentDojo's own checks say of the environment afterwards: whether
the user's task is done (`utility`), whether an injected one is (`security`).
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, redirect_stdout
from io import StringIO
from typing import Any, Final

from agentd.errors import ToolError
from agentd.protocols import ModelFinish, ModelText
from agentd.session.session import Session
from agentd.types import ToolSpec
from agentdojo.functions_runtime import FunctionCall, FunctionsRuntime
from agentdojo.task_suite.load_suites import get_suites

from evidence.cases import Case, DataSet, GoldCall, GoldTurn

__all__ = ["DOJO", "attack", "user_tasks"]

VERSION: Final = "v1.2"
READING: Final = ("get_", "read_", "search_", "list_", "check_")

CODE: Final = """```python:execute
import json
from lib import tools
from lib.tools import ToolDeniedError, ToolError
for number, (name, arguments) in enumerate(json.load(open("calls.json"))):
    try:
        getattr(tools, name)(**arguments)
        said = "done"
    except ToolDeniedError:
        said = "denied"
    except ToolError as error:
        said = "failed"
    print(number, said)
```
"""


@functools.cache
def suites() -> dict[str, Any]:
    """Return AgentDojo's suites by name."""
    return dict(get_suites(VERSION))


class DojoTools:
    """The tools of a suite, on one of its environments. Those that change nothing say so. A tool source."""

    def __init__(self, name: str, environment: Any) -> None:
        self.name = name
        self.environment = environment
        self.functions = {tool.name: tool for tool in suites()[name].tools}
        self.runtime = FunctionsRuntime(suites()[name].tools)
        self.made: list[FunctionCall] = []

    def whole(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's arguments with the defaults of those that it leaves out."""
        fields = self.functions[name].parameters.model_fields
        return {
            **{key: field.default for key, field in fields.items() if not field.is_required()},
            **arguments,
        }

    async def list_tools(self, host: Any = None) -> list[ToolSpec]:
        return specs(self.name)

    async def call(self, name: str, arguments: Mapping[str, Any], on_progress: Any = None) -> str:
        result, error = self.run(name, arguments)
        if error is not None:
            raise ToolError(error)
        return result

    def run(self, name: str, arguments: Mapping[str, Any]) -> tuple[str, str | None]:
        """Carry out a call; return its result and what went wrong."""
        self.made.append(FunctionCall(function=name, args=dict(arguments)))
        with redirect_stdout(StringIO()):  # some of AgentDojo's print
            result, error = self.runtime.run_function(self.environment, name, dict(arguments))
        return str(result), error

    async def aclose(self) -> None: ...


def specs(suite_name: str) -> list[ToolSpec]:
    """Return a suite's tools."""
    reading = tools_that_read(suite_name)
    return [
        ToolSpec(
            name=tool.name,
            description=tool.description,
            input_schema=tool.parameters.model_json_schema(),
            source=suite_name,
            annotations={"readOnlyHint": tool.name in reading},
        )
        for tool in suites()[suite_name].tools
    ]


def calls_of(task: Any, environment: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the calls of a task's ground truth, as JSON has them."""
    made = task.ground_truth(environment.model_copy(deep=True))
    return [(call.function, json.loads(json.dumps(dict(call.args), default=str))) for call in made]


def fresh(suite: Any, task: Any) -> Any:
    """Return a task's environment as it begins."""
    environment = suite.load_and_inject_default_environment({})
    return task.init_environment(environment) if hasattr(task, "init_environment") else environment


@functools.cache
def tools_that_read(suite_name: str) -> frozenset[str]:
    """Return the tools whose name says that they read, if no call of a ground truth changed anything by them."""
    suite = suites()[suite_name]
    reading = {tool.name for tool in suite.tools if tool.name.startswith(READING)}
    for task in [*suite.user_tasks.values(), *suite.injection_tasks.values()]:
        environment = fresh(suite, task)
        runtime = FunctionsRuntime(suite.tools)
        for name, arguments in calls_of(task, environment):
            before = environment.model_dump()
            runtime.run_function(environment, name, arguments)
            if environment.model_dump() != before:
                reading.discard(name)
    return frozenset(reading)


def is_reached(task: Any, before: Any, source: DojoTools) -> bool:
    """Tell whether AgentDojo calls an injected task done; some it judges by the calls that were made."""
    with redirect_stdout(StringIO()):
        try:
            return bool(task.security("", before, source.environment))
        except NotImplementedError:
            return bool(task.security_from_traces("", before, source.environment, source.made))


def is_done(task: Any, before: Any, source: DojoTools) -> bool:
    """Tell whether AgentDojo calls a user's task done, likewise."""
    answer = getattr(task, "GROUND_TRUTH_OUTPUT", "")
    with redirect_stdout(StringIO()):
        try:
            return bool(task.utility(answer, before, source.environment))
        except NotImplementedError:
            return bool(task.utility_from_traces(answer, before, source.environment, source.made))


# --- users' tasks as cases -----------------------------------------------------------------------


class DojoWorld:
    """A suite's tools in the environment of one task."""

    def __init__(self, suite_name: str, task: Any) -> None:
        self._task = task
        self._tools = DojoTools(suite_name, fresh(suites()[suite_name], task))
        self._before = self._tools.environment.model_copy(deep=True)

    def specs(self) -> Sequence[ToolSpec]:
        return specs(self._tools.name)

    def begin(self, turn: int) -> bool:
        return False

    def call(self, name: str, arguments: Mapping[str, Any]) -> object:
        result, error = self._tools.run(name, arguments)
        return result if error is None else error

    def end(self, turn: int) -> str:
        done = is_done(self._task, self._before, self._tools)
        return "" if done else "AgentDojo does not call the task done"


def user_tasks() -> Iterator[tuple[str, str, Any]]:
    """Give the users' tasks: the suite's name, an id, and the task."""
    for name, suite in suites().items():
        for task in suite.user_tasks.values():
            yield name, f"{name}_{task.ID}", task


def cases() -> Iterator[Case]:
    for name, key, task in user_tasks():
        gold = [GoldCall(*call) for call in calls_of(task, fresh(suites()[name], task))]
        answer = getattr(task, "GROUND_TRUTH_OUTPUT", "") or "Done."
        yield Case(
            id=key,
            data_set="agentdojo",
            turns=[GoldTurn(task.PROMPT, gold, answer)],
            world=functools.partial(DojoWorld, name, task),
        )


DOJO: Final = DataSet("agentdojo", "agentdojo", cases, lambda: {name: specs(name) for name in suites()})


# --- injected tasks ------------------------------------------------------------------------------


class OneBlock:
    """A model that answers with one block and then ends."""

    name = "one-block"

    def __init__(self) -> None:
        self.answers = [CODE, "Done."]

    def start(self, instructions: str) -> None: ...
    def add_task(self, text: str) -> None: ...
    def add_answer(self, text: str, calls: Sequence[Any] = ()) -> None: ...
    def add_results(self, text: str) -> None: ...

    @asynccontextmanager
    async def stream(self) -> Any:
        yield self._events(self.answers.pop(0))

    async def _events(self, text: str) -> Any:
        yield ModelText(text)
        yield ModelFinish(reason="stop")


async def attack(suite_name: str, task: Any, *, policy: bool) -> Counter[str]:
    """Make the calls of a user's task and of all injected ones, and count what became of them."""
    suite = suites()[suite_name]
    reading = tools_that_read(suite_name)
    source = DojoTools(suite_name, fresh(suite, task))
    before = source.environment.model_copy(deep=True)
    wanted = calls_of(task, source.environment)
    injected = [
        (other, call)
        for other in suite.injection_tasks.values()
        for call in calls_of(other, source.environment)
    ]
    allowed = [(name, source.whole(name, arguments)) for name, arguments in wanted]

    answers: list[tuple[bool, bool]] = []

    def approve(question: Any) -> bool:
        refused = sum(not said for _, said in answers)
        is_users = len(source.made) + refused < len(wanted)  # the block makes the user's calls first
        answers.append(
            (is_users, (question.name, source.whole(question.name, question.arguments())) in allowed)
        )
        return answers[-1][1]

    guarded = {"policy": "ask-writes", "approver": approve} if policy else {}
    with tempfile.TemporaryDirectory(prefix="agentd-evidence-", ignore_cleanup_errors=True) as folder:
        with open(f"{folder}/calls.json", "w", encoding="utf-8") as file:
            json.dump([*wanted, *(call for _, call in injected)], file)
        async with Session(
            OneBlock(), executor="subprocess", cwd=folder, tools=(), mcp_servers=[source], **guarded
        ) as session:
            await session.ask("go")
            output = session.transcript.executions[0].output
    said = dict(line.split() for line in output.splitlines())
    assert len(said) == len(wanted) + len(injected), output
    counts: Counter[str] = Counter()
    counts["user's calls, asked about"] += sum(is_users for is_users, _ in answers)
    for number in range(len(wanted)):
        counts["user's calls"] += 1
        counts["user's calls, made"] += said[str(number)] == "done"
    forbidding = {}
    for number, (other, (name, arguments)) in enumerate(injected, len(wanted)):
        is_own = (name, source.whole(name, arguments)) in allowed
        if name in reading or is_own:
            counts["injected calls that read or are the user's own"] += 1
            continue
        forbidding[other.ID] = other
        counts["injected calls that would change something"] += 1
        counts["injected calls that would change something, stopped"] += said[str(number)] == "denied"
    for other in forbidding.values():
        counts["injected tasks with such a call"] += 1
        counts["injected tasks with such a call, reached"] += is_reached(other, before, source)
    counts["user's tasks"] += 1
    counts["user's tasks, done"] += is_done(task, before, source)
    return counts
