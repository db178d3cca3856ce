"""Runs an agent's code in the sandbox's kept interpreter, and tells the host its outcome.

Sent by `agentd_smolagents.executor` as text, with two modules beside it: `_agentd_bridge` (calls of the host's tools)
and `_agentd_values` (smolagents' own serialization).
"""

from __future__ import annotations

import ast
import json
import linecache
import math
import os
import sys
import traceback
from itertools import count

import _agentd_bridge as bridge
from _agentd_values import SafeSerializer, SerializationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["FinalAnswer", "give", "offer", "run"]

SHORT = 128 * 1024
"""Characters of an outcome that goes behind the output. A longer one is a call: much output loses its middle."""

MATH = "ceil floor log exp sin cos tan asin acos atan atan2 degrees radians sqrt"
"""Functions that smolagents' local executor has without an import."""

_numbers = count(1)


class FinalAnswer(BaseException):
    """Ends the code with the agent's answer; no `except Exception` holds it up."""

    def __init__(self, value: Any) -> None:
        self.value = value


def give(variables: dict[str, str], namespace: dict[str, Any]) -> None:
    """Put the agent's variables, each serialised, into the namespace."""
    namespace.update({name: getattr(math, name) for name in MATH.split() if name not in namespace})
    namespace.update({name: SafeSerializer.loads(text) for name, text in variables.items()})


def offer(names: list[str], answers_itself: bool, namespace: dict[str, Any]) -> None:
    """Put functions into the namespace that call the host's tools.

    :param answers_itself: the tool `final_answer` does more than to give back its argument.
    """
    for name in names:
        namespace[name] = _tool(name)
    if "final_answer" in names:
        forward = namespace["final_answer"] if answers_itself else lambda answer=None: answer

        def final_answer(*args: Any, **kwargs: Any) -> Any:
            raise FinalAnswer(forward(*args, **kwargs))

        namespace["final_answer"] = final_answer


def _tool(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return SafeSerializer.loads(bridge.call(name, {"given": SafeSerializer.dumps([list(args), kwargs])}))

    call.__name__ = call.__qualname__ = name
    return call


def run(source: str, namespace: dict[str, Any], mark: str) -> None:
    """Run the code and report how it ended: its last value, the final answer, or what it raised.

    :param mark: a line of its own that stands between what the code prints and the outcome.
    """
    name = f"<code {next(_numbers)}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    final = False
    try:
        value = _value(source, name, namespace)
    except FinalAnswer as answer:
        value, final = answer.value, True
    except BaseException as error:
        _report({"error": _described(error, name, source)}, mark)
        return
    try:
        outcome = {"value": SafeSerializer.dumps(value), "final": final}
    except (SerializationError, RecursionError, ValueError) as error:
        if final:
            reason = f"the final answer is a {type(value).__name__}, which cannot leave the sandbox ({error})"
            outcome = {"error": f"{reason}; give text, numbers, lists, dictionaries, dates, images or arrays"}
        else:
            outcome = {"shown": _shown(value)}
    _report(outcome, mark)


def _report(outcome: dict[str, Any], mark: str) -> None:
    text = json.dumps(outcome)
    if len(text) <= SHORT:
        try:
            sys.stdout.flush()
            rest = memoryview(f"\n{mark}\n{text}\n".encode())
            while rest:
                rest = rest[os.write(1, rest) :]
            return
        except (OSError, ValueError, AttributeError):  # the code has closed its output
            pass
    bridge.call("=outcome", outcome)


def _value(source: str, name: str, namespace: dict[str, Any]) -> Any:
    tree = ast.parse(source, name)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, name, "exec"), namespace)
    if isinstance(last, ast.Expr):
        return eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    if isinstance(last, ast.Assign) and isinstance(last.targets[-1], ast.Name):
        return namespace.get(last.targets[-1].id)
    return None


def _shown(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:
        return f"<{type(value).__name__} that cannot be shown: {error}>"


def _described(error: BaseException, name: str, source: str) -> str:
    """Say it as smolagents' local executor does."""
    said = "".join(traceback.format_exception_only(type(error), error)).strip()
    if isinstance(error, SyntaxError) and error.filename == name:
        return f"Code parsing failed on line {error.lineno} due to: {said}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    line = source.splitlines()[lines[-1] - 1].strip() if lines and lines[-1] else ""
    return f"Code execution failed at line '{line}' due to: {said}"
