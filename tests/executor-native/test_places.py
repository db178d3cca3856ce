"""What code may read and write: in a real sandbox, and what the executor refuses before it starts one."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import native
import pytest
from agentd.errors import ConfigError
from agentd.protocols import Layout
from agentd.statedir import user_state_dir
from agentd_executor_native.executor import NativeExecutor, from_options
from agentd_executor_native.interpreter import needed_paths
from agentd_executor_native.view import View

SECRET = "s3cr3t"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the workspace with a file in it, open to everybody."""
    folder = tmp_path / "outside"
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "file").write_text(SECRET)
    (folder / "file").chmod(0o666)
    return folder


def test_nothing_of_the_host_is_there_but_the_workspace_and_the_system_s_programs(
    tmp_path: Path, outside: Path
) -> None:
    with native.make(tmp_path / "w") as executor:
        assert executor.execute_bash(f"cat {outside}/file; ls {outside}; echo x > {outside}/new")[1] != 0
        seen = executor.execute_bash("ls -A / /etc /var /home /opt /srv /run 2>/dev/null")[0].split()
        assert not {"shadow", "sudoers", "ssh", "hostname", "boot", "sys", "mnt", "media"} & set(seen)
        assert executor.execute_bash("echo made > file; cat file") == ("made\n", 0)
        assert executor.execute_bash("echo x > /tmp/own; cat /tmp/own") == ("x\n", 0)
    assert (tmp_path / "w/file").read_text() == "made\n"
    assert not Path("/tmp/own").exists()
    assert (outside / "file").read_text() == SECRET
    assert sorted(path.name for path in outside.iterdir()) == ["file"]


def test_the_system_cannot_be_written_to_even_as_root(shared: NativeExecutor) -> None:
    for path in ("/", "/usr", "/etc", "/dev", "/proc/sys", sys.prefix):
        assert shared.execute_bash(f"touch {path}/made")[1] != 0, path


def test_read_and_write_add_folders_and_the_inner_entry_counts(tmp_path: Path, outside: Path) -> None:
    (outside / "inner").mkdir()
    with native.make(tmp_path / "w", read=[outside], write=[outside / "inner"]) as executor:
        assert executor.execute_bash(f"cat {outside}/file") == (SECRET, 0)
        assert executor.execute_bash(f"echo x > {outside}/file")[1] != 0
        assert executor.execute_bash(f"echo x > {outside}/inner/new && echo done") == ("done\n", 0)
    assert (outside / "inner/new").read_text() == "x\n"
    assert (outside / "inner/new").stat().st_uid == os.geteuid()


def test_deny_beats_all_others_under_every_name(tmp_path: Path, outside: Path) -> None:
    workspace = tmp_path / "w"
    (workspace / "closed").mkdir(parents=True)
    (workspace / "closed/file").write_text(SECRET)
    (workspace / ".env").write_text(SECRET)
    (workspace / "link").symlink_to(outside / "file")
    denied = ["closed", ".env", outside / "file", workspace / "absent"]
    with native.make(workspace, read=[outside], write=[outside], deny=denied) as executor:
        for path in ("closed/file", ".env", "link", outside / "file", f"{workspace}/.env"):
            got = executor.execute_bash(f"cat {path}")
            assert got[1] != 0, path
            assert SECRET not in got[0], path
        assert executor.execute_bash("ls closed/* ; echo x > .env; rm -rf closed; mv .env .e")[1] != 0
    assert (workspace / "closed/file").read_text() == SECRET
    assert (workspace / ".env").read_text() == SECRET


def test_a_denied_link_denies_what_it_leads_to(tmp_path: Path, outside: Path) -> None:
    workspace = tmp_path / "w"
    (workspace / "real").mkdir(parents=True)
    (workspace / "real/file").write_text(SECRET)
    (tmp_path / "name").symlink_to(workspace / "real")
    with native.make(workspace, deny=[tmp_path / "name"]) as executor:
        assert SECRET not in executor.execute_bash("cat real/file")[0]


def test_links_out_of_the_workspace_lead_nowhere(shared: NativeExecutor, outside: Path) -> None:
    (shared.workspace_dir / "out").symlink_to(outside)
    assert shared.execute_bash("cat out/file; echo x > out/new")[1] != 0
    assert not (outside / "new").exists()


def test_agentd_s_own_folders_are_not_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outside: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(outside / "state"))
    tokens = user_state_dir() / "oauth"
    with native.make(tmp_path / "w", read=[outside]) as executor:
        executor.execute_bash("true")  # the folder is covered though it was not there before
        tokens.mkdir(parents=True, exist_ok=True)
        (tokens / "server.json").write_text(SECRET)
        assert executor.execute_bash(f"cat {tokens}/server.json")[1] != 0
        assert executor.execute_bash(f"cat {outside}/file") == (SECRET, 0)


