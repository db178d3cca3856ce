"""A whole evaluation of Inspect's, with a model that answers from a list."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.errors import AgentdError
from agentd_inspect import AgentdSandboxConfig, AgentdSandboxEnvironment
from inspect_ai import Task, eval, task
from inspect_ai.dataset import Sample
from inspect_ai.log import EvalLog
from inspect_ai.model import ModelOutput, ModelUsage, get_model
from inspect_ai.scorer import Score, Target, accuracy, match, scorer
from inspect_ai.solver import TaskState, basic_agent
from inspect_ai.tool import bash, python, text_editor, tool
from inspect_ai.util import SandboxUnavailableError, SandboxUserUnsupportedError, sandbox

CALLS = [
    ("bash", {"command": "grep -c fox story.txt; pwd; cat /etc/shadow"}),
    ("python", {"code": "print(sum(line.count('fox') for line in open('story.txt')))"}),
    ("submit", {"answer": "3"}),
]


@scorer(metrics=[accuracy()])
def file_is_there():
    async def score(state: TaskState, target: Target) -> Score:
        return Score(value=(await sandbox().read_file("story.txt")).count("fox") == 3)

    return score


@task
def count_foxes(executor: str | None = None) -> Task:
    return Task(
        dataset=[
            Sample(
                input="How many foxes are in story.txt?",
                target="3",
                files={"story.txt": "fox and fox\nhound\nfox\n"},
                setup="#!/bin/bash\ntest -f story.txt && echo made > by-setup\n",
            )
        ],
        solver=basic_agent(tools=[bash(timeout=20), python(timeout=20)]),
        scorer=[match(), file_is_there()],
        sandbox="agentd" if executor is None else ("agentd", AgentdSandboxConfig(executor=executor)),
    )


def run(made: Task, log_dir: Path, calls: list[tuple[str, dict[str, str]]] = CALLS) -> EvalLog:
    outputs = [ModelOutput.for_tool_call("mockllm/model", name, arguments) for name, arguments in calls]
    for output in outputs:  # else Inspect counts the tokens, with a table that it loads from the network
        output.usage = ModelUsage(input_tokens=1, output_tokens=1)
    model = get_model("mockllm/model", custom_outputs=outputs)
    (log,) = eval(made, model=model, log_dir=str(log_dir), display="none")
    return log


@pytest.mark.parametrize("executor", [None, "subprocess"], ids=["as-it-comes", "subprocess"])
def test_an_agent_solves_a_sample_through_bash_and_python(executor: str | None, tmp_path: Path) -> None:
    log = run(count_foxes(executor), tmp_path)
    assert log.status == "success", log.error
    assert log.results is not None
    assert [score.metrics["accuracy"].value for score in log.results.scores] == [1.0, 1.0]
    said = [message.text for message in log.samples[0].messages if message.role == "tool"]
    lines = said[0].splitlines()
    assert "2" in lines
    assert said[1].strip() == "3"
    (folder,) = (line for line in lines if line.startswith("/"))
    assert not Path(folder).exists()  # the workspace goes with the sample
    if executor is None:  # without a word about it, a sandbox: what the tests may read is not there
        assert "cat: /etc/shadow: No such file or directory" in lines


@tool
def save():
    async def execute(path: str):
        """Save a text.

        Args:
            path: Where.
        """
        await sandbox().write_file(path, "x")
        return "saved"

    return execute


def test_a_model_is_told_of_what_is_read_only_and_goes_on(tmp_path: Path) -> None:
    made = Task(
        [Sample("?", target="3")], solver=basic_agent(tools=[save()]), scorer=match(), sandbox="agentd"
    )
    log = run(made, tmp_path, [("save", {"path": "/etc/x"}), ("submit", {"answer": "3"})])
    assert log.status == "success", log.error
    (told, _) = (message for message in log.samples[0].messages if message.role == "tool")
    assert told.error.type == "permission"
    assert "Read-only file system" in told.error.message


def test_a_tool_that_inspect_puts_into_the_sandbox_ends_the_sample(tmp_path: Path) -> None:
    made = Task([Sample("?")], solver=basic_agent(tools=[text_editor()]), scorer=match(), sandbox="agentd")
    log = run(made, tmp_path, [("text_editor", {"command": "view", "path": "/etc/passwd"})])
    assert log.status == "error"
    assert "SandboxInjectionError" in log.samples[0].error.message


def test_inspect_finds_it_by_its_name_on_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(
        "from inspect_ai import Task, task\nfrom inspect_ai.dataset import Sample\n"
        "from inspect_ai.solver import solver\nfrom inspect_ai.scorer import includes\n"
        "from inspect_ai.util import sandbox\n"
        "@solver\ndef look():\n    async def solve(state, generate):\n"
        "        state.output.completion = (await sandbox().exec(['uname', '-s'])).stdout\n        return state\n"
        "    return solve\n"
        "@task\ndef one():\n    return Task(dataset=[Sample('?', target='Linux')], solver=look(), scorer=includes())\n"
    )
    command = [os.path.join(os.path.dirname(sys.executable), "inspect"), "eval", "one.py"]
    command += ["--sandbox", "agentd:subprocess", "--model", "mockllm/model", "--display", "plain"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy" in done.stdout
    assert "1.000" in done.stdout


@pytest.mark.anyio
async def test_it_raises_what_inspect_expects(tmp_path: Path) -> None:
    made = await AgentdSandboxEnvironment.sample_init("task", "subprocess", {})
    box = made["default"].as_type(AgentdSandboxEnvironment)
    with pytest.raises(SandboxUserUnsupportedError, match="one user"):
        await box.exec(["true"], user="root")
    missing = await box.exec(["no-such-program"])
    assert (missing.success, missing.returncode) == (False, 127)
    assert "not found" in missing.stderr
    absent = await box.exec(["ls"], cwd="no/such/folder")
    assert not absent.success
    assert "no/such/folder" in absent.stderr
    own = await box.exec(["sh", "-c", "exit 126"])
    assert own.returncode == 126
    await AgentdSandboxEnvironment.sample_cleanup("task", None, made, False)
    with pytest.raises(SandboxUnavailableError, match="closed"):
        await box.exec(["true"])
    with pytest.raises(AgentdError, match="srtt"):
        await AgentdSandboxEnvironment.sample_init("task", "srtt", {})
    with pytest.raises(TypeError, match="AgentdSandboxConfig"):
        await AgentdSandboxEnvironment.sample_init("task", object(), {})


@pytest.mark.anyio
@pytest.mark.parametrize("lasting", [True, False])
async def test_what_a_command_leaves_running_lives_on_unless_it_shall_not(lasting: bool) -> None:
    config = AgentdSandboxConfig(executor="subprocess", lasting=lasting)
    made = await AgentdSandboxEnvironment.sample_init("task", config, {})
    box = made["default"]
    wait = "while [ ! -e go ]; do sleep 0.05; done; echo x > came"
    assert (await box.exec(["bash", "-c", f"nohup sh -c '{wait}' > log 2>&1 & echo $! > pid"])).success
    await box.write_file("go", "")
    seen = "for i in $(seq 100); do [ -e came ] && exit 0; kill -0 $(cat pid) || exit 1; sleep 0.05; done"
    assert (await box.exec(["bash", "-c", seen])).success is lasting
    await AgentdSandboxEnvironment.sample_cleanup("task", None, made, False)


@pytest.mark.anyio
async def test_of_an_output_that_is_too_long_the_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    from inspect_ai.util._sandbox.limits import override_max_exec_output_size

    with override_max_exec_output_size(1000):
        made = await AgentdSandboxEnvironment.sample_init("task", "subprocess", {})
        done = await made["default"].exec(["seq", "100000"])
        assert len(done.stdout) == 1000
        assert done.stdout.endswith("\n99999\n100000\n")
    await AgentdSandboxEnvironment.sample_cleanup("task", None, made, False)
