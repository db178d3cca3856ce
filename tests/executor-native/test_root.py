"""As root: code is an unprivileged user, and no file changes its owner."""

from __future__ import annotations

import os
from pathlib import Path

import native
import pytest
from agentd_executor_native.root_launcher import exchanged

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about what root's sandboxes do")


@ROOT_ONLY
def test_code_is_a_user_without_an_account_and_what_it_makes_is_the_owner_s(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    (workspace / "old").write_text("old")
    (workspace / "old").chmod(0o600)
    with native.make(workspace) as executor:
        uid = int(executor.execute_bash("id -u")[0])
        assert uid >= 1 << 30
        assert executor.execute_bash(
            "whoami; id -G; cat old; echo new > old; mkdir -p a/b; stat -c %u old"
        ) == (
            f"agentd\n{uid}\nold{uid}\n",
            0,
        )
        assert {path.lstat().st_uid for path in (workspace, workspace / "old", workspace / "a")} == {0}
        assert executor.execute_python("import getpass; print(getpass.getuser())") == ("agentd\n", 0)
    assert {path.lstat().st_uid for path in (workspace, *workspace.rglob("*"))} == {0}
    assert (workspace / "old").read_text() == "new\n"


@ROOT_ONLY
def test_a_workspace_of_another_user_stays_his_and_a_third_user_s_files_too(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    (workspace / "his").write_text("x")
    (workspace / "third").write_text("x")
    for path, owner in ((workspace, 12345), (workspace / "his", 12345), (workspace / "third", 777)):
        os.chown(path, owner, owner)
    with native.make(workspace) as executor:
        assert executor.execute_bash("echo y > his && echo z > new && echo done") == ("done\n", 0)
        assert executor.execute_bash("echo y > third")[1] != 0
        assert executor.execute_bash("rm -f third; echo done") == ("done\n", 0)  # the folder is his
    assert {path.name: path.stat().st_uid for path in workspace.iterdir()} == {"his": 12345, "new": 12345}


@ROOT_ONLY
def test_closed_folders_of_root_on_the_way_are_passed_through_and_not_laid_open(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "w").mkdir(parents=True)
    (closed / "secret").write_text("s3cr3t")
    closed.chmod(0o700)
    with native.make(closed / "w") as executor:
        assert executor.execute_bash("echo x > made && cat made") == ("x\n", 0)
        assert executor.execute_bash(f"cat {closed}/secret")[1] != 0
    assert (closed / "w/made").stat().st_uid == 0


@pytest.mark.parametrize(("owner", "uid"), [(0, 0), (0, 0x70000000), (1000, 0x70000001), (1000, 1001)])
def test_a_map_exchanges_two_ids_and_leaves_all_others(owner: int, uid: int) -> None:
    lines = [tuple(map(int, line.split())) for line in exchanged(owner, uid).splitlines()]
    assert sum(count for _, _, count in lines) == (1 << 32) - 1

    def through(number: int) -> int:
        return next(out + number - into for into, out, count in lines if into <= number < into + count)

    assert (through(owner), through(uid)) == (uid, owner)
    others = {0, 1, 999, 1000, 1001, 1002, 65534, 0x6FFFFFFF, 0x70000002, (1 << 32) - 2} - {owner, uid}
    assert all(through(number) == number for number in others)