def test_files_that_git_shells_and_editors_obey_cannot_be_changed(tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    (workspace / ".git/hooks").mkdir(parents=True)
    for name in (".git/config", ".bashrc", ".envrc", ".mcp.json"):
        (workspace / name).write_text("old\n")
    with native.make(workspace) as executor:
        for name in (".git/config", ".git/hooks/pre-commit", ".bashrc", ".envrc", ".mcp.json"):
            assert executor.execute_bash(f"echo new > {name}")[1] != 0, name
        assert executor.execute_bash("mv .git g; mv .git/hooks h; rm -rf .git")[1] != 0
        assert executor.execute_bash("echo ref > .git/HEAD") == ("", 0)
    assert (workspace / ".git/config").read_text() == "old\n"
    with native.make(workspace, allow_git_config=True) as executor:
        assert executor.execute_bash("echo new > .git/config") == ("", 0)
        assert executor.execute_bash("echo new > .git/hooks/pre-commit")[1] != 0


def test_skills_that_come_later_are_read_only_too(executor: NativeExecutor) -> None:
    assert executor.execute_bash("mkdir skills; echo a > skills/a; echo b > b")[1] == 0
    skills = executor.workspace_dir / "skills"
    executor.attach(tools=None, layout=Layout(read_only=(skills,)))
    assert executor.execute_bash("echo b > skills/a")[1] != 0
    assert executor.execute_bash("mv skills s")[1] != 0
    assert executor.execute_bash("cat skills/a b") == ("a\nb\n", 0)


def test_a_workspace_that_is_the_system_s_or_a_home_is_refused_in_one_sentence(tmp_path: Path) -> None:
    for folder in ("/", "/usr", "/etc/agentd", Path.home(), Path.home().parent):
        with pytest.raises(ConfigError, match=r"^workspace: ") as caught:
            NativeExecutor(folder)
        assert str(folder) in str(caught.value)
    (tmp_path / "link").symlink_to(Path.home())
    with pytest.raises(ConfigError, match="home"):
        NativeExecutor(tmp_path / "link")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"read": "/data"}, "read: must be a list of paths, got '/data'"),
        ({"write": [7]}, "write: must be a list of paths, got 7 in it"),
        ({"deny": ["a\0b"]}, "deny: must be a list of paths"),
        ({"read": ["/nowhere/at/all"]}, "read: /nowhere/at/all does not exist"),
        ({"read": ["/"]}, "read: / cannot be shown"),
        ({"read": ["/proc/self"]}, "read: /proc/self cannot be shown"),
        ({"write": ["/usr/local"]}, "write: /usr/local is the system's"),
        ({"write": ["~"]}, "home"),
        ({"deny": ["."]}, "which the sandbox needs"),
        ({"deny": [sys.prefix]}, "which the sandbox needs"),
        ({"backend": "docker"}, "backend: must be 'auto' or 'bubblewrap', got 'docker'"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: Mapping[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        NativeExecutor(tmp_path, **options)
    assert said in str(caught.value)


def test_an_unknown_option_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'write'"):
        from_options(tmp_path, {"wirte": []})
    made = from_options(tmp_path, {"read": ["."], "deny": [".env"], "limits": {"timeout_s": 3}})
    assert (made.read, made.deny) == ((tmp_path,), (tmp_path / ".env",))
    assert made.limits.timeout_s == 3


# --- what is mounted ----------------------------------------------------------------------------


def test_of_folders_in_each_other_the_outer_one_is_mounted_first_and_the_inner_one_counts(
    tmp_path: Path,
) -> None:
    top, inner, deep = tmp_path / "w", tmp_path / "w/a", tmp_path / "w/a/b"
    deep.mkdir(parents=True)
    view = View(write=(top,), read=(inner, deep), guarded=(), deny=(deep,))
    assert view.mounts == [(top, True), (inner, False)]
    assert view.covers == [deep]
    guarded = View(write=(top,), read=(), guarded=(deep, tmp_path / "w/absent"), deny=())
    # `a` is a mount of its own: what is a mount cannot be moved away with all that is in it
    assert guarded.mounts == [(top, True), (inner, True), (deep, False)]
    assert View(write=(top,), read=(Path("/usr/lib"),), guarded=(), deny=()).mounts == [(top, True)]


def test_an_interpreter_brings_its_own_folders_and_never_a_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    version = home / ".pyenv/versions/3.11.7"
    for folder in (version / "bin", home / ".local/bin", home / "project/.venv/bin"):
        folder.mkdir(parents=True)
    (version / "bin/python3.11").touch()
    (home / ".local/bin/python3").symlink_to(version / "bin/python3.11")
    (home / "project/.venv/bin/python").symlink_to(home / ".local/bin/python3")
    (home / "project/.venv/pyvenv.cfg").write_text(f"home = {home}/.local/bin\n")
    needed = needed_paths(str(home / "project/.venv/bin/python"))
    assert {home / "project/.venv", home / ".local/bin/python3", version} <= set(needed)
    assert not {home, home / "project", tmp_path} & set(needed)
    (home / "project/.venv/pyvenv.cfg").write_text("home = /opt/other/bin\n")  # it was made anew
    assert Path("/opt/other") in needed_paths(str(home / "project/.venv/bin/python"))
    (home / "bin").mkdir()
    (home / "bin/python").write_bytes(b"")
    assert needed_paths(str(home / "bin/python"))[:2] == (home / "bin/python", home / "bin")
