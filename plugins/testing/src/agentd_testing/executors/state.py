"""State: what goes over from one block to the next, what does not, and blocks side by side."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest
from agentd._concurrency.waiting import loop_caller
from agentd.errors import ExecutorError
from agentd.protocols import Executor, ShellExecutor
from agentd.types import BashAction, OutputChunk

from agentd_testing.executors.base import LIMITS, ExecutorBase

__all__ = ["StatePart"]


class StatePart(ExecutorBase):
    """What blocks share."""

    @pytest.mark.anyio
    async def test_bash_keeps_directory_exports_functions_and_options(self, executor: Executor) -> None:
        await self.bash(executor, "mkdir sub; cd sub; export A='x y'; f() { echo f:$A; }; set -o pipefail")
        result = await self.bash(
            executor, "echo ${PWD##*/}; f; bash -c 'echo child:$A'; set -o | grep -c 'pipefail.*on'"
        )
        assert result.stdout.decode().splitlines() == ["sub", "f:x y", "child:x y", "1"], (
            "directory, exported variables, functions and options must go over to the next bash block"
        )

    @pytest.mark.anyio
    async def test_bash_keeps_variables_and_not_how_a_block_wants_to_fail(self, executor: Executor) -> None:
        await self.bash(executor, "set -eu; X=5; a=(1 'two three'); trap 'echo left' EXIT")
        result = await self.bash(executor, 'false; echo "$X ${a[1]}$unknown"')
        assert result.stdout == b"5 two three\n", (
            "variables, arrays too, must go over to the next bash block; `set -e`, `set -u` and traps must not"
        )

    @pytest.mark.anyio
    async def test_a_bash_block_that_fails_keeps_the_state_too(self, executor: Executor) -> None:
        await self.bash(executor, "export KEPT=1; exit 4")
        assert (await self.bash(executor, "echo $KEPT")).stdout == b"1\n"

    @pytest.mark.anyio
    async def test_a_fresh_bash_takes_nothing_of_the_shell_and_leaves_nothing(
        self, executor: Executor
    ) -> None:
        await self.bash(executor, "mkdir sub; cd sub; export A=1; f() { echo f; }; set -o pipefail")
        shows = 'echo "[$A$B]" ${PWD##*/}; set -o | grep -c "pipefail.*on"; type -t f g'
        change = "; cd /; export A=2 B=2; g() { echo g; }; set +o pipefail; trap 'echo left' EXIT"
        fresh = await executor.run(BashAction(command=shows + change, state="fresh", env={"B": "own"}))
        top = executor.workspace_dir.name
        assert fresh.stdout.decode().split() == ["[own]", top, "0", "left"], fresh
        assert (await self.bash(executor, shows)).stdout.decode().split() == ["[1]", "sub", "1", "function"]

    @pytest.mark.anyio
    async def test_it_is_bash_and_not_sh(self, executor: Executor) -> None:
        assert (await self.bash(executor, "declare -A m=([a]=1); echo ${m[a]}")).stdout == b"1\n"

    @pytest.mark.anyio
    async def test_python_blocks_are_fresh_and_start_in_bashs_directory(self, executor: Executor) -> None:
        await self.bash(executor, "mkdir d; cd d")
        await self.python(executor, "leak = 1")
        code = "import os; print(__name__, 'leak' in globals(), os.path.basename(os.getcwd()))"
        assert (await self.python(executor, code)).stdout == b"__main__ False d\n"

    @pytest.mark.anyio
    async def test_a_kept_namespace_lasts_over_errors_and_exits(self, executor: Executor) -> None:
        assert (await self.python(executor, "x = 41", state="kept")).exit_code == 0
        assert (await self.python(executor, "raise SystemExit(3)", state="kept")).exit_code == 3
        assert (await self.python(executor, "print(x + 1)", state="kept")).stdout == b"42\n"
        assert (await self.python(executor, "print('x' in globals())")).stdout == b"False\n"

    @pytest.mark.anyio
    async def test_cwd_and_env_of_one_action_hold_for_it(self, executor: Executor) -> None:
        await self.bash(executor, "mkdir here")
        result = await self.bash(executor, 'echo "$ONE" ${PWD##*/}', env={"ONE": "it's"}, cwd="here")
        assert result.stdout == b"it's here\n"
        result = await self.python(executor, "import os; print(os.environ['ONE'])", env={"ONE": "two"})
        assert result.stdout == b"two\n"

    @pytest.mark.anyio
    async def test_the_workspace_is_where_blocks_start(self, executor: Executor) -> None:
        await self.bash(executor, "echo made > made.txt")
        assert (executor.workspace_dir / "made.txt").read_text() == "made\n"
        assert (await self.python(executor, "print(open('made.txt').read(), end='')")).stdout == b"made\n"

    @pytest.mark.anyio
    async def test_the_shell_goes_back_to_where_it_was(self, executor: Executor) -> None:
        if not isinstance(executor, ShellExecutor):
            pytest.skip("this executor keeps no state of the shell (agentd.protocols.ShellExecutor)")
        begin = (await self.bash(executor, "pwd")).stdout
        await self.bash(
            executor, "mkdir sub; cd sub; export A='x y' B=$TMPDIR; f() { echo f:$A; }; set -o pipefail"
        )
        state = json.loads(json.dumps(await executor.shell_state()))
        await self.bash(executor, "cd ..; unset A; unset -f f; set +o pipefail; export LATER=1")
        await executor.set_shell_state(state)
        show = "echo ${PWD##*/}; f; echo [$LATER]; [[ $B == $TMPDIR ]] && set -o | grep -c 'pipefail.*on'"
        result = await self.bash(executor, show)
        assert result.stdout.decode().splitlines() == ["sub", "f:x y", "[]", "1"], (
            "the state must bring back directory, exports, functions and options, and nothing of later"
        )
        await executor.set_shell_state(None)
        assert (await self.bash(executor, 'echo "[$A]"; pwd')).stdout == b"[]\n" + begin

    @pytest.mark.anyio
    async def test_the_shell_is_not_changed_under_a_running_block(self, executor: Executor) -> None:
        if not isinstance(executor, ShellExecutor):
            pytest.skip("this executor keeps no state of the shell (agentd.protocols.ShellExecutor)")
        started = anyio.Event()
        async with anyio.create_task_group() as tasks:

            async def block() -> None:
                call = loop_caller()

                def begun(_: OutputChunk) -> None:
                    call(started.set)

                action = BashAction(
                    command="echo started; until [ -e go ]; do sleep 0.01; done", timeout_s=20
                )
                await executor.run(action, on_output=begun)

            tasks.start_soon(block)
            await started.wait()
            with pytest.raises(ExecutorError, match="still running"):
                await executor.set_shell_state(None)
            (executor.workspace_dir / "go").touch()

    @pytest.mark.anyio
    async def test_blocks_run_side_by_side(self, executor: Executor) -> None:
        # Each waits for all the others: they can only end if they run at the same time.
        command = "touch $N; until [ -e 0 -a -e 1 -a -e 2 ]; do sleep 0.01; done; echo $N"
        results: dict[int, bytes] = {}

        async def one(number: int) -> None:
            result = await self.bash(executor, command, env={"N": str(number)}, timeout_s=20)
            results[number] = result.stdout

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(one, number)
        assert results == {n: b"%d\n" % n for n in range(3)}, (
            "several actions must run at once, each with its own output"
        )

    @pytest.mark.anyio
    async def test_no_secret_of_the_host_is_in_the_environment(
        self, executor: Executor, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SOME_API_KEY", "s3cr3t-one")
        monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cr3t-two@proxy.invalid")
        for result in (
            await self.bash(executor, "env"),
            await self.python(executor, "import os; print(dict(os.environ))"),
        ):
            assert "s3cr3t" not in result.output, "the environment must be built from an allow-list"

    @pytest.mark.anyio
    async def test_two_executors_share_nothing(self, executor: Executor, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        other = self.make_executor(tmp_path / "other", limits=LIMITS)
        try:
            await self.bash(executor, "export MINE=1; echo x > file")
            result = await self.bash(other, "echo [$MINE]; ls")
            assert result.stdout == b"[]\n"
            tokens = [(await self.bash(e, "echo $AGENTD_TOOLS_TOKEN")).stdout for e in (executor, other)]
            assert tokens[0] != tokens[1], "each session needs a token of its own"
        finally:
            await other.aclose()
