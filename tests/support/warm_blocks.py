"""Python blocks that run once the modules that they import are there already."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd.types import PythonAction
from agentd_runner.host import RunnerExecutor

__all__ = ["WarmSandboxBlocks", "run_warm"]


def run_warm(executor: RunnerExecutor, code: str) -> str:
    """Run a block when the modules of its lines `import NAME` are there already, and return what it prints."""
    names = [line.split()[1] for line in code.splitlines() if line.startswith("import ")]
    head = f"import sys\nif __name__ == '__main__' and not sys.modules.keys() >= set({names}): sys.exit('cold')\n"
    until = time.monotonic() + 60
    while True:
        result = executor.run_sync(PythonAction(code=head + code))
        if result.output != "cold\n" or time.monotonic() > until:
            assert result.exit_code == 0, result.output
            return result.output
        time.sleep(0.1)


WARM_CODE = """
import numpy.random
import random
import multiprocessing
import concurrent.futures
if __name__ == "__main__":
    a = numpy.ones((600, 600))
    print(int((a @ a).sum()))
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(pool.map(abs, [-1, 2]))
    with concurrent.futures.ThreadPoolExecutor() as pool:
        print(list(pool.map(abs, [-4])))
    print(numpy.random.rand(), random.random())
"""


class WarmSandboxBlocks:
    """Modules that earlier blocks of a sandbox have imported are there in later ones, and right after the fork.

    :cvar make: makes the executor, of a workspace and options.
    """

    make: Callable[..., Any]

    def test_what_a_block_imports_is_there_in_later_ones_and_right(self, tmp_path: Path) -> None:
        pytest.importorskip("numpy")
        with self.make(tmp_path / "w", timeout=60) as executor:
            # Behind that, the word of a helper of multiprocessing that ends a moment after the block.
            first, second = (run_warm(executor, WARM_CODE).splitlines()[:5] for _ in range(2))
        assert first[:4] == second[:4] == ["216000000", "[1, 2]", "[1, 2]", "[4]"]
        assert not set(first[4].split()) & set(second[4].split())

    def test_what_is_asked_for_is_there_in_the_first(self, tmp_path: Path) -> None:
        with self.make(tmp_path / "w", timeout=60, preload=["dataclasses"]) as executor:
            assert run_warm(executor, "import dataclasses\nprint('warm')") == "warm\n"

    @pytest.mark.slow
    def test_matplotlib_draws(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        code = "import matplotlib.pyplot as p\np.plot([1, 2])\np.savefig('a.png')\n"
        code += "print(open('a.png', 'rb').read()[1:4])"
        with self.make(tmp_path / "w", timeout=60) as executor:
            assert run_warm(executor, code) == "b'PNG'\n"
