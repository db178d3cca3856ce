"""Bash workers: what bash runs, what it sources before the code, how it is started."""

from __future__ import annotations

import os

from .descriptors import BASE_FD, BROKER_FD, CODE_FD, GATE_FD, JOB_FD, META_FD, SAVE_FD
from .limits import ULIMIT, effective_limits
from .primitives import signal
from .setup import RunnerSetup
from .shell_state import ShellState, is_bash_name

# What bash runs. Builtins only: every external command would cost 0.7 ms. It starts ahead of time, exports the
# base environment and waits at the gate for a byte; then JOB restores the state and reads the code. Nothing that
# code has left runs before the gate. `builtin`: the functions that it has left may have any name but this one,
# which would spoil META, so that the state before stays. The code is `eval`ed on the first line, so that error
# messages name the block's own lines. The state is written by an EXIT trap, and after the code, which may have
# set an EXIT trap of its own; META is written last and so says that the state is whole.
_BASH_SCRIPT = (
    f"source /dev/fd/{BASE_FD} 2>/dev/null; exec {BASE_FD}<&-; "
    f"TMOUT= IFS= read -r -n 1 -u {GATE_FD} || exit; "
    "__agentd_save() {"
    # The names without a value hide what is another one in each block: the state would never be the one of before.
    " builtin local __agentd_o=$SHELLOPTS __agentd_b=$BASHOPTS AGENTD_TOOLS_URL AGENTD_OUTPUT;"
    " builtin set +euCxv; __agentd_saved=1;"
    ' builtin eval "$__agentd_undo"; builtin unset -f __agentd_save;'
    f" {{ builtin declare -p; builtin declare -f; builtin declare -xF; }} >&{SAVE_FD};"
    f' builtin printf \'%s\\0\' "$__agentd_o" "$__agentd_b" "$PWD" >&{META_FD};'
    " }; trap '{ [[ ${__agentd_saved-} ]] || __agentd_save; } 2>/dev/null' EXIT; "
    f"source /dev/fd/{JOB_FD} 2>/dev/null; "
    'builtin eval "$__agentd_code"; '
    "{ __agentd_rc=$?; [[ ${__agentd_saved-} ]] || __agentd_save; builtin exit $__agentd_rc; } 2>/dev/null"
)


def bash_job(
    cwd: str,
    state: ShellState | None,
    ours: dict[str, str],
    env: dict[str, str],
    limits: dict[str, int],
    *,
    has_input: bool = False,
    saves: bool = True,
    terminal: str = "",
) -> bytes:
    """Return what bash sources before the code.

    `ours` is exported for every action; `env` for this one only, so what was there before is noted. With `has_input`,
    standard input stands behind the code in the same file, after a NUL. Without `saves`, the shell writes no state
    at its end. `terminal` is the path of the terminal that the code has for input and output; bash leads its session,
    so by being opened it becomes the session's own.
    """
    switches = state.switches() if state is not None else ""
    if terminal:  # in the code itself: what sources these lines gives standard error back at their end
        switches = f"exec 0<>{terminal} 1>&0 2>&0; {switches}"
    return os.fsencode(
        "".join(
            (
                # While `exec` is bash's own: after `builtin exec`, redirections would be undone.
                f"IFS= read -r -d '' -u {CODE_FD} __agentd_code\n",
                f"exec {f'0<&{CODE_FD}' if has_input else ''} {CODE_FD}<&- {JOB_FD}<&- {GATE_FD}<&-\n",
                # The directory: what the state says of OLDPWD comes after it.
                f"cd -- {_shell_quote(cwd)}\n",
                state.restore() if state is not None else "",
                "\n",
                *(map(_undo, env) if saves else ("__agentd_saved=1\n",)),
                export_lines({**ours, **env}),
                f"PWD={_shell_quote(cwd)}\n",
                f'__agentd_code="builtin unset __agentd_code; {switches}$__agentd_code"\n',
                _ulimits(limits, "builtin ulimit"),
                "builtin unset REPLY\n",
            )
        )
    )


def _undo(name: str) -> str:
    """Return a line that adds to `__agentd_undo` how a variable gets its old value back; bash 3.2 can read it."""
    return (
        f"if [[ ${{{name}+x}} ]]; then builtin printf -v __agentd_old 'builtin export {name}=%q;' \"${name}\"; "
        f"else __agentd_old='builtin unset {name};'; fi; __agentd_undo+=$__agentd_old; "
        "builtin unset __agentd_old\n"
    )


def export_lines(env: dict[str, str]) -> str:
    return "".join(f"builtin export {k}={_shell_quote(v)}\n" for k, v in env.items() if is_bash_name(k))


def spawn_bash(setup: RunnerSetup, received: list[int]) -> int:
    """Start a bash that waits at its gate: not a fork's child, which would cost as much as all of its start.

    Raises `OSError`.
    """
    broker, code, job, save, meta, base, gate, out, err = received
    moves = {1: out, 2: err, BROKER_FD: broker, CODE_FD: code, JOB_FD: job}
    moves.update({SAVE_FD: save, META_FD: meta, GATE_FD: gate, BASE_FD: base})
    bounds = _ulimits(setup.limits, "ulimit")
    script = f"{{ {bounds}}} 2>/dev/null; {_BASH_SCRIPT}" if bounds else _BASH_SCRIPT
    os.chdir(setup.workspace)
    return os.posix_spawn(
        setup.bash,
        ["bash", "--norc", "--noprofile", "-c", script, "bash"],
        # Nothing but PATH: all other variables come out of BASE, which argv would show to everybody.
        {"PATH": setup.env.get("PATH", "")},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0),
            *((os.POSIX_SPAWN_DUP2, source, target) for target, source in moves.items()),
        ],
        setsid=True,
        setsigdef=[getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGPIPE", "SIGXFSZ")],
    )


def _ulimits(limits: dict[str, int], command: str) -> str:
    return "".join(
        f"{command} -{ULIMIT[name][0]} {n // ULIMIT[name][1]}; " for name, n in effective_limits(limits)
    )


def _shell_quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
