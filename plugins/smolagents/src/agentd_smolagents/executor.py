"""`AgentdPythonExecutor`: smolagents' `PythonExecutor` on an executor of agentd."""

from __future__ import annotations

import inspect
import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from agentd.errors import ExecutorError
from agentd.types import ActionResult, PythonAction
from agentd_runner.host.command_sandbox import CommandSandbox
from smolagents import serialization
from smolagents.default_tools import FinalAnswerTool
from smolagents.local_python_executor import CodeOutput, InterpreterError, PythonExecutor
from smolagents.serialization import SafeSerializer, SerializationError
from smolagents.utils import truncate_content

from agentd_smolagents.calls import AgentCalls

__all__ = ["AgentdPythonExecutor"]

TIMEOUT_S: Final = 60.0
MAX_PRINTED: Final = 50_000  # characters, as smolagents' local executor
LOST: Final = "the kept Python namespace is lost"  # the runner's words, in a result's message

_SET_UP: Final = """\
import sys, types
if "_agentd_kernel" not in sys.modules:
    for _name, _text in {modules!r}.items():
        _module = sys.modules[_name] = types.ModuleType(_name)
        _module.__package__ = _name
        exec(compile(_text, f"<{{_name}}>", "exec"), _module.__dict__)
    del _name, _text, _module
import _agentd_kernel
_agentd_kernel.give({variables!r}, globals())
_agentd_kernel.offer({names!r}, {answers_itself!r}, globals())
"""
_RUN: Final = "_agentd_kernel.run({source!r}, globals(), {mark!r})\n"


