"""Bash blocks: real bash, state carried over, nothing that a block does hurts the session."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from agentd.types import BashAction
from agentd_executor_subprocess.executor import SubprocessExecutor
from agentd_runner.inside.descriptors import BASE_FD, GATE_FD
from agentd_runner.inside.processes import descendants
from host_processes import OWN


def run(executor: SubprocessExecutor, command: str) -> tuple[str, int]:
    return executor.execute_bash(command)


def wait_for_the_next_bash(executor: SubprocessExecutor) -> None:
    """Until a bash waits at its gate: it has closed BASE, and still has the gate."""
    assert executor._connection is not None
    below = [executor._connection.process.pid]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for pid in descendants(below):
            with suppress(OSError):
                held = os.listdir(f"/proc/{pid}/fd")
                if str(GATE_FD) in held and str(BASE_FD) not in held:
                    return
        time.sleep(0.005)
    raise AssertionError("no bash waits")


def test_the_directory_the_exports_the_functions_and_the_options_carry_over(
    executor: SubprocessExecutor,
) -> None:
    run(executor, "mkdir sub; cd sub; export A='x y'; f() { echo f:$A; }; set -o pipefail; shopt -s extglob")
    output, code = run(executor, "pwd; f; bash -c 'echo child:$A'; set -o | grep pipefail; shopt extglob")
    lines = output.splitlines()
    assert lines[0].endswith("/workspace/sub")
    assert lines[1:3] == ["f:x y", "child:x y"]
    assert lines[3].split() == ["pipefail", "on"]
    assert lines[4].split() == ["extglob", "on"]
    assert code == 0


def test_an_exported_function_stays_exported(executor: SubprocessExecutor) -> None:
    run(executor, "g() { echo g; }; export -f g")
    assert run(executor, "bash -c g") == ("g\n", 0)


def test_an_unset_variable_stays_unset(executor: SubprocessExecutor) -> None:
    run(executor, "unset LANG; export kept=1")
    assert run(executor, "echo [${LANG-unset}] [$kept]") == ("[unset] [1]\n", 0)


@pytest.mark.parametrize(
    ("made", "shown", "expected"),
    [
        ("X=5", "echo $X; bash -c 'echo [$X]'", "5\n[]\n"),
        ("o=1; b=2; value=3; SAVE=4", "echo $o$b$value$SAVE", "1234\n"),
        (
            "a=(one 'two three' $'four\nfive' '$(no)' ')'); a[7]='x)'",
            'printf "%s|" "${!a[@]}" "${a[@]}"',
            None,
        ),
        (
            "declare -A m=([k]=v ['a b']='c\"d' [')']=\"it's\")",
            'echo "${m[k]} ${m[a b]} ${m[)]}"',
            "v c\"d it's\n",
        ),
        ("declare -i n=4", "n+=3; echo $n", "7\n"),
        ("declare -r R=1", "(R=2) 2>/dev/null || echo $R", "1\n"),
        ("target=1; declare -n ref=target", "ref=2; echo $target", "2\n"),
        ("IFS=,", "x=1,2; set -- $x; echo $#", "2\n"),
        ("export -n LANG", "echo ${LANG:+there}; env | grep -c ^LANG=", "there\n0\n"),
        ("empty=; declare -a none=()", "echo ${empty-unset}${#none[@]}", "0\n"),
        ('tricky=\'declare -i RANDOM="1"\ndeclare -- fake="x\'', "echo ${#tricky} [$fake]", "40 []\n"),
    ],
)
def test_variables_carry_over(
    executor: SubprocessExecutor, made: str, shown: str, expected: str | None
) -> None:
    if expected is None:
        expected = "0|1|2|3|4|7|one|two three|four\nfive|$(no)|)|x)|"
    run(executor, made)
    run(executor, "true")
    assert run(executor, shown)[0] == expected


def test_how_a_block_wants_to_fail_and_to_be_traced_does_not_carry_over(executor: SubprocessExecutor) -> None:
    assert run(executor, "set -euxv; kept=on; trap 'echo trapped' EXIT ERR; true")[1] == 0
    assert run(executor, "false; echo $unknown $kept; trap -p | grep trapped || true") == ("on\n", 0)


def test_a_state_that_is_too_large_is_not_kept_and_that_is_said(executor: SubprocessExecutor) -> None:
    run(executor, "small=1")
    for code in (
        "big=$(printf %2000000s)",
        "export BIG=$(printf %2000000s)",
        "printf %2000000s >&93",
        "printf %2000000s >&94",
    ):
        output, exit_code = run(executor, f"small=2; cd /; {code}")
        assert exit_code == 0
        assert "nothing of the shell goes over to the next block: its state is 2" in output
        assert "and at most 1048576 are kept" in output
    output = run(executor, "echo $small ${PWD##*/} ${#big}")
    assert output == ("1 workspace 0\n", 0)


def test_a_state_file_made_huge_costs_the_runner_nothing(executor: SubprocessExecutor) -> None:
    huge = "import os\nfor number in (93, 94): os.ftruncate(number, 1 << 29)"
    output, _ = run(executor, f"python -c '{huge}'; X=1")
    assert "its state is 536870912 bytes" in output
    assert executor._connection is not None
    status = Path(f"/proc/{executor._connection.process.pid}/status").read_text()
    peak_mib = int(status.partition("VmHWM:")[2].split()[0]) >> 10
    assert peak_mib < 100
    assert run(executor, "echo [$X]") == ("[]\n", 0)


def test_what_was_read_only_stays_so_even_if_its_value_is_the_one_of_before(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, env={"GIVEN": "1"}) as executor:
        run(executor, "readonly GIVEN")
        assert run(executor, "(GIVEN=2) 2>/dev/null || echo refused $GIVEN") == ("refused 1\n", 0)


def test_functions_with_the_names_of_builtins_do_not_hurt_the_next_block(
    executor: SubprocessExecutor,
) -> None:
    names = "read exec export unset printf eval exit set source trap local declare shopt cd return"
    run(executor, f'set -o pipefail; for name in {names}; do eval "$name() {{ echo mine; }}"; done')
    output, code = run(
        executor, "builtin set -o | grep pipefail; read; X=1; builtin export X; builtin exit 3"
    )
    assert (output.split(), code) == (["pipefail", "on", "mine"], 3)
    assert run(executor, "echo $X; read") == ("1\nmine\n", 0)
    run(executor, "builtin() { echo mine; }")
    assert run(executor, "builtin echo on $X") == ("on 1\n", 0)


def test_what_a_block_writes_for_the_next_one_does_not_run_before_it(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path) as executor:
        run(executor, "echo 'builtin echo >> planted' >&93")
        wait_for_the_next_bash(executor)
        assert not (tmp_path / "planted").exists()
        assert run(executor, "test -e planted && echo then") == ("then\n", 0)


def test_code_has_no_descriptors_but_those_that_it_needs(executor: SubprocessExecutor) -> None:
    for _ in range(2):
        shown = run(executor, "ls /proc/self/fd; exec() { :; }")[0].split()
        assert shown == ["0", "1", "2", "3", "90", "93", "94"]  # 3 is the listed folder


def test_a_time_limit_for_read_does_not_end_the_bash_that_waits(tmp_path: Path) -> None:
    with SubprocessExecutor(tmp_path, env={"TMOUT": "1"}) as executor:
        run(executor, "true")
        wait_for_the_next_bash(executor)
        time.sleep(1.3)  # longer than TMOUT
        assert run(executor, "echo on $TMOUT") == ("on 1\n", 0)


def test_supervisors_are_used_again(executor: SubprocessExecutor) -> None:
    supervisors = set()
    for _ in range(8):
        supervisors.add(run(executor, "echo $PPID"))
        wait_for_the_next_bash(executor)
    assert len(supervisors) <= 3


def test_an_option_switched_off_stays_off(executor: SubprocessExecutor) -> None:
    run(executor, "set +o braceexpand; set -f")
    assert run(executor, "echo {a,b} *") == ("{a,b} *\n", 0)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("exit 3", 3),
        ("echo 'unclosed", 2),
        ("set -e; false; echo never", 1),
        ("cat", 0),
        ("exec true", 0),
        ("kill -9 $$", 137),
        ("set -n; echo x", 0),
        ("}", 2),
        ("trap 'exit 9' EXIT; exit 4", 9),
        ("false", 1),
        ("exec 0<&- 1>&- 2>&-", 0),
        ("f() { f; }; ulimit -s 256; f", 139),
    ],
)
def test_no_block_hurts_the_session(executor: SubprocessExecutor, command: str, code: int) -> None:
    """0.8.6: `exit 3` waited for the time-out, `cat` ate the marker, an unclosed quote poisoned the shell."""
    run(executor, "export BEFORE=1")
    assert run(executor, command)[1] == code
    output, code = run(executor, "set +e; echo after $BEFORE")
    assert (output, code) == ("after 1\n", 0)


def test_a_large_exit_code_is_no_signal(executor: SubprocessExecutor) -> None:
    assert run(executor, "exit 255") == ("", 255)
    assert run(executor, "kill -TERM $$") == ("ended by signal SIGTERM", 143)


def test_cd_minus_goes_back_over_blocks(executor: SubprocessExecutor) -> None:
    run(executor, "mkdir a b; cd a")
    run(executor, "cd ../b")
    assert run(executor, "cd - >/dev/null; pwd")[0].endswith("/workspace/a\n")
    assert run(executor, "cd -")[0].endswith("/workspace/b\n")


def test_a_users_exit_trap_runs_and_the_state_is_still_saved(executor: SubprocessExecutor) -> None:
    assert run(executor, "trap 'echo bye' EXIT; export T=1") == ("bye\n", 0)
    assert run(executor, "echo $T") == ("1\n", 0)


def test_tracing_shows_the_blocks_own_lines_only(executor: SubprocessExecutor) -> None:
    assert run(executor, "set -x; true")[0] == "++ true\n"  # the block is evaluated, hence the second +
    result = executor.run_sync(BashAction(command="set -x; echo hi"))
    assert (result.stdout, result.stderr) == (b"hi\n", b"++ echo hi\n")
    assert run(executor, "echo quiet") == ("quiet\n", 0)


def test_error_messages_carry_the_blocks_line_numbers(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "true\n\nno_such_command")
    assert "line 3: no_such_command: command not found" in output
    assert code == 127


def test_a_background_job_ends_with_its_block_and_is_reported(
    executor: SubprocessExecutor, survivors: Callable[[str], list[str]]
) -> None:
    """0.8.6: `&` jobs left orphans."""
    output, code = run(executor, f"sleep 987001{OWN} & (setsid sleep 987001{OWN} &); disown -a; echo done")
    assert output.startswith("done\n")
    assert "2 background process(es) ended with the block" in output
    assert code == 0
    assert survivors(f"987001{OWN}") == []


def test_a_directory_that_was_removed_is_said_and_the_workspace_used(executor: SubprocessExecutor) -> None:
    run(executor, "mkdir gone; cd gone; rmdir ../gone")
    output, code = run(executor, "pwd")
    assert "cannot enter" in output
    assert str(executor.workspace_dir) in output.splitlines()
    assert code == 0


def test_a_workspace_that_is_moved_away_is_named_and_back_in_its_place_blocks_run_again(
    executor: SubprocessExecutor,
) -> None:
    workspace = Path(executor.workspace_dir)
    run(executor, "touch here")
    wait_for_the_next_bash(executor)
    workspace.rename(workspace.with_name("moved"))
    for result in (run(executor, "touch lost"), executor.execute_python("open('lost', 'w')")):
        assert result == (
            f"not run: cannot enter the workspace {workspace}: it is gone or closed to the code's user; "
            "put it back, or begin a session in another folder",
            1,
        )
    workspace.with_name("moved").rename(workspace)
    assert run(executor, "ls") == ("here\n", 0)


@pytest.mark.parametrize("size", [4_095, 65_535, 65_537, 300_000])
def test_a_here_document_may_be_larger_than_a_pipe(executor: SubprocessExecutor, size: int) -> None:
    # bash writes a document to a pipe if that can hold it, else to a file in TMPDIR, which has to be there.
    document = "x" * (size - 1)
    assert run(executor, f"cat <<'EOF' | wc -c\n{document}\nEOF") == (f"{size}\n", 0)
    assert run(executor, f"wc -c <<< {document}") == (f"{size}\n", 0)


def test_a_script_of_1500_lines_and_one_of_5_mb_run(executor: SubprocessExecutor) -> None:
    """0.8.6: a 1,500-line script hung."""
    assert run(executor, "true\n" * 1500 + "echo end") == ("end\n", 0)
    assert run(executor, "# " + "x" * 5_000_000 + "\necho end") == ("end\n", 0)


def test_a_nul_byte_in_bash_source_is_refused_in_words(executor: SubprocessExecutor) -> None:
    output, code = run(executor, "echo a\0b; echo c")
    assert code == 1
    assert "NUL byte" in output


def test_standard_input_is_empty(executor: SubprocessExecutor) -> None:
    assert run(executor, "read line; echo [$line] $?")[0] == "[] 1\n"


def test_parallel_blocks_start_from_one_state_and_the_last_written_wins(executor: SubprocessExecutor) -> None:
    import threading

    run(executor, "mkdir a b; export V=0")
    first = threading.Thread(
        target=lambda: executor.run_sync(
            BashAction(command="cd a; export V=1; touch ../started; until [ -e ../go ]; do sleep 0.01; done")
        )
    )
    first.start()
    while not (executor.workspace_dir / "started").exists():
        pass
    run(executor, "cd b; export V=2; touch ../go")
    first.join()
    assert run(executor, "echo $V ${PWD##*/}") == ("2 b\n", 0)


@pytest.mark.anyio
async def test_variables_of_one_action_do_not_stay_for_the_next(
    executor: SubprocessExecutor, anyio_backend: str
) -> None:
    await executor.run(BashAction(command="export KEPT='its own value'"))
    show = "echo [$KEPT] [${NEW-unset}]; env | grep -c -E '^(KEPT|NEW)='"
    once = await executor.run(BashAction(command=show, env={"KEPT": "it's another", "NEW": "a\nb"}))
    assert once.output == "[it's another] [a b]\n2\n"
    later = await executor.run(BashAction(command=show))
    assert later.output == "[its own value] [unset]\n1\n"
