"""The subprocess executor's own tests, with a sandbox in place of a child process."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection
from types import ModuleType
from typing import Any

from places import ROOT

__all__ = ["borrow"]

# Those in which the sandbox has a part and that the executors' contract (test_contract) does not hold already.
CHOSEN: dict[str, tuple[str, ...] | None] = {
    "test_bash": (
        "test_a_here_document_may_be_larger_than_a_pipe",
        "test_a_directory_that_was_removed_is_said_and_the_workspace_used",
        "test_parallel_blocks_start_from_one_state_and_the_last_written_wins",
    ),
    "test_python": (
        "test_multiprocessing_and_pools_work_without_a_word",
        "test_asyncio_and_subprocess_work",
        "test_the_workspace_is_importable_and_beats_nothing_of_the_runner",
    ),
    "test_endings": None,
    "test_environment": None,
    "test_escapes": None,
}


def borrow(name: str, make: Callable[..., Any], without: Collection[str]) -> dict[str, Any]:
    """Return copies of the tests by name, whose executor is what `make` makes.

    :param name: of the executor, for their modules.
    :param without: tests of which something does not hold there.
    """
    unknown, tests = set(without), {}
    for file, chosen in CHOSEN.items():
        for key, value in vars(_load(name, file, make)).items():
            unknown.discard(key)
            if key.startswith("test_") and key not in without and (chosen is None or key in chosen):
                tests[key] = value
    assert not unknown, f"no such tests: {unknown}"
    return tests


def _load(name: str, file: str, make: Callable[..., Any]) -> ModuleType:
    path = ROOT / "tests/executor-subprocess" / f"{file}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_{file}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["SubprocessExecutor"] = make
    return module
