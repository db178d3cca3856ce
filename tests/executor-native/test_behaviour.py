"""What the subprocess executor does, native does as well: its tests, with a sandbox in place of a child process."""

from __future__ import annotations

import os

import native
import pytest
from borrowed_tests import borrow

# What does not hold here, and why.
ELSEWHERE = {
    "test_no_folder_of_ours_is_left_behind": "looks at a Unix socket",
    "test_a_forgotten_executor_ends_its_runner": "has its own test",
    "test_an_interpreter_that_does_not_start_is_named": "has its own test",
    "test_what_has_lost_its_supervisor_and_then_the_runner_ends_too": "code cannot kill the runner, which is init",
    "test_an_unknown_option_names_the_known_ones": "has its own test",
    "test_pip_install_lands_in_the_workspace_and_is_there_for_the_next_block": "needs a registry",
}

globals().update(borrow("native", native.make, ELSEWHERE))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(native.missing()) and os.environ.get("CI") != "true", reason=native.missing() or "-"
    ),
]
