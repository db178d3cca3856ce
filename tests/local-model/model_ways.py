"""The ways in which one model does a task: code blocks, JSON tools, a rival's code mode."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from agentd import Budgets, ModelError, SyncSession, patch_openai_with_mcp
from agentd.types import ActionResult
from agentd_parser_fence.bare import NUDGE
from agentd_runner.host.command_sandbox import CommandSandbox
from openai import DefaultHttpxClient, OpenAI, OpenAIError

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from rivals import environments
from rivals.sides.pydantic_ai import PydanticAi

__all__ = ["WAYS", "Attempt"]

MAX_TOKENS = 300  # of one answer
IN_THE_FOLDER = "Your tools work in the folder of the task. Do the task with them, then answer in a sentence."


@attrs.frozen(kw_only=True)
class Attempt:
    """How a model has done a task."""

    answer: str
    turns: int
    tokens: int
    stop_reason: str
    nudged: bool = False


def code(text: str, folder: Path, wanted: argparse.Namespace) -> Attempt:
    """agentd's session: the model answers with blocks, which run in the sandbox."""
    session = SyncSession(
        "local",
        base_url=wanted.address,
        api_key="none",
        executor=wanted.executor,
        tools=[],
        cwd=folder,
        skills_dir=folder / ".skills",
        parsers=[("fence", {"bare_fences": wanted.mode})],
        model_options={**sampling(wanted), "timeout": wanted.task_time},
        budgets=Budgets(max_turns=wanted.turns, wall_time_s=wanted.task_time, max_tokens=60_000),
    )
    with session:
        try:
            end = session.ask(text)
            answer, reason = end.text, str(end.stop_reason)
        except ModelError as exc:
            answer, reason = "", type(exc).__name__
        told = session.transcript.messages
    if wanted.verbose:
        print("\n".join(f"--- {m.role}\n{m.content}" for m in told))
    usage = session.transcript.usage
    return Attempt(
        answer=answer,
        turns=sum(m.role == "answer" for m in told),
        tokens=usage.input_tokens + usage.output_tokens,
        stop_reason=reason,
        nudged=any(m.content.startswith(NUDGE[:40]) for m in told),
    )


def json_tools(text: str, folder: Path, wanted: argparse.Namespace) -> Attempt:
    """The classic loop with two tools, whose commands run in the same sandbox."""
    requests: list[object] = []
    tokens: list[int] = []

    def note(response: Any) -> None:
        requests.append(response.request)
        response.read()
        if wanted.verbose:
            print(f"--- request\n{response.request.content.decode()}\n--- answer\n{response.text}")
        if response.is_success:
            tokens.append(response.json()["usage"]["total_tokens"])

    with (
        CommandSandbox(wanted.executor, workspace=folder) as sandbox,
        DefaultHttpxClient(event_hooks={"response": [note]}, timeout=wanted.task_time) as http,
    ):

        def run_bash(command: str) -> str:
            """Run a bash command and return what it prints."""
            return shown(sandbox.run_sync(["bash", "-c", command]))

        def run_python(code: str) -> str:
            """Run a Python program and return what it prints."""
            return shown(sandbox.run_sync(["python3", "-c", code]))

        client = OpenAI(base_url=wanted.address, api_key="none", http_client=http, max_retries=0)
        budgets = Budgets(max_turns=wanted.turns, wall_time_s=wanted.task_time, max_tokens=60_000)
        patch_openai_with_mcp(client, tools=[run_bash, run_python], budgets=budgets)
        messages = [{"role": "system", "content": IN_THE_FOLDER}, {"role": "user", "content": text}]
        try:
            response = client.chat.completions.create(
                model="local",
                messages=messages,
                **sampling(wanted),  # type: ignore[call-overload]
            )
            answer, reason = response.choices[0].message.content or "", response.choices[0].finish_reason
        except (OpenAIError, ModelError) as exc:
            answer, reason = "", type(exc).__name__
    return Attempt(answer=answer, turns=len(requests), tokens=sum(tokens), stop_reason=reason)


def shown(result: ActionResult) -> str:
    """Return what the model reads of a command."""
    return result.output if not result.exit_code else f"{result.output}\nexit code {result.exit_code}"


def pydantic_ai(text: str, folder: Path, wanted: argparse.Namespace) -> Attempt:
    """pydantic-ai's code mode with its own file tools and shell as functions, in an environment of its own."""
    python = environments.python_of(PydanticAi(), print)
    order = {
        "text": text,
        "folder": str(folder),
        "address": wanted.address,
        "turns": wanted.turns,
        "instructions": IN_THE_FOLDER,
        "settings": {**sampling(wanted), "timeout": wanted.task_time},
        "verbose": wanted.verbose,
    }
    try:
        done = subprocess.run(
            [python, Path(__file__).with_name("pydantic_ai_agent.py")],
            input=json.dumps(order),
            stdout=subprocess.PIPE,
            text=True,
            timeout=wanted.task_time,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Attempt(answer="", turns=0, tokens=0, stop_reason="task time")
    *shown, last = done.stdout.splitlines() or [""]
    print("\n".join(shown), end="\n" if shown else "")
    if done.returncode:
        return Attempt(answer="", turns=0, tokens=0, stop_reason=f"exit code {done.returncode}")
    return Attempt(**json.loads(last))


def sampling(wanted: argparse.Namespace) -> dict[str, float]:
    """What every way asks of the model."""
    return {"temperature": wanted.temperature, "seed": wanted.seed, "max_tokens": MAX_TOKENS}


WAYS: dict[str, Callable[[str, Path, argparse.Namespace], Attempt]] = {
    "code": code,
    "json": json_tools,
    "pydantic-ai": pydantic_ai,
}
