"""As root: the sandbox is an unprivileged user's, and the workspace is his as long as it lasts."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import sandbox
from agentd.errors import SandboxUnavailableError
from agentd_executor_srt.accounts import write_accounts
from agentd_executor_srt.handover import UIDS, HandoverError, Tenancy
from agentd_executor_srt.namespace import closed_folder
from agentd_executor_srt.settings import Profile
from places import SUPPORT

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it is about what root's sandboxes do")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    made = tmp_path / "w"
    made.mkdir()
    return made


def test_code_runs_as_a_user_that_has_no_account_and_its_files_come_back_as_root_s(workspace: Path) -> None:
    (workspace / "old").write_text("old")
    (workspace / "old").chmod(0o640)
    with sandbox.make(workspace) as executor:
        uid = int(executor.execute_bash("id -u")[0])
        assert uid in UIDS
        assert executor.execute_bash(
            "cat old; echo new > old; mkdir -p a/b; ln -s /etc/passwd a/b/link; id -G"
        ) == (
            f"old{uid}\n",
            0,
        )
        assert {
            path.lstat().st_uid for path in (workspace, *workspace.rglob("*")) if path.name[0] != "."
        } == {uid}
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in (workspace, *workspace.rglob("*"))} == {(0, 0)}
    assert (workspace / "old").read_text() == "new\n"
    assert (workspace / "old").stat().st_mode & 0o777 == 0o640
    assert Path("/etc/passwd").stat().st_uid == 0


def test_two_sessions_have_two_users(tmp_path: Path) -> None:
    with sandbox.make(tmp_path / "a") as one, sandbox.make(tmp_path / "b") as two:
        assert one.execute_bash("id -u")[0] != two.execute_bash("id -u")[0]


def test_what_is_linked_from_outside_keeps_its_owner(workspace: Path) -> None:
    outside = workspace.parent / "outside"
    outside.touch()
    os.link(outside, workspace / "shared")
    (workspace / "one").touch()
    os.link(workspace / "one", workspace / "two")
    (workspace / "link").symlink_to(outside)
    held = Tenancy(str(workspace))
    try:
        assert outside.stat().st_uid == 0
        assert (workspace / "one").stat().st_uid == (workspace / "two").stat().st_uid == held.uid
        assert (workspace / "link").lstat().st_uid == held.uid
    finally:
        held.give_back()
    assert {path.lstat().st_uid for path in workspace.rglob("*")} == {0}


def test_files_of_a_third_user_stay_his_and_the_owner_gets_back_what_was_his(workspace: Path) -> None:
    os.chown(workspace, 12345, 12346)
    for name, owner in (("his", 12345), ("root", 0)):
        (workspace / name).touch()
        os.chown(workspace / name, owner, owner)
    held = Tenancy(str(workspace))
    assert (workspace / "his").stat().st_uid == workspace.stat().st_uid == held.uid
    assert (workspace / "root").stat().st_uid == 0
    (workspace / "new").touch()
    os.chown(workspace / "new", held.uid, held.uid)
    held.give_back()
    assert [(workspace / name).stat().st_uid for name in ("his", "root", "new")] == [12345, 0, 12345]
    assert (workspace / "new").stat().st_gid == 12346
    assert (workspace.stat().st_uid, workspace.stat().st_gid) == (12345, 12346)


def test_the_last_of_those_who_share_gives_back(workspace: Path) -> None:
    one, two = Tenancy(str(workspace)), Tenancy(str(workspace))
    assert one.uid == two.uid
    one.give_back()
    assert workspace.stat().st_uid == two.uid
    two.give_back()
    assert workspace.stat().st_uid == 0


def test_folders_in_each_other_all_come_back(workspace: Path) -> None:
    (workspace / "in").mkdir()
    outer, inner = Tenancy(str(workspace)), Tenancy(str(workspace / "in"))
    assert outer.uid == inner.uid
    outer.give_back()
    inner.give_back()
    assert {path.stat().st_uid for path in (workspace, workspace / "in")} == {0}


def test_other_folders_are_handed_over_unless_they_are_everybody_s(workspace: Path, tmp_path: Path) -> None:
    for name, mode in (("mine", 0o755), ("all", 0o777)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    held = Tenancy(str(workspace), [str(tmp_path / "mine"), str(tmp_path / "all"), "/etc"])
    owners = [(tmp_path / "mine").stat().st_uid, (tmp_path / "all").stat().st_uid, Path("/etc").stat().st_uid]
    held.give_back()
    held.give_back_more()
    assert owners == [held.uid, 0, 0]
    assert (tmp_path / "mine").stat().st_uid == 0


def many_files(folder: Path, number: int = 2000) -> Path:
    for at in range(number):
        (folder / f"{at % 20}").mkdir(parents=True, exist_ok=True)
        (folder / f"{at % 20}" / f"{at}").touch()
    return folder


def owners(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_other_folders_come_back_after_the_workspace_and_within_a_bound(
    workspace: Path, tmp_path: Path
) -> None:
    more = many_files(tmp_path / "more")
    held = Tenancy(str(workspace), [str(more)])
    assert held.give_back() == []
    assert workspace.stat().st_uid == 0
    assert owners(more) == {held.uid}
    (missed,) = held.give_back_more(giving_back_s=0)
    assert missed.startswith(f"{more}/what comes after ")
    assert held.uid in owners(more)
    Tenancy(str(workspace)).give_back()  # the next session does what was left
    assert owners(more) == {0}
    assert not os.path.exists(f"{held._folder}/{held.uid}")


def test_a_session_waits_for_a_folder_that_another_one_is_giving_back(
    workspace: Path, tmp_path: Path
) -> None:
    more = many_files(tmp_path / "more", 40)
    (tmp_path / "other").mkdir()
    held = Tenancy(str(workspace), [str(more)])
    held.give_back()
    Tenancy(str(workspace)).give_back()  # which is not held up where that folder is not wanted
    began: list[Tenancy] = []
    waiting = threading.Thread(target=lambda: began.append(Tenancy(str(tmp_path / "other"), [str(more)])))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    held.give_back_more()
    waiting.join(20)
    assert owners(more) == {began[0].uid}
    began[0].give_back()
    began[0].give_back_more()
    assert owners(more) == {0}


def test_the_end_of_a_session_does_not_wait_for_a_folder_with_very_many_files(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_executor_srt.process.MORE_S", 0)
    more = many_files(tmp_path / "more", 20_000)
    before = set(threading.enumerate())
    with sandbox.make(workspace, allow_write=[more]) as executor:
        assert executor.execute_bash(f"touch {more}/0/new new") == ("", 0)
        inside = workspace.stat().st_uid
    assert owners(workspace) == {0}
    endings = [thread for thread in threading.enumerate() if thread not in before and "ending" in thread.name]
    assert more.stat().st_uid == inside  # a folder comes back after what it holds
    assert len(endings) == 1
    endings[0].join(60)
    assert owners(more) == {0}
    assert (more / "0/new").exists()


def test_a_session_begins_before_a_folder_with_very_many_files_is_handed_over(
    workspace: Path, tmp_path: Path
) -> None:
    more = many_files(tmp_path / "more")
    many_files(workspace, 40)
    for folder in (more, workspace):
        os.link(folder / "0" / "0", folder / "second")
    held = Tenancy(str(workspace), [str(more)], giving_s=0)
    assert owners(workspace) == {held.uid}
    assert owners(more) == {held.uid, 0}
    steps = 0
    while held.hand_on(time.monotonic()):
        steps += 1
    assert steps > 2000
    still_root_s = {path for path in more.rglob("*") if path.lstat().st_uid != held.uid}
    assert still_root_s == {more / "0/0", more / "second"}
    held.give_back()
    held.give_back_more()
    assert owners(more) == owners(workspace) == {0}


def test_a_session_may_end_before_its_folders_are_handed_over(workspace: Path, tmp_path: Path) -> None:
    more = many_files(tmp_path / "more")
    for folder in more.iterdir():
        folder.chmod(0o000)
    held = Tenancy(str(workspace), [str(more)], giving_s=0)
    assert held.hand_on(time.monotonic())
    held.give_back()
    held.give_back_more()
    assert owners(more) == {0}
    assert {folder.stat().st_mode & 0o777 for folder in more.iterdir()} == {0}


def test_code_runs_while_a_folder_is_handed_over(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_executor_srt.executor.GIVING_S", 0)
    more = many_files(tmp_path / "more", 5000)
    everything = f'until [ -z "$(find {more} ! -user $(id -u))" ]; do :; done'
    with sandbox.make(workspace, allow_write=[more], timeout=60) as executor:
        assert executor.execute_bash(f"touch {more}/new && {everything} && echo x > {more}/3/3") == ("", 0)
    assert owners(more) == {0}
    assert (more / "3/3").read_text() == "x\n"


def test_a_file_with_a_name_outside_is_not_handed_over_where_code_runs_already(workspace: Path) -> None:
    first = Tenancy(str(workspace))
    outside = workspace.parent / "outside"
    outside.touch()
    for name in ("one", "two"):  # code could move one name to and fro, and have it seen as often as it likes
        os.link(outside, workspace / name)
    outside.unlink()
    second = Tenancy(str(workspace))
    assert (workspace / "one").stat().st_uid == 0
    second.give_back()
    first.give_back()
    assert owners(workspace) == {0}


def test_what_a_session_that_was_lost_had_is_given_back_by_the_next(workspace: Path, tmp_path: Path) -> None:
    lost = Tenancy(str(workspace))
    os.close(lost._lock)  # as if it had been killed
    (workspace / "file").touch()
    os.chown(workspace / "file", lost.uid, lost.uid)
    (tmp_path / "other").mkdir()
    Tenancy(str(tmp_path / "other")).give_back()  # in whatever workspace the next one is
    assert {path.stat().st_uid for path in (workspace, workspace / "file")} == {0}
    assert not os.path.exists(f"{lost._folder}/{lost.uid}")
    lost = Tenancy(str(workspace))
    os.close(lost._lock)
    os.unlink(f"{lost._folder}/{lost.uid}")  # and the machine started again
    Tenancy(str(workspace)).give_back()
    assert (workspace.stat().st_uid, workspace.stat().st_gid) == (0, 0)


def test_a_very_deep_folder_comes_back_as_well_with_few_descriptors(workspace: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = Tenancy(str(workspace))
    before = os.getcwd()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(workspace)
            os.setuid(held.uid)
            for _ in range(1500):
                os.mkdir("d")
                os.chdir("d")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 32, limits[1]))
    try:
        assert held.give_back() == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    depth = 0
    try:
        os.chdir(workspace)
        while os.path.isdir("d"):
            assert os.lstat("d").st_uid == 0
            os.chdir("d")
            depth += 1
    finally:
        os.chdir(before)
        subprocess.run(["rm", "-rf", workspace / "d"], check=True)
    assert depth == 1500


def test_a_workspace_that_a_link_has_been_put_on_the_way_to_is_not_given_away(
    workspace: Path, tmp_path: Path
) -> None:
    (workspace / "in").mkdir()
    (tmp_path / "link").symlink_to(workspace)
    with pytest.raises(HandoverError, match="leads to"):
        Tenancy(str(tmp_path / "link" / "in"))
    assert (workspace / "in").stat().st_uid == 0


def test_a_workspace_that_is_moved_meanwhile_is_given_back_where_it_is(
    workspace: Path, tmp_path: Path
) -> None:
    with sandbox.make(workspace) as executor:
        uid = int(executor.execute_bash("mkdir -p a/b; touch a/b/new; id -u")[0])
        workspace.rename(tmp_path / "moved")
        assert (tmp_path / "moved" / "a" / "b" / "new").stat().st_uid == uid
        workspace.mkdir()  # another one, which is nobody's business
        os.chown(workspace, 12345, 12345)
    moved = tmp_path / "moved"
    assert {path.lstat().st_uid for path in (moved, *moved.rglob("*"))} == {0}
    assert workspace.stat().st_uid == 12345


@pytest.mark.parametrize(
    "folder", ["/", "/etc", "/etc/ssl", "/usr", "/usr/share", "/tmp", str(Path.home()), "/home"]
)
def test_a_folder_of_the_system_is_not_given_away(folder: str) -> None:
    before = os.stat(folder).st_uid
    with pytest.raises(HandoverError, match="folder of its own"):
        Tenancy(folder)
    assert os.stat(folder).st_uid == before


def test_the_refusal_is_the_session_s_error() -> None:
    with (
        sandbox.make("/opt") as executor,
        pytest.raises(SandboxUnavailableError, match="give a folder of its own as the workspace"),
    ):
        executor.execute_bash("true")


def test_a_workspace_in_a_closed_folder_is_reached_and_its_neighbours_are_not(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (closed / "neighbour").write_text("s3cr3t")
    (closed / "neighbour").chmod(0o644)
    with sandbox.make(closed / "w") as executor:
        output, _ = executor.execute_bash(f"echo x > file && cat file; ls {closed}; cat {closed}/neighbour")
        assert output.startswith("x\nw\n")
        assert "s3cr3t" not in output
    assert closed_folder(str(closed / "w")) is not None
    assert closed.stat().st_mode & 0o777 == 0o700
    assert str(closed) not in Path("/proc/self/mountinfo").read_text()


def test_a_private_workspace_is_written_to_where_skills_are_guarded_in_it_too(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    with sandbox.make(private) as executor:
        executor.attach(tools=None, layout=None)
        output, _ = executor.execute_bash("echo x > file && cat file; echo y > skills/z")
    assert output.startswith("x\n")
    assert (private / "file").read_text() == "x\n"
    assert not (private / "skills" / "z").exists()


def test_without_the_right_to_a_private_view_the_reason_is_said(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        f"sys.path.append({str(SUPPORT)!r})\n"
        "import sandbox\n"
        f"executor = sandbox.make({str(tmp_path / 'w')!r})\n"
        "print(executor.verify())\n"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "closed to other users" in done.stdout
    assert "SYS_ADMIN" in done.stdout
    assert done.stdout.startswith("(False,")


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_the_user_of_the_code_has_a_name_and_a_home(workspace: Path, profile: Profile) -> None:
    with sandbox.make(workspace, profile=profile) as executor:
        home = f"{workspace}/.agentd/home"
        uid = executor.execute_bash("id -u")[0].strip()
        assert executor.execute_bash("whoami; id -gn; echo ~agentd; getent passwd 0 | cut -d: -f1") == (
            f"agentd\nagentd\n{home}\nroot\n",
            0,
        )
        code = "import getpass, os, pwd; print(getpass.getuser(), pwd.getpwuid(os.getuid()).pw_dir)"
        assert executor.execute_python(code) == (f"agentd {home}\n", 0)
        if shutil.which("node"):
            said, _ = executor.execute_bash("node -p 'os.userInfo().username'")
            assert said == "agentd\n"
        assert executor.execute_bash("(echo x >> /etc/passwd) 2>/dev/null || echo refused") == (
            "refused\n",
            0,
        )
    assert f":{uid}:" not in Path("/etc/passwd").read_text()


def test_a_denied_list_of_users_stays_denied(workspace: Path) -> None:
    with sandbox.make(workspace, deny_read=["/etc/passwd"]) as executor:
        assert executor.execute_bash("cat /etc/passwd")[0] in ("", "cat: /etc/passwd: Permission denied\n")


def test_an_entry_is_added_to_what_the_machine_has_under_a_name_that_is_free(tmp_path: Path) -> None:
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text("root:x:0:0::/root:/bin/sh\nagentd:x:1:1::/:/bin/sh")
    (etc / "group").write_text("root:x:0:\n")
    write_accounts(str(tmp_path / "made"), 58001, "/a:b", str(etc))
    added = "agentd58001:x:58001:58001:agentd:/:/bin/bash\n"
    assert (tmp_path / "made" / "passwd").read_text() == (etc / "passwd").read_text() + "\n" + added
    assert (tmp_path / "made" / "group").read_text() == "root:x:0:\nagentd58001:x:58001:\n"
    (etc / "group").unlink()
    (etc / "group").symlink_to("elsewhere")
    write_accounts(str(tmp_path / "none"), 58001, "/", str(etc))
    assert not (tmp_path / "none").exists()


def test_what_cannot_be_given_back_is_told_and_the_next_session_does_it(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if subprocess.run(["chattr", "+i", _touched(workspace.parent / "tried")], capture_output=True).returncode:
        pytest.skip("needs chattr of e2fsprogs, and a file system that knows immutable files")
    subprocess.run(["chattr", "-i", workspace.parent / "tried"], check=True)
    executor = sandbox.make(workspace)
    try:
        executor.execute_bash("touch fixed free")
        subprocess.run(["chattr", "+i", workspace / "fixed"], check=True)
        with caplog.at_level(logging.WARNING, "agentd.executor.srt"):
            executor.close()
        assert "fixed: its owner cannot be changed" in caplog.text
        assert (workspace / "free").stat().st_uid == 0
        assert (workspace / "fixed").stat().st_uid in UIDS
    finally:
        subprocess.run(["chattr", "-i", workspace / "fixed"], check=True)
    with sandbox.make(workspace) as executor:
        executor.execute_bash("true")
    assert (workspace / "fixed").stat().st_uid == 0


def _touched(path: Path) -> Path:
    path.touch()
    return path
