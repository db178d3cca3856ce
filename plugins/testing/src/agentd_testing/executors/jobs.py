"""Jobs: they outlive their block, are kept within bounds, and end with the session. For executors that have them."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Final

import anyio
import pytest
from agentd.protocols import Executor, JobExecutor, PausableExecutor
from agentd.types import Action, ActionResult, BashAction, Limits, PythonAction

from agentd_testing.executors.base import ExecutorBase
from agentd_testing.processes import living_with, wait_until_gone

__all__ = ["JobsPart"]

_SERVER: Final = "echo served > page.txt; exec python3 -u -m http.server 0 --bind 127.0.0.1"
_FETCH: Final = """
import re, subprocess, sys, time, urllib.request
for _ in range(100):
    told = subprocess.run(["job", "out", "web"], capture_output=True, text=True, check=True).stdout
    if found := re.search(r"port (\\d+)", told):
        break
    time.sleep(0.1)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
print(direct.open(f"http://127.0.0.1:{found[1]}/page.txt", timeout=10).read().decode(), end="")
"""
_FETCH_BASH: Final = r"""
port=$(job out web | sed -n 's/.*port \([0-9]*\).*/\1/p' | head -n 1)
exec 3<>/dev/tcp/127.0.0.1/$port
printf 'GET /page.txt HTTP/1.0\r\n\r\n' >&3
tail -n 1 <&3
"""
_HOST: Final = """
    import anyio, os, signal
    from importlib import import_module
    from agentd.types import BashAction, Limits
    make = getattr(import_module({module!r}), {name!r})
    executor = make({workspace!r}, limits=Limits(timeout_s=30.0, grace_s=0.3), **{options!r})
    async def main():
        for number, command in enumerate({commands!r}):
            result = await executor.run(BashAction(command=command, job=f"job{{number}}"))
            assert result.exit_code == 0, result
        os.kill(os.getpid(), signal.SIGKILL)
    anyio.run(main)
