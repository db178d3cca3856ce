"""What bash has saved, as the next block's shell starts from it."""

from __future__ import annotations

import subprocess

from agentd_runner.inside.shell_state import SessionShell, _matched_lines, _plain_lines
from hypothesis import given, strategies as st

SAVED = 'declare -x COLOUR="red"\ndeclare -- own="1"\n', "braceexpand:hashall", "", "/work"


def test_what_is_saved_again_is_not_read_again() -> None:
    shell = SessionShell()
    for order, ppid in enumerate(("7", "8", "7", "8"), start=1):
        shell.keep_saved((f'declare -ir PPID="{ppid}"\n' + SAVED[0], *SAVED[1:]), order, {})
        assert shell.state is not None
        assert "own" in shell.state.source
        if order == 1:
            first = shell.state
    assert shell.made
    assert shell.state is not first
    shell.keep_saved(('declare -ir PPID="7"\n' + SAVED[0], *SAVED[1:]), 5, {})
    assert shell.state is first


def test_what_is_saved_is_read_anew_once_the_base_environment_is_another_one() -> None:
    shell = SessionShell()
    shell.keep_saved(SAVED, 1, {"COLOUR": "red"})
    assert shell.state is not None
    assert "COLOUR" not in shell.state.source
    shell.base_changes()
    shell.keep_saved(SAVED, 2, {"COLOUR": "blue"})
    assert "COLOUR" in shell.state.source


LINES = st.sampled_from(
    [
        'declare -x A="1"',
        "declare -x OLDPWD",
        'declare -a LIST=([0]="a b" [1]="(c)")',
        "declare -A EMPTY=()",
        "declare -- IFS=$' \\t\\n'",
        'declare -x TWO="a',
        'b"',
        r'declare -x Q="say \"hi\""',
        "declare -x C=$'a\\nb'",
        "f () ",
        "{ ",
        "    echo 1",
        "}",
        "declare -fx f",
        'declare -x B="a" "b"',
        'declare -a ODD=([0]="a" $x)',
        'declare -a OPEN=([0]="a"',
        "declare -x",
        "declare",
        "",
    ]
)


@given(st.lists(LINES, max_size=6), st.booleans())
def test_simple_lines_are_read_as_all_others_are(lines: list[str], ends: bool) -> None:
    source = "\n".join(lines) + ("\n" if ends else "")
    plain = _plain_lines(source)
    assert plain is None or plain == _matched_lines(source)


def test_what_a_fresh_shell_saves_is_read_without_regular_expressions() -> None:
    saved = subprocess.run(
        ["bash", "--norc", "-c", "declare -p; declare -f; declare -xF"],
        env={"PATH": "/usr/bin:/bin", "HOME": "/home/me"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert _plain_lines(saved) == _matched_lines(saved)
