"""A tool call under a policy, from a Python block, and an answer on its way back to the code.

Ours: `allowed_ms` is the call of `tool_calls` under the preset `yolo`, p50 of one block; `argument_ms` the same under a
rule that looks at an argument and allows it, `arguments_ms` behind nine others that look at arguments; `remembered_ms`
under a rule that asks, after 1,000 answers for the session; `answer_ms` the time from an approver's answer to the
reply, p50 of 200 questions; `threads` how many threads 1,000 waiting questions start.
Theirs: nothing, for 0.8.6 has no policies. Floor: the same call without a policy."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.line import Figures, Line, Row

LINE = Line(
    name="policy",
    rows=(
        Row(key="allowed_ms", title="tool call that a policy allows, p50", unit="ms", floor=1.1),
        Row(key="argument_ms", title="  by a rule on an argument, p50", unit="ms", floor=1.1),
        Row(key="arguments_ms", title="  by the last of ten rules on arguments, p50", unit="ms", floor=1.2),
        Row(key="remembered_ms", title="  by one of 1,000 earlier answers, p50", unit="ms", floor=1.1),
        Row(key="answer_ms", title="  an answer until the call goes on, p50", unit="ms", limit=10),
        Row(key="threads", title="  threads for 1,000 waiting questions", unit="", limit=2),
    ),
)
CODE = """
import statistics, time
from lib.tools import add
times = []
for number in range({count}):
    begin = time.perf_counter()
    add(a=number, b=1)
    times.append(time.perf_counter() - begin)
print(statistics.median(times[50:]) * 1000)
"""


class _Host:
    """A session that keeps nothing."""

    start = None

    def __init__(self) -> None:
        self.workspace = Path.cwd()
        self.transcripts: dict[str, Any] = {}

    def tell(self, event: object) -> None:
        pass


def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def _call_ms(policy: object, count: int) -> float:
    import asyncio

    from agentd.types import PythonAction
    from agentd_executor_subprocess.executor import SubprocessExecutor
    from agentd_skills import AgentSkillsRenderer
    from agentd_tools import ToolSet

    async def awaited() -> float:
        executor = SubprocessExecutor(workspace_dir=Path.cwd())
        tools = ToolSet([add], policy=policy, on_call=lambda event: None)  # type: ignore[arg-type]
        renderer, skills = AgentSkillsRenderer(), Path.cwd() / "skills"
        renderer.render(tools.specs(), skills)
        executor.attach(tools=tools, layout=renderer.layout(skills))
        try:
            result = await executor.run(PythonAction(code=CODE.format(count=count)))
            assert result.exit_code == 0, result.output
            return float(result.stdout)
        finally:
            await executor.aclose()
            await tools.aclose()

    return asyncio.run(awaited())


def _questions(count: int) -> tuple[float, int]:
    from agentd_policy import Question
    from agentd_policy.approvers import read_approver
    from agentd_policy.policy import RulesPolicy
    from agentd_policy.reading import read_policy
    from agentd_tools import ToolSet

    asked: list[Question] = []
    came = threading.Semaphore(0)

    async def approver(question: Question) -> None:
        asked.append(question)
        came.release()

    judge, _ = read_policy({"default": "ask"})
    tools = ToolSet([add], policy=RulesPolicy(judge, read_approver(approver), _Host()))
    before, took = threading.active_count(), []
    for _ in range(count):
        done = threading.Event()
        tools.submit("add", b'{"a": 1, "b": 2}', "run1_code1", lambda reply, done=done: done.set())
        came.acquire()
        begin = time.perf_counter()
        asked[-1].answer(True)
        done.wait()
        took.append((time.perf_counter() - begin) * 1000)
    before = threading.active_count()
    for _ in range(1000):
        tools.submit("add", b'{"a": 1, "b": 2}', "run1_code1", lambda reply: None)
    for _ in range(1000):
        came.acquire()
    threads = threading.active_count() - before
    tools.close()
    return statistics.median(took), threads


def _by_arguments(others: bool = True) -> object:
    """A rule that allows the arguments, behind nine that look at them in vain."""
    from agentd_policy.policy import RulesPolicy
    from agentd_policy.reading import read_policy

    denied = [{"verdict": "deny", "name": "add", "arguments": {"a": f"no-{n}-*"}} for n in range(8)]
    every = {"verdict": "deny", "arguments": {"*": ["*secret*", "*.env"]}}
    judge, _ = read_policy(
        [*([*denied, every] if others else []), {"verdict": "allow", "arguments": {"a": "*", "b": "1"}}]
    )
    return RulesPolicy(judge, None, _Host())


def _by_answers() -> object:
    from agentd_policy.policy import RulesPolicy
    from agentd_policy.reading import read_policy
    from agentd_tools.policy import PolicyRequest

    judge, _ = read_policy([{"verdict": "ask", "name": "other", "cost_over_usd": 0}, {"verdict": "ask"}])
    policy = RulesPolicy(judge, None, _Host())
    for name in ("add", *(f"tool_{number}" for number in range(999))):
        policy.remembered.add(
            PolicyRequest(kind="tool", name=name, source="local"), "session", judge.rules[1].told
        )
    return policy


def ours(quick: bool) -> Figures:
    """Under a policy."""
    from agentd_policy.policy import RulesPolicy
    from agentd_policy.presets import PRESETS

    count = 500 if quick else 4000
    answer_ms, threads = _questions(50 if quick else 200)
    return {
        "allowed_ms": _call_ms(RulesPolicy(PRESETS["yolo"], None, _Host()), count),
        "argument_ms": _call_ms(_by_arguments(others=False), count),
        "arguments_ms": _call_ms(_by_arguments(), count),
        "remembered_ms": _call_ms(_by_answers(), count),
        "answer_ms": answer_ms,
        "threads": threads,
    }


def theirs(quick: bool) -> Figures:
    """Nothing of this kind."""
    return {}


def floor(quick: bool) -> Figures:
    """Without one."""
    alone_ms = _call_ms(None, 500 if quick else 4000)
    called = dict.fromkeys(("allowed_ms", "argument_ms", "arguments_ms", "remembered_ms"), alone_ms)
    return {**called, "answer_ms": None, "threads": None}
