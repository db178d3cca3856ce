"""A fresh Python block that imports what an earlier one has imported.

Ours: the block on a warm runner, once the modules are imported ahead.
Theirs: `execute_python`, an interpreter for each block; its environment has no numpy.
Floor: the same block in a Python that imports them itself: it has an environment of its own, so that it gets a bare
one. No floor in the sense of a bound: the target is a small part of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmarks.kit import amedian_ms, median_ms
from benchmarks.line import Figures, Line, Row
from benchmarks.tools import their_tools

LINE = Line(
    name="warm_imports",
    rows=(
        Row(key="numpy_ms", title="Python block that imports numpy; floor: by itself", unit="ms", floor=0.04),
        Row(
            key="standard_ms",
            title="json, re, pathlib, dataclasses and asyncio; floor: by itself",
            unit="ms",
            floor=0.067,
        ),
    ),
)
CODES = {"numpy_ms": "import numpy", "standard_ms": "import json, re, pathlib, dataclasses, asyncio"}


def ours(quick: bool) -> Figures:
    """The subprocess executor, after a second."""
    return _measured(quick, {}, 1.0)


def theirs(quick: bool) -> Figures:
    """Its executor; None without numpy."""
    executor, skills = their_tools()
    figures: Figures = {}
    for key, code in CODES.items():
        run = partial(executor.execute_python, code, Path.cwd(), pythonpath=skills)
        figures[key] = None if run()[1] else median_ms(run, count=10 if quick else 20)
    executor.close()
    return figures


def floor(quick: bool) -> Figures:
    """The same without modules imported ahead."""
    return _measured(quick, {"BARE": "1"}, 0.0)


def _measured(quick: bool, env: dict[str, str], pause_s: float) -> Figures:
    import asyncio

    from agentd.types import PythonAction
    from agentd_executor_subprocess.executor import SubprocessExecutor

    async def awaited() -> Figures:
        figures: Figures = {}
        executor = SubprocessExecutor(workspace_dir=Path.cwd())
        try:
            for key, code in CODES.items():
                action = PythonAction(code=code, env=env)
                result = await executor.run(action)
                assert result.exit_code == 0, result.output
                await asyncio.sleep(pause_s)
                figures[key] = await amedian_ms(
                    lambda action=action: executor.run(action), count=10 if quick else 40
                )
        finally:
            await executor.aclose()
        return figures

    return asyncio.run(awaited())
