"""smolagents' `CodeAgent` with a model that answers from a list, on agentd's executors."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import AgentdError
from agentd_smolagents import AgentdPythonExecutor
from PIL import Image
from smolagents import CodeAgent, Model, Tool, tool
from smolagents.default_tools import FinalAnswerTool
from smolagents.local_python_executor import InterpreterError
from smolagents.models import ChatMessage, MessageRole
from smolagents.monitoring import LogLevel, TokenUsage
from smolagents.serialization import SerializationError

TENANT = contextvars.ContextVar("TENANT", default="nobody")


class ListedModel(Model):
    """Answers with one piece of code after the other."""

    def __init__(self, codes: list[str]) -> None:
        super().__init__(model_id="listed")
        self.codes = iter(codes)
        self.seen: list[Any] = []

    def generate(self, messages: list[Any], **kwargs: Any) -> ChatMessage:
        self.seen.append(messages)
        text = f"Thought: I know.\n<code>\n{next(self.codes)}\n</code>"
        return ChatMessage(role=MessageRole.ASSISTANT, content=text, token_usage=TokenUsage(1, 1))


@tool
def stock(item: str, depot: str = "north") -> dict[str, int]:
    """Say how many of an item a depot has.

    Args:
        item: the item
        depot: the depot
    """
    if item == "unicorn":
        raise LookupError("no such item")
    return {"count": len(item) * (2 if depot == "south" else 1)}


@tool
def tenant() -> str:
    """Say who asks."""
    return TENANT.get()


@tool
def picture(width: int) -> Any:
    """Draw a red picture.

    Args:
        width: how wide
    """
    return Image.new("RGB", (width, 4), "red")


@tool
def dates(days: list) -> list:
    """Give back what was sent.

    Args:
        days: some days
    """
    return days


class Polite(FinalAnswerTool):
    def forward(self, answer: Any) -> Any:
        return f"Dear user: {answer}"


TASKS: dict[str, tuple[list[str], Any]] = {
    "an answer at once": (["final_answer(6 * 7)"], 42),
    "names that stay from step to step": (
        ["x = [1, 2]\ndef double(n): return 2 * n", "x.append(3)", "final_answer([double(n) for n in x])"],
        [2, 4, 6],
    ),
    "any import": (
        [
            "import os, subprocess, re",
            "run = subprocess.run(['echo', 'hi'], capture_output=True, text=True)",
            "final_answer(run.stdout.strip())",
        ],
        "hi",
    ),
    "tools by position, by name, with defaults": (
        ["a = stock('nut')\nb = stock(item='bolt', depot='south')", "final_answer(a['count'] + b['count'])"],
        11,
    ),
    "a tool's error is for the code": (
        [
            "try:\n    stock('unicorn')\nexcept Exception as error:\n    said = str(error)",
            "final_answer(said)",
        ],
        "LookupError: no such item",
    ),
    "an error, and what was printed before it": (
        ["print('one')\nprint('two')\n1 / 0", "final_answer('went on')"],
        "went on",
    ),
    "a picture from a tool to the answer": (
        ["image = picture(7)", "final_answer(image.resize((14, 8)))"],
        (14, 8),
    ),
    "values that JSON does not have": (
        ["import datetime\nd = dates([datetime.date(2026, 1, 2), (1, 2), {3}, b'x'])", "final_answer(d)"],
        None,
    ),
    "files that stay": (
        ["open('notes.txt', 'w').write('kept')", "final_answer(open('notes.txt').read())"],
        "kept",
    ),
    "an answer inside a function inside try": (
        [
            "def f():\n    try:\n        final_answer('out')\n    except Exception:\n        pass\nf()\n1 / 0",
        ],
        "out",
    ),
}


@pytest.fixture(params=["native", "subprocess"])
def executor(request: pytest.FixtureRequest) -> Iterator[AgentdPythonExecutor]:
    with AgentdPythonExecutor(request.param) as made:
        yield made


def agent(codes: list[str], executor: AgentdPythonExecutor, **settings: Any) -> CodeAgent:
    return CodeAgent(
        tools=settings.pop("tools", [stock, tenant, picture, dates]),
        model=ListedModel(codes),
        executor=executor,
        additional_authorized_imports=["*"],
        verbosity_level=LogLevel.OFF,
        **settings,
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_code_agent_solves_a_task(name: str, executor: AgentdPythonExecutor) -> None:
    codes, wanted = TASKS[name]
    made = agent(codes, executor)
    answer = made.run("Do it.")
    if name.startswith("a picture"):
        assert answer.to_raw().size == wanted
    elif name.startswith("values"):
        import datetime

        assert answer == [datetime.date(2026, 1, 2), (1, 2), {3}, b"x"]
    else:
        assert answer == wanted
    steps = made.memory.get_full_steps()
    if name.startswith("an error"):
        assert "due to: ZeroDivisionError: division by zero" in str(steps[1]["error"])
        assert "line '1 / 0'" in str(steps[1]["error"])
        assert "one\ntwo" in steps[1]["observations"]


def test_variables_of_a_run_reach_the_code_pictures_too(executor: AgentdPythonExecutor) -> None:
    made = agent(["final_answer((table['rows'] + n, image.size))"], executor)
    image = Image.new("L", (3, 5))
    assert made.run("Do it.", additional_args={"table": {"rows": 2}, "n": 1, "image": image}) == (3, (3, 5))


def test_arrays_travel(executor: AgentdPythonExecutor) -> None:
    import numpy

    executor.send_variables({"a": numpy.arange(3)})
    executor.send_tools({"final_answer": FinalAnswerTool()})
    assert executor("final_answer(a * 2)").output.tolist() == [0, 2, 4]


def test_the_state_is_kept_between_runs_of_one_agent(executor: AgentdPythonExecutor) -> None:
    made = agent(["counter = 1\nfinal_answer(counter)", "counter += 1\nfinal_answer(counter)"], executor)
    assert made.run("Count.") == 1
    assert made.run("Count on.", reset=False) == 2


def test_a_final_answer_tool_of_the_users_own_has_its_say(executor: AgentdPythonExecutor) -> None:
    made = agent(["final_answer('yes')"], executor, tools=[Polite()])
    assert made.run("Do it.") == "Dear user: yes"


def test_a_managed_agent_is_called_from_the_sandbox(executor: AgentdPythonExecutor) -> None:
    with AgentdPythonExecutor("subprocess") as below:
        helper = agent(["final_answer('found it')"], below, name="helper", description="Finds things.")
        made = agent(["final_answer(helper('Find it.'))"], executor, managed_agents=[helper])
        assert "found it" in made.run("Do it.")


def test_tools_see_the_context_of_the_run(executor: AgentdPythonExecutor) -> None:
    TENANT.set("acme")
    assert agent(["final_answer(tenant())"], executor).run("Who?") == "acme"


def test_the_last_value_is_the_output_as_with_the_local_executor(executor: AgentdPythonExecutor) -> None:
    executor.send_tools({})
    assert executor("x = 3").output == 3
    assert executor("x + 1").output == 4
    assert executor("print(sqrt(9))").logs == "3.0\n"
    assert executor("for i in range(2): pass").output is None
    shown = executor("object()")
    assert (type(shown.output), shown.is_final_answer) == (str, False)


def test_what_ends_the_interpreter_ends_that_step_and_the_next_one_has_the_tools_again(
    executor: AgentdPythonExecutor,
) -> None:
    executor.send_variables({"n": 5})
    executor.send_tools({"stock": stock, "final_answer": FinalAnswerTool()})
    executor("x = 1")
    with pytest.raises(
        InterpreterError, match=r"interpreter with exit code 3; all variables are lost$"
    ) as ended:
        executor("import os\nos._exit(3)")
    assert "namespace" not in str(ended.value)
    with pytest.raises(InterpreterError, match="NameError: name 'x' is not defined"):
        executor("x")
    assert executor("final_answer(stock('nut')['count'] + n)").output == 8
    with pytest.raises(InterpreterError, match="a object, which cannot leave the sandbox"):
        executor("final_answer(object())")
    with pytest.raises(InterpreterError, match="SystemExit: 3"):
        executor("raise SystemExit(3)")
    with pytest.raises(InterpreterError, match="Code parsing failed on line 2"):
        executor("x = 1\ndef f(:")


def test_code_that_takes_too_long_ends(tmp_path: Path) -> None:
    with AgentdPythonExecutor("subprocess", timeout=1, workspace=tmp_path) as executor:
        executor.send_tools({})
        with pytest.raises(InterpreterError, match="variables are lost"):
            executor("print('begun')\nwhile True: pass")
        assert executor.state["_print_outputs"] == "begun\n"
        assert executor("1 + 1").output == 2
    with pytest.raises(InterpreterError, match="closed"):
        executor("1")


def test_an_outcome_comes_however_long_it_is_and_whatever_became_of_the_output(
    executor: AgentdPythonExecutor,
) -> None:
    executor.send_tools({"final_answer": FinalAnswerTool()})
    executor.send_variables({})
    for length in (1, 200_000, 3_000_000):
        got = executor(f"print('printed')\nfinal_answer('x' * {length})")
        assert (got.output, got.logs, got.is_final_answer) == ("x" * length, "printed\n", True)
    assert executor("import sys\nprint('a', end='')\n'b'").logs == "a"
    closed = executor("import os\nwas = os.dup(1)\nos.close(1)\n'there'")
    assert (closed.output, closed.logs) == ("there", "")
    assert executor("os.dup2(was, 1)\n2").output == 2


def test_what_is_printed_is_cut(executor: AgentdPythonExecutor) -> None:
    with AgentdPythonExecutor("subprocess", max_print_outputs_length=1000) as short:
        short.send_tools({})
        logs = short("print('x' * 100_000)").logs
    assert len(logs) < 1200
    assert "truncated" in logs


def test_without_a_word_about_it_code_is_in_a_sandbox(tmp_path: Path) -> None:
    (tmp_path / "private").write_text("a key")
    with AgentdPythonExecutor() as executor:
        executor.send_tools({})
        with pytest.raises(InterpreterError, match="FileNotFoundError"):
            executor(f"open('{tmp_path}/private').read()")
    with pytest.raises(AgentdError, match="srtt"):
        AgentdPythonExecutor("srtt")


def test_a_class_of_tools_works_as_a_function_does(executor: AgentdPythonExecutor) -> None:
    class Shout(Tool):
        name = "shout"
        description = "Shouts."
        inputs = {"text": {"type": "string", "description": "what"}}  # noqa: RUF012
        output_type = "string"

        def forward(self, text: str) -> str:
            return text.upper()

    executor.send_tools({"shout": Shout()})
    assert executor("shout({'text': 'hey'})").output == "HEY"


def test_an_executor_that_two_agents_share_is_refused_at_once_and_the_first_agent_goes_on() -> None:
    with AgentdPythonExecutor("subprocess") as shared:
        helper = agent(["final_answer(1)"], shared, name="helper", description="Finds things.", max_steps=1)
        codes = [
            "kept = 5\ntry:\n    helper('Find it.')\nexcept Exception as error:\n    said = str(error)",
            "final_answer((said, kept, stock('nut')['count']))",
        ]
        said, *rest = agent(codes, shared, managed_agents=[helper]).run("Do it.")
        assert "give each agent its own `AgentdPythonExecutor`" in said
        assert rest == [5, 3]
        assert helper.model.seen == []


def test_code_of_another_thread_is_refused_while_code_runs() -> None:
    begun, over = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        over.wait(30)

    with AgentdPythonExecutor("subprocess") as executor:
        executor.send_tools({"wait": wait})
        first = threading.Thread(target=executor, args=("wait()",))
        first.start()
        try:
            assert begun.wait(30)
            with pytest.raises(InterpreterError, match="runs the code of another agent"):
                executor("1")
            with pytest.raises(InterpreterError, match="runs the code of another agent"):
                executor.send_variables({"n": 1})
        finally:
            over.set()
            first.join()
        assert executor("2").output == 2


def test_a_variable_that_cannot_travel_is_named_before_the_model_is_asked_and_the_next_run_works() -> None:
    with AgentdPythonExecutor("subprocess") as executor:
        made = agent(["final_answer(k)"], executor)
        with pytest.raises(SerializationError, match=r"the variable 'table' is a object, .* to a file"):
            made.run("Do it.", additional_args={"table": object(), "k": 1})
        assert made.model.seen == []
        assert made.run("Do it.") == 1


def test_what_code_and_its_programs_write_to_standard_error_is_in_the_logs(
    executor: AgentdPythonExecutor,
) -> None:
    executor.send_tools({})
    code = "import subprocess, sys\nprint('out')\nprint('oh', file=sys.stderr)\nsubprocess.run(['ls', '/no-such'])\n7"
    done = executor(code)
    assert done.output == 7
    assert done.logs.startswith("out\noh\n")
    assert "/no-such" in done.logs
    with pytest.raises(InterpreterError, match="exit code 3"):
        executor("import os\nos.write(2, b'the end')\nos._exit(3)")
    assert executor.state["_print_outputs"] == "the end"
