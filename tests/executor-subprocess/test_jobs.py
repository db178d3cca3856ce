"""Jobs, beyond the contract: how they end, what they count against, and what the session owes them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from agentd.errors import RunnerDiedError
from agentd.protocols import Layout
from agentd.types import ActionResult, BashAction, Limits, PythonAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_tools import ToolSet
from host_processes import OWN

Survivors = Callable[[str], list[str]]


def start(executor: SubprocessExecutor, command: str, name: str = "one") -> ActionResult:
    return executor.run_sync(BashAction(command=command, job=name))


def wait_for(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def news(executor: SubprocessExecutor) -> str:
    told: list[str] = []
    wait_for(lambda: told.extend(executor.job_news()) or told)
    return "\n".join(told)


def test_a_wrong_word_or_argument_of_the_command_is_named(executor: SubprocessExecutor) -> None:
    output, exit_code = executor.execute_bash("job nope")
    assert exit_code == 2
    assert output.startswith(
        "job: no such command: 'nope'; there are: list, out, wait, signal, send, start\nusage: "
    )
    output, exit_code = executor.execute_bash("job wait one 'a b' c")
    assert exit_code == 2
    assert output.startswith("job: wrong arguments: wait one 'a b' c\nusage: job list\n")
    assert executor.execute_bash("job")[0].startswith("job: no command\nusage: ")
    output, exit_code = executor.execute_bash("job --help")
    assert (output.startswith("usage: job list\n"), exit_code) == (True, 0)


def test_the_host_knows_which_jobs_run(executor: SubprocessExecutor) -> None:
    start(executor, "sleep 60", "one")
    start(executor, "sleep 60", "two")
    assert executor.jobs == ("one", "two")
    executor.execute_bash("job signal one")
    assert news(executor).startswith("the job 'one' has ended after ")
    assert executor.jobs == ("two",)


def test_a_job_begins_with_the_shell_s_state_and_leaves_none(executor: SubprocessExecutor) -> None:
    executor.execute_bash("mkdir -p sub; cd sub; kept=5; greet() { echo hello $kept; }")
    result = start(executor, "greet; pwd; cd /; kept=6; sleep 60")
    assert result.stdout.splitlines() == [b"hello 5", os.fsencode(executor.workspace_dir / "sub")]
    executor.execute_bash("job signal one; job wait one")
    output, _ = executor.execute_bash("echo $kept; pwd")
    assert output == f"5\n{executor.workspace_dir}/sub\n"


def test_a_cancelled_block_ends_the_job_that_it_was_starting_and_no_other(
    executor: SubprocessExecutor, survivors: Survivors
) -> None:
    start(executor, f"sleep 987301{OWN}")

    async def cancel(action: BashAction) -> None:
        with anyio.move_on_after(0.1):
            await executor.run(action)

    anyio.run(cancel, BashAction(command=f"sleep 987302{OWN}", job="two"))
    assert survivors(f"987302{OWN}") == []
    anyio.run(cancel, BashAction(command=f"sleep 987303{OWN}"))
    assert survivors(f"987303{OWN}") == []
    assert executor.jobs == ("one",)
    assert len(survivors(f"987301{OWN}")) > 0


def test_a_job_that_kills_its_supervisor_leaves_nothing_behind(
    executor: SubprocessExecutor, survivors: Survivors
) -> None:
    start(executor, f"sleep 987311{OWN}", "other")
    start(executor, f"setsid sleep 987312{OWN} & sleep 0.6; kill -9 $PPID; sleep 987312{OWN}")
    told = news(executor)
    assert "the job 'one' has ended" in told
    assert "supervisor was killed" in told
    assert survivors(f"987312{OWN}") == []
    assert executor.jobs == ("other",)


def test_jobs_whose_supervisor_is_stopped_do_not_keep_the_session_from_its_end(
    tmp_path: Path, survivors: Survivors
) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(grace_s=0.3)) as executor:
        start(
            executor,
            f"sleep 0.5; kill -STOP $PPID; touch stopped; setsid sleep 987331{OWN} & wait; sleep 987331{OWN}",
        )
        wait_for((tmp_path / "stopped").exists)
        start(executor, f"trap '' TERM; sleep 987331{OWN}; sleep 987331{OWN}", "two")
    assert survivors(f"987331{OWN}") == []


def test_a_stubborn_job_leaves_time_to_end_a_block_that_has_stopped_its_supervisor(
    tmp_path: Path, survivors: Survivors
) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(grace_s=0.3)) as executor:
        start(executor, f"trap '' TERM; sleep 987341{OWN}; sleep 987341{OWN}")
        action = BashAction(command=f"kill -STOP $PPID; touch stopped; sleep 987341{OWN}")

        def run() -> None:
            with contextlib.suppress(RunnerDiedError):
                executor.run_sync(action)

        thread = threading.Thread(target=run)
        thread.start()
        wait_for((tmp_path / "stopped").exists)
    thread.join(20)
    assert survivors(f"987341{OWN}") == []


def test_jobs_end_with_their_runner_and_the_host_says_so(
    executor: SubprocessExecutor, survivors: Survivors
) -> None:
    start(executor, f"trap '' TERM; setsid sleep 987321{OWN} & sleep 987321{OWN}")
    assert executor._connection is not None
    os.kill(executor._connection.process.pid, signal.SIGKILL)
    assert "the job 'one' was ended: the runner" in news(executor)
    wait_for(lambda: not survivors(f"987321{OWN}"))
    assert executor.execute_bash("job list | wc -l")[0].startswith("1\n")


def test_a_job_counts_against_the_limits_of_the_session(tmp_path: Path) -> None:
    limits = Limits(timeout_s=30.0, grace_s=0.3, workspace_mib=64, processes=200)
    with SubprocessExecutor(tmp_path / "workspace", limits=limits) as executor:
        bomb = "import os, time\nfor _ in range(10): os.fork()\ntime.sleep(20)"
        start(executor, f"sleep 0.5; exec python3 -c '{bomb}'", "bomb")
        assert "the limit processes is 200" in news(executor)
        fill = "sleep 0.5; for n in $(seq 60); do head -c 4000000 /dev/zero > f$n; sleep 0.02; done; sleep 60"
        start(executor, fill, "fill")
        assert "the limit workspace_mib is 64" in news(executor)
        assert executor.execute_bash("rm f*; echo on")[0].startswith("on\n")


def test_a_job_goes_on_when_the_tools_change_and_calls_them(executor: SubprocessExecutor) -> None:
    def double(x: int) -> int:
        """Double it."""
        return 2 * x

    start(executor, "while [ ! -e go ]; do sleep 0.05; done; exec python3 call.py")
    executor.attach(tools=ToolSet([double]), layout=Layout())
    call = (
        "import json, os, socket\n"
        "sock = socket.socket(socket.AF_UNIX); sock.connect(os.environ['AGENTD_TOOLS_SOCKET'])\n"
        "path = os.environ['AGENTD_TOOLS_URL'].partition('://')[2].partition('/')[2]\n"
        "head = f'POST /{path}/call/double HTTP/1.1\\r\\nContent-Length: 9\\r\\n'\n"
        "head += f'Authorization: Bearer {os.environ[\"AGENTD_TOOLS_TOKEN\"]}\\r\\n\\r\\n'\n"
        "sock.sendall(head.encode() + b'{\"x\": 21}'); print(sock.makefile().read()[-2:])\n"
    )
    (executor.workspace_dir / "call.py").write_text(call)
    assert executor.execute_bash("touch go; job wait one 10 && job out one")[0].splitlines()[-1] == "42"


def test_what_is_asked_wrongly_about_jobs_is_refused_and_the_runner_lives(
    executor: SubprocessExecutor,
) -> None:
    start(executor, "sleep 60")
    wrong = [
        ("list", "[" * 100_000),
        ("list", "[]"),
        ("bogus", "{}"),
        ("out", '{"name": 5}'),
        ("out", '{"name": "one", "tail_lines": "x"}'),
        ("wait", '{"name": "one", "timeout_s": -1}'),
        ("wait", '{"name": "one", "timeout_s": NaN}'),
        ("signal", '{"name": "one", "signal": "\\ud800"}'),
        ("send", '{"name": "one", "text": "x"}'),
        ("start", '{"name": "two", "command": "true", "cwd": "\\u0000"}'),
        ("start", '{"name": "two", "command": "true", "cwd": "/", "env": {"A": "\\ud800"}}'),
        ("start", '{"name": "two", "command": "true", "cwd": "/", "env": {"A": 5}}'),
        ("start", '{"name": "two", "command": "a\\u0000b", "cwd": "/"}'),
        ("start", '{"name": "two", "command": "\\ud800", "cwd": "/"}'),
    ]
    code = "import json, os, socket\nfor what, body in json.loads(os.environ['WRONG']):\n"
    code += (
        "    sock = socket.socket(socket.AF_UNIX); sock.connect(os.environ['AGENTD_TOOLS_SOCKET'])\n"
        "    head = f'POST /jobs/{what} HTTP/1.1\\r\\nContent-Length: {len(body)}\\r\\n'\n"
        "    head += f'Authorization: Bearer {os.environ[\"AGENTD_TOOLS_TOKEN\"]}\\r\\n\\r\\n'\n"
        "    sock.sendall(head.encode() + body.encode()); print(sock.makefile().read().split()[1])\n"
    )
    result = executor.run_sync(PythonAction(code=code, env={"WRONG": json.dumps(wrong)}))
    assert set(result.output.split()) <= {"400", "422"}, result
    assert len(result.output.split()) == len(wrong)
    assert executor.execute_bash("job list | wc -l") == ("2\n", 0), "nothing of it may have started anything"


def test_without_jobs_none_is_started_and_the_model_is_told_of_none(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(jobs=0)) as executor:
        assert executor.job_guide(blocks=True) == ""
        result = start(executor, "sleep 60")
        assert (result.exit_code, "the limit jobs is 0" in result.message) == (1, True)


def test_a_job_of_a_forked_runner_works_alike(executor: SubprocessExecutor, tmp_path: Path) -> None:
    executor.execute_bash("true")
    with SubprocessExecutor(tmp_path / "second", timeout=20) as second:
        assert "runs (pid" in start(second, "echo out; sleep 60").message
        assert second.execute_bash("job out one") == ("out\n", 0)
        assert "no job 'one'" in executor.execute_bash("job out one")[0], "each session has its own"


def test_ended_jobs_are_forgotten_when_there_are_more_than_may_run(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, limits=Limits(jobs=2)) as executor:
        for name in ("a", "b", "c"):
            start(executor, "true", name)
        listed = executor.execute_bash("job list | awk '{print $1}'")[0].split()
        assert listed == ["NAME", "b", "c"]


def test_a_process_that_only_a_job_needs_ends_with_it(executor: SubprocessExecutor) -> None:
    start(executor, "sleep 60")
    executor.attach(tools=None, layout=Layout())  # from then on, workers come from another spawner
    executor.execute_bash("true")
    assert executor._connection is not None
    runner = executor._connection.process.pid
    spawners = Path(f"/proc/{runner}/task/{runner}/children")
    assert len(spawners.read_text().split()) == 2
    executor.execute_bash("job signal one; job wait one")
    wait_for(lambda: len(spawners.read_text().split()) == 1)