"""


class JobsPart(ExecutorBase):
    """What runs on when its block has been answered."""

    @pytest.fixture
    def jobs(self, executor: Executor) -> Executor:
        """The executor, if it has jobs."""
        if not isinstance(executor, JobExecutor):
            pytest.skip("this executor has no jobs (agentd.protocols.JobExecutor)")
        return executor

    async def job(self, executor: Executor, command: str, name: str = "") -> ActionResult:
        """Start a job as a block does."""
        return await executor.run(BashAction(command=command, job=name))

    async def news(self, executor: Executor) -> list[str]:
        """Wait for what the model is to be told of jobs."""
        assert isinstance(executor, JobExecutor)
        with anyio.fail_after(20):
            while not (news := executor.job_news()):
                await anyio.sleep(0.02)
        return news

    @pytest.mark.anyio
    async def test_a_server_of_one_block_answers_the_next_ones(self, jobs: Executor) -> None:
        result = await self.job(jobs, _SERVER, "web")
        assert result.exit_code == 0, result
        assert "the job 'web' runs (pid " in result.message
        assert "job out web" in result.message, "the result must say how its output is read"
        fetched = await self.python(jobs, _FETCH)
        assert (fetched.stdout, fetched.stderr) == (b"served\n", b"")
        fetched = await self.bash(jobs, _FETCH_BASH)
        assert fetched.stdout == b"served\n", fetched
        listed = await self.bash(jobs, "job list; job signal web; job wait web 10")
        assert b"web   running" in listed.stdout
        assert listed.exit_code == 128 + signal.SIGTERM, "`job wait` must exit with the job's exit code"
        assert "the job 'web' has ended" in (await self.news(jobs))[0]

    @pytest.mark.anyio
    async def test_a_job_that_ends_at_once_gives_its_output_and_exit_code(self, jobs: Executor) -> None:
        result = await self.job(jobs, "echo broken >&2; exit 3", "web")
        assert (result.output.splitlines()[0], result.exit_code) == ("broken", 3)
        assert "has ended already" in result.message
        assert isinstance(jobs, JobExecutor)
        assert jobs.job_news() == [], "its block's result has said so"

    @pytest.mark.anyio
    async def test_a_job_is_started_from_python_and_keeps_what_the_block_gives_it(
        self, jobs: Executor
    ) -> None:
        code = 'import os, subprocess\nos.mkdir("below"); os.chdir("below"); os.environ["GIVEN"] = "a b"\n'
        code += 'line = ["sh", "-c", \'echo "$GIVEN $1 $PWD"; exit 4\', "-", "it\'s"]\n'
        code += 'print(subprocess.run(["job", "start", "one", "--", *line]).returncode)\n'
        result = await self.python(jobs, code)
        first, told, code_line = result.output.splitlines()
        assert first.startswith("a b it's /"), "variables, arguments and the directory are the caller's"
        assert first.endswith("/below")
        assert told.startswith("job one has ended after")
        assert code_line == "4", "`job start` must exit with the code of a job that ends at once"

    @pytest.mark.anyio
    async def test_a_job_that_ignores_term_is_killed_by_name_and_with_the_session(
        self, jobs: Executor, marker: str
    ) -> None:
        stubborn = f"trap '' TERM; sleep {marker}; sleep {marker}; sleep {marker}"
        for name in ("one", "two"):
            assert (await self.job(jobs, stubborn, name)).exit_code == 0
        result = await self.bash(jobs, "job signal one TERM; job wait one 0.5; echo $?")
        assert result.stdout == b"124\n", "TERM must not end what ignores it"
        result = await self.bash(jobs, "job signal one KILL; job wait one 10")
        assert result.exit_code == 128 + signal.SIGKILL
        with anyio.fail_after(15):
            await jobs.aclose()
        if self.local_processes:
            assert wait_until_gone(marker, 5) == [], "a job must be killed after the grace time"

    @pytest.mark.anyio
    async def test_a_job_lasts_as_long_as_any_process_of_it(self, jobs: Executor, marker: str) -> None:
        daemon = f"(setsid sh -c '(sleep {marker} &) ; sleep 0.1' &) ; exit 0"
        result = await self.job(jobs, daemon, "daemon")
        assert "runs (pid" in result.message, "what has made itself a daemon is a job still"
        assert (await self.bash(jobs, "job wait daemon 1")).exit_code == 124
        await jobs.aclose()
        if self.local_processes:
            assert wait_until_gone(marker, 5) == [], "a daemon must end with its session"

    @pytest.mark.anyio
    async def test_a_flood_of_output_is_kept_within_bounds(self, jobs: Executor) -> None:
        flood = "echo first; head -c 3000000 /dev/zero | tr '\\0' x; echo; echo last; exec sleep 60"
        await self.job(jobs, flood, "flood")
        script = 'until [ "$(job out flood --tail 1)" = last ]; do sleep 0.05; done; job out flood > all; wc -c < all; '
        result = await self.bash(jobs, f"{script} head -n 1 all; grep -c 'bytes left out' all")
        size, first, note = result.stdout.split()
        assert 1024 * 1024 <= int(size) < 1024 * 1024 + 100, "head and tail of it are kept"
        assert (first, note) == (b"first", b"1")

    @pytest.mark.anyio
    async def test_a_job_may_have_a_terminal(self, jobs: Executor) -> None:
        code = 'stty size; read line; echo "got $line"; sleep 60'
        script = f"job start tty --pty -- sh -c '{code}'; job send tty hello\n"
        script += "until job out tty | grep -q got; do sleep 0.05; done; job out tty; job signal tty KILL"
        result = await self.bash(jobs, script)
        assert b"24 80" in result.stdout, result
        assert b"got hello" in result.stdout, "what is sent must be typed into the terminal"

    @pytest.mark.anyio
    async def test_what_a_terminal_does_not_take_is_not_said_to_be_sent(self, jobs: Executor) -> None:
        script = "job start deaf --pty -- sh -c 'stty raw -echo; echo ready; exec sleep 60'\n"
        script += "until job out deaf | grep -q ready; do sleep 0.05; done\n"
        script += "job send deaf \"$(head -c 100000 /dev/zero | tr '\\0' x)\"; echo $?"
        result = await self.bash(jobs, script)
        assert result.stdout.rstrip().endswith(b"1"), result
        assert b"of 100001 bytes" in result.stdout + result.stderr

    @pytest.mark.anyio
    async def test_what_is_no_job_is_refused_with_a_reason(self, workspace: Path) -> None:
        executor = self.make_executor(workspace, limits=Limits(timeout_s=30.0, grace_s=0.3, jobs=2))
        if not isinstance(executor, JobExecutor):
            pytest.skip("this executor has no jobs")
        try:
            for name in ("a/b", "-x", "x" * 33, "é", "a b"):
                result = await self.job(executor, "sleep 60", name)
                assert (result.status, result.exit_code) == ("failed", 1), name
                assert "is no name" in result.message
            assert "'job1' runs" in (await self.job(executor, "sleep 60")).message
            assert "signal job1" in (await self.job(executor, "sleep 60", "job1")).message
            assert "'job2' runs" in (await self.job(executor, "sleep 60")).message
            refused = await self.job(executor, "sleep 60", "third")
            assert "2 jobs run (job1, job2); the limit jobs is 2" in refused.message
            result = await self.bash(executor, "job out nobody; job signal job1 FOO; job bogus; job start")
            assert b"there is no job 'nobody'" in result.stderr
            assert b"there is no signal 'FOO'" in result.stderr
            assert b"usage: job list" in result.stderr
        finally:
            executor.close()

    @pytest.mark.anyio
    async def test_what_a_lasting_action_leaves_running_is_a_job(self, jobs: Executor, marker: str) -> None:
        leaving: list[Action] = [
            BashAction(command=f"(setsid sleep {marker} &); echo hi; exit 3", lasting=True),
            BashAction(command=f"sleep {marker} & echo hi; exit 3", lasting=True, state="fresh"),
            PythonAction(
                code=f"import subprocess\nsubprocess.Popen(['sleep', '{marker}'])\nprint('hi')\nraise SystemExit(3)",
                lasting=True,
            ),
        ]
        for number, action in enumerate(leaving, 1):
            result = await jobs.run(action)
            assert (result.stdout, result.exit_code, result.message) == (b"hi\n", 3, ""), action
            listed = await self.bash(jobs, "job list")
            assert listed.stdout.count(b"(left running by block") == number, listed
        result = await self.bash(jobs, "job signal job1; job wait job1 10; echo")
        assert result.exit_code == 0, result
        late = BashAction(
            command=f"sleep {marker} & echo hi; exec sleep {marker}", lasting=True, timeout_s=0.5
        )
        assert (await jobs.run(late)).status == "timeout"
        listed = await self.bash(jobs, "job list")
        assert listed.stdout.count(b"  running ") == 2, (
            "an action that takes too long must leave nothing running"
        )
        await jobs.aclose()
        if self.local_processes:
            assert wait_until_gone(marker, 5) == [], "what was left running must end with the session"

    @pytest.mark.anyio
    async def test_a_lasting_action_that_leaves_nothing_is_no_job(self, jobs: Executor) -> None:
        for action in (BashAction(command="true", lasting=True), PythonAction(code="1", lasting=True)):
            assert (await jobs.run(action)).exit_code == 0
        listed = await self.bash(jobs, "job list")
        assert len(listed.stdout.splitlines()) == 1, listed

    @pytest.mark.anyio
    async def test_jobs_are_gone_before_files_are_replaced(self, jobs: Executor, marker: str) -> None:
        if not isinstance(jobs, PausableExecutor):
            pytest.skip("this executor need not be paused (agentd.protocols.PausableExecutor)")
        await self.job(jobs, f"sleep {marker}", "web")
        await anyio.to_thread.run_sync(jobs.pause)
        if self.local_processes:
            assert living_with(marker) == [], "no job may run while files are replaced"
        assert "the job 'web' was ended" in (await self.news(jobs))[0]
        listed = await self.bash(jobs, "job list")
        assert len(listed.stdout.splitlines()) == 1, listed

    def test_no_job_outlives_a_host_that_is_killed(self, workspace: Path, marker: str) -> None:
        if not (self.factory and self.local_processes):
            pytest.skip("needs `factory` (the host is a process of its own here) and processes seen in /proc")
        executor = self.make_executor(workspace, limits=Limits())
        executor.close()
        if not isinstance(executor, JobExecutor):
            pytest.skip("this executor has no jobs")
        commands = [
            f"trap '' TERM; sleep {marker}; sleep {marker}",
            f"(setsid sh -c '(sleep {marker} &) ; sleep 0.1' &) ; exit 0",
            f"echo flood; sleep {marker} & while :; do echo flood; done",
        ]
        module, _, name = self.factory.partition(":")
        code = textwrap.dedent(_HOST).format(
            module=module, name=name, workspace=str(workspace), options=self.options, commands=commands
        )
        done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert wait_until_gone(marker, 15) == [], "a job must end when the host dies, however it dies"
