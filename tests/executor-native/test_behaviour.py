"""What the subprocess executor does, native does as well: its tests, with a sandbox in place of a child process."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import native
import pytest

OTHERS = Path(__file__).parents[1] / "executor-subprocess"

# What does not hold here, and why.
ELSEWHERE = {
    "test_no_folder_of_ours_is_left_behind": "looks at a Unix socket",
    "test_the_runner_and_its_tree_die_with_the_host": "has its own test",
    "test_a_forgotten_executor_ends_its_runner": "has its own test",
    "test_an_interpreter_that_does_not_start_is_named": "has its own test",
    "test_what_has_lost_its_supervisor_and_then_the_runner_ends_too": "code cannot kill the runner, which is init",
    "test_an_unknown_option_names_the_known_ones": "has its own test",
    "test_pip_install_lands_in_the_workspace_and_is_there_for_the_next_block": "needs a registry",
}


def _load(name: str) -> ModuleType:
    """Load a copy of a test module in which the executor is the native one."""
    spec = importlib.util.spec_from_file_location(f"native_{name}", OTHERS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["SubprocessExecutor"] = native.make
    return module


# Those in which the sandbox has a part and that the executors' contract (test_contract) does not hold already.
CHOSEN: dict[str, tuple[str, ...] | None] = {
    "test_bash": (
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

for _name, _chosen in CHOSEN.items():
    for _key, _value in vars(_load(_name)).items():
        if _key.startswith("test_") and _key not in ELSEWHERE and (_chosen is None or _key in _chosen):
            globals()[_key] = _value

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(native.missing()) and os.environ.get("CI") != "true", reason=native.missing() or "-"
    ),
]
