"""What bash has saved, as the next block's shell starts from it."""

from __future__ import annotations

from agentd_runner.inside.shell_state import SessionShell

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