class AgentdPythonExecutor(PythonExecutor):
    """The code of one agent, in one sandbox with one kept interpreter. Usable as a context manager.

    Variables, imports and functions stay from one step to the next. Any module may be imported that is there:
    `additional_authorized_imports` of the agent is only what its prompt says; give it `["*"]`. Tools run in this
    process, and their arguments and results travel by smolagents' own safe serialization.

    :param executor: a name, a pair of name and options, or an `agentd.protocols.Executor`; None for what the user has
        chosen for the process, else `native`.
    :param workspace: the folder of the files; None for a temporary one that goes when this object is closed.
    :param timeout: seconds for a piece of code, without its waits for tools. What it takes longer ends it, and with it
        the variables.
    :param max_print_outputs_length: characters of what is printed that the model reads.
    :param options: of the executor, by name.
    """

    def __init__(
        self,
        executor: object = None,
        *,
        workspace: str | Path | None = None,
        timeout: float = TIMEOUT_S,
        max_print_outputs_length: int = MAX_PRINTED,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.sandbox = CommandSandbox(executor, workspace=workspace, options=options)
        self.state: dict[str, Any] = {}
        """`_print_outputs` of the last piece of code, which the agent reads when it fails."""
        self._timeout = timeout
        self._printed = max_print_outputs_length
        self._calls = AgentCalls()
        self._variables: dict[str, str] = {}  # by name, serialised
        self._running = threading.Lock()
        self._ready = False
        self.sandbox.executor.attach(tools=self._calls, layout=None)

    # --- what smolagents calls

    def send_variables(self, variables: dict[str, Any]) -> None:
        """Take the agent's variables; code finds them from its next step on.

        One that cannot travel is also taken out of `variables`, which is the agent's `state`: the agent sends all of
        it again in each of its runs.

        :raises SerializationError: naming those that cannot travel; none is taken then.
        :raises InterpreterError: if code runs, which is another agent's.
        """
        with self._alone():
            made = {name: _serialised(value) for name, value in variables.items()}
            problems = {name: text for name, text in made.items() if isinstance(text, Exception)}
            if problems:
                said = "; ".join(_cannot_travel(name, variables.pop(name), e) for name, e in problems.items())
                raise SerializationError(f"{said}. {_MAY_TRAVEL}")
            self._variables.update({name: text for name, text in made.items() if isinstance(text, str)})
            self._ready = False

    def send_tools(self, tools: dict[str, Callable[..., Any]]) -> None:
        """Take the agent's tools, and the agents that it manages; code calls them by their names.

        :raises InterpreterError: if code runs, which is another agent's.
        """
        with self._alone():
            self._calls.tools = dict(tools)
            self._ready = False

    def __call__(self, code_action: str) -> CodeOutput:
        """Run a piece of code.

        :raises InterpreterError: with what the code raised, as smolagents' local executor says it; or if code runs
            already, which is another agent's.
        """
        with self._alone():
            return self._run(code_action)

    def _run(self, code_action: str) -> CodeOutput:
        self.state["_print_outputs"] = ""
        if not self._ready:
            self._set_up()
        self._calls.begin()
        mark = secrets.token_hex(16)
        result = self._act(_RUN.format(source=code_action, mark=mark), self._timeout)
        printed, outcome = _taken_apart(result.stdout, mark)
        outcome = outcome or self._calls.outcome()
        written = _text(printed) + _text(result.stderr)
        logs = self.state["_print_outputs"] = truncate_content(written, max_length=self._printed)
        if outcome is None:
            self._ready = False
            raise InterpreterError(f"Code execution failed: {_reason(result)}; all variables are lost")
        if "error" in outcome:
            raise InterpreterError(str(outcome["error"]))
        value = SafeSerializer.loads(outcome["value"]) if "value" in outcome else outcome["shown"]
        return CodeOutput(output=value, logs=logs, is_final_answer=bool(outcome.get("final")))

    # --- the end

    def cleanup(self) -> None:
        """End what runs, and remove a temporary workspace. `CodeAgent.cleanup` calls it."""
        self.sandbox.close()
        self._calls.close()

    def __enter__(self) -> AgentdPythonExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cleanup()

    # --- inside

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold off a second agent: its code would wait for that of the first, which may wait for the second's."""
        if not self._running.acquire(blocking=False):
            raise InterpreterError(
                "this executor runs the code of another agent; give each agent its own `AgentdPythonExecutor`"
            )
        try:
            yield
        finally:
            self._running.release()

    def _set_up(self) -> None:
        final = self._calls.tools.get("final_answer")
        code = _SET_UP.format(
            modules=_modules(),
            variables=self._variables,
            names=list(self._calls.tools),
            answers_itself=final is not None and type(final) is not FinalAnswerTool,
        )
        result = self._act(code, TIMEOUT_S)
        if result.exit_code:
            raise InterpreterError(f"the sandbox cannot be made ready: {result.output.strip()}")
        self._ready = True

    def _act(self, code: str, timeout: float) -> ActionResult:
        try:
            return self.sandbox.act_sync(PythonAction(code=code, state="kept", cwd=".", timeout_s=timeout))
        except ExecutorError as error:
            self._ready = False
            raise InterpreterError(str(error)) from error


_MAY_TRAVEL: Final = (
    "Numbers, text, bytes, lists, tuples, sets, dictionaries, dates, dataclasses, images of PIL and arrays of numpy "
    "may; write anything else to a file"
)


def _serialised(value: Any) -> str | Exception:
    try:
        return SafeSerializer.dumps(value)
    except (SerializationError, RecursionError, ValueError, TypeError) as error:
        return error


def _cannot_travel(name: str, value: Any, error: Exception) -> str:
    return f"the variable {name!r} is a {type(value).__name__}, which cannot enter the sandbox ({error})"


def _reason(result: ActionResult) -> str:
    """Return why there is no outcome."""
    said = [part for part in result.message.split("; ") if part and part != LOST]
    return "; ".join(said) or f"the code ended its interpreter with exit code {result.exit_code}"


def _taken_apart(stdout: bytes, mark: str) -> tuple[bytes, dict[str, Any] | None]:
    """Return what was printed, and the outcome that stands behind the mark, if it does."""
    printed, found, rest = stdout.rpartition(f"\n{mark}\n".encode())
    if not found:
        return stdout, None
    text, _, later = rest.partition(b"\n")
    try:
        outcome = json.loads(text)
    except (ValueError, RecursionError):  # the code's own doing
        outcome = None
    return printed + later, outcome if isinstance(outcome, dict) else None


@cache
def _modules() -> dict[str, str]:
    """The text of the modules that the sandbox gets, in the order in which they are imported."""
    sandbox = files("agentd_skills.sandbox")
    kernel = files("agentd_smolagents.inside").joinpath("kernel.py").read_text(encoding="utf-8")
    return {
        "_agentd_bridge._channel": sandbox.joinpath("_channel.py").read_text(encoding="utf-8"),
        "_agentd_bridge": sandbox.joinpath("bridge.py").read_text(encoding="utf-8"),
        "_agentd_values": inspect.getsource(serialization),
        "_agentd_kernel": kernel,
    }


def _text(stream: bytes) -> str:
    return stream.decode("utf-8", "replace")
