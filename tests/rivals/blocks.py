"""Rows of starts and blocks. Standard library only."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time

from rivals.row import Figure, Figures, Scale, either, median_ms, must, new_folder, opened, row
from rivals.side import Side

__all__: list[str] = []

IMPORTED = (
    "import sys, time; begin = time.perf_counter(); import {0}; took = time.perf_counter() - begin; import json; "
    "rss = [int(l.split()[1]) for l in open('/proc/self/status') if l.startswith('VmRSS')][0] / 1024; "
    "print(json.dumps([took * 1000, rss, len(sys.modules)]))"
)


@row("cold", Figure("cold_ms", "first session, to the end of its first block", "ms"), within_s=(60.0, 24.0))
async def cold(side: Side, scale: Scale) -> Figures:
    """The first session of a program that has imported everything, to the end of its first block."""
    folder = new_folder("cold")
    begin = time.perf_counter()
    box = await side.open(folder)
    try:
        await must(either(box, side.empty))
        return {"cold_ms": (time.perf_counter() - begin) * 1000}
    finally:
        await box.close()


@row(
    "import",
    Figure("import_ms", "import of the package", "ms"),
    Figure("import_mib", "memory after it", "MiB"),
    Figure("import_modules", "modules after it"),
    scaled="one import",
    within_s=(60.0, 24.0),
)
async def imports(side: Side, scale: Scale) -> Figures:
    """The import in a fresh interpreter, by its own clock."""
    argv = [sys.executable, "-c", IMPORTED.format(side.modules)]
    runs = []
    for _ in range(scale.of(3, 1)):
        done = await asyncio.to_thread(
            subprocess.run, argv, capture_output=True, stdin=subprocess.DEVNULL, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    keys = ("import_ms", "import_mib", "import_modules")
    return dict(zip(keys, map(statistics.median, zip(*runs, strict=True)), strict=True))


def _block(name: str, title: str, code: str, *, kept: bool = False) -> None:
    """Declare the row of a block; `code` is the side's attribute with its text."""

    @row(name, Figure(f"{name}_ms", title, "ms"))
    async def measure(side: Side, scale: Scale) -> Figures:
        async with opened(side) as box:
            took = await median_ms(
                lambda: must(box.python(getattr(side, code), kept=kept)),
                count=scale.of(100, 20), at_most_s=scale.seconds, warm=scale.of(2, 1),
            )  # fmt: skip
        return {f"{name}_ms": took}


_block("fresh", "block, fresh namespace", "empty")
_block("kept", "block, kept namespace", "empty", kept=True)
_block("standard", "fresh block that imports json, re, pathlib, dataclasses, asyncio", "standard_imports")
_block("numpy", "fresh block that imports numpy", "numpy")


@row(
    "bash",
    Figure("bash_ms", "shell command, `true`", "ms"),
    Figure("bash_keeps", "its folder and variables last", "yes", True),
)
async def bash(side: Side, scale: Scale) -> Figures:
    """`true`, and whether a folder and a variable last from one command to the next."""
    async with opened(side) as box:
        took = await median_ms(
            lambda: must(box.bash("true")),
            count=scale.of(100, 20), at_most_s=scale.seconds, warm=scale.of(2, 1),
        )  # fmt: skip
        await box.bash("mkdir -p there; cd there; export SEEN=yes")
        said = await box.bash('echo "$SEEN ${PWD##*/}"')
    return {"bash_ms": took, "bash_keeps": float("yes there" in said.text)}


@row("loop", Figure("loop_ms", "200,000 rounds of a loop", "ms"))
async def loop(side: Side, scale: Scale) -> Figures:
    """200,000 rounds of a sum."""
    async with opened(side) as box:
        await either(box, side.empty)
        run = lambda: must(either(box, side.looping(200_000)))  # noqa: E731
        return {"loop_ms": await median_ms(run, count=scale.of(7, 3), at_most_s=scale.seconds, warm=0)}
