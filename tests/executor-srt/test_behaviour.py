"""What the subprocess executor does, srt does as well: its tests, with a sandbox in place of a child process."""

from __future__ import annotations

import os
import time

import pytest
import sandbox
from agentd_runner.host import RunnerExecutor
from borrowed_tests import borrow

# What does not hold here, and why.
ELSEWHERE = {
    "test_no_folder_of_ours_is_left_behind": "has its own test: srt's placeholders",
    "test_an_interpreter_that_does_not_start_is_named": "has its own test: the error says that there is no sandbox",
    "test_a_runner_killed_from_outside_keeps_the_partial_output": "has its own test: a supervisor stands in between",
    "test_a_forked_child_of_the_program_neither_holds_nor_harms_the_runner": "looks at a Unix socket",
    "test_skills_stand_last_on_path_so_that_nothing_there_takes_a_command_s_place": "has its own test",
    "test_a_forgotten_executor_ends_its_runner": "has its own test",
    "test_pip_install_lands_in_the_workspace_and_is_there_for_the_next_block": "needs a registry on the list",
    "test_an_unknown_option_names_the_known_ones": "has its own test",
    "test_a_folder_for_temporary_files_that_others_use_is_not_the_session_s": "writes outside the workspace",
    "test_limits_may_come_as_plain_data": "has its own test",
    "test_a_workspace_that_is_a_file_is_refused": "starts nothing",
    "test_a_stopped_supervisor_cannot_stop_the_time_out": "takes four seconds, none of them the sandbox's",
    "test_no_quoting_in_a_command_leads_out_of_its_block": "seven starts for what test_attacks tries in one",
    "test_the_host_listens_on_no_port": "has its own test",
}

globals().update(borrow("srt", sandbox.make, ELSEWHERE))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        bool(sandbox.missing()) and os.environ.get("CI") != "true", reason=sandbox.missing() or "-"
    ),
]


def test_modules_are_there_already_if_code_cannot_write_them(executor: RunnerExecutor) -> None:
    code = "import sys\nprint('wave' in sys.modules)\nimport wave"
    assert executor.execute_python(code) == ("False\n", 0)
    until = time.monotonic() + 20
    while (said := executor.execute_python(code)) != ("True\n", 0) and time.monotonic() < until:
        time.sleep(0.1)
    assert said == ("True\n", 0)
