"""Repositories that are in a workspace at the start: code works with git in them, and cannot lead git elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import sandbox
from agentd.types import BashAction
from agentd_executor_srt.repositories import guard_repositories
from agentd_runner.host.placeholders import COMMON_DIR
from agentd_runner.stand_ins import FOLDER

IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}


def git(folder: Path, *arguments: str) -> str:
    command = [
        "git",
        "-c",
        "protocol.file.allow=always",
        "-c",
        "safe.directory=*",
        "-C",
        str(folder),
        *arguments,
    ]
    env = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout


def commit(folder: Path, name: str) -> None:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "-qm", name)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with a submodule and a linked worktree, which is in the workspace, too."""
    for name in ("sub", "w"):
        (tmp_path / name).mkdir()
        git(tmp_path / name, "init", "-q")
        commit(tmp_path / name, "file")
    git(tmp_path / "w", "submodule", "--quiet", "add", str(tmp_path / "sub"), "sub")
    git(tmp_path / "w", "commit", "-qm", "with a submodule")
    git(tmp_path / "w", "worktree", "add", "-q", "linked")
    return tmp_path / "w"


def test_what_is_kept_of_repositories(workspace: Path) -> None:
    (workspace / "node_modules" / "x").mkdir(parents=True)
    git(workspace / "node_modules" / "x", "init", "-q")
    guard = guard_repositories(workspace)
    assert guard.wanted == {
        f"{folder}/{name}": absent
        for folder in (".git", ".git/modules/sub")
        for name, absent in (("commondir", COMMON_DIR), ("config", ""), ("hooks", FOLDER))
    }
    linked = ".git/worktrees/linked"
    assert sorted(guard.denied) == sorted(
        [*guard.wanted, "linked/.git", "sub/.git", f"{linked}/commondir", f"{linked}/gitdir"]
    )
    git(workspace, "config", "extensions.worktreeConfig", "true")
    more = {".git/config.worktree": "", f"{linked}/config.worktree": ""}
    assert guard_repositories(workspace).wanted == {**guard.wanted, **more}


@pytest.mark.parametrize(
    "path",
    [
        ".git/commondir",
        "sub/.git",
        "linked/.git",
        ".git/worktrees/linked/commondir",
        ".git/worktrees/linked/gitdir",
        ".git/modules/sub/config",
        ".git/modules/sub/commondir",
        ".git/modules/sub/hooks/post-checkout",
    ],
)
def test_no_file_that_leads_git_elsewhere_can_be_made_changed_or_moved(workspace: Path, path: str) -> None:
    before = (workspace / path).read_bytes() if (workspace / path).exists() else None
    with sandbox.make(workspace, timeout=30) as executor:
        folder = os.path.dirname(path) or "."
        assert executor.execute_bash(f"(echo x > {path}) 2>/dev/null && echo written")[0] == ""
        assert (
            executor.execute_bash(f"rm -f {path} 2>/dev/null; (echo x > {path}) 2>/dev/null && echo written")[
                0
            ]
            == ""
        )
        if folder != ".":
            again = f"mv {folder} moved 2>/dev/null && mkdir -p {folder} && echo moved"
            assert executor.execute_bash(again)[0] == ""
    after = (workspace / path).read_bytes() if (workspace / path).exists() else None
    assert after == before


def test_what_a_repositorys_settings_name_in_the_workspace_is_kept(workspace: Path) -> None:
    git(workspace, "config", "include.path", "../shared/git.config")
    git(workspace, "config", "includeIf.onbranch:main.path", "/elsewhere/git.config")
    git(workspace, "config", "core.hooksPath", "tools/hooks")
    wanted = guard_repositories(workspace).wanted
    named = {"tools": FOLDER, "tools/hooks": FOLDER, "shared": FOLDER, "shared/git.config": ""}
    assert {name: wanted.get(name) for name in named} == named
    assert not any("elsewhere" in name for name in wanted)
    with sandbox.make(workspace, timeout=30) as executor:
        for path in ("tools/hooks/pre-commit", "shared/git.config"):
            output, code = executor.execute_bash(f"mkdir -p $(dirname {path}) && echo x > {path}")
            assert code != 0, output
    assert not (workspace / "tools").exists()
    assert not (workspace / "shared").exists()


def test_what_included_settings_and_those_of_a_repository_above_name_is_kept(tmp_path: Path) -> None:
    workspace = tmp_path / "above" / "w"
    workspace.mkdir(parents=True)
    git(workspace.parent, "init", "-q")
    git(workspace.parent, "config", "core.hooksPath", "w/hooks")
    git(workspace.parent, "config", "include.path", "../w/one")
    (workspace / "one").write_text("[include]\n\tpath = two\n")
    (workspace / "two").write_text("[core]\n\thooksPath = w/others\n[include]\n\tpath = one\n")
    wanted = {"hooks": FOLDER, "one": "", "two": "", "others": FOLDER}
    assert guard_repositories(workspace).wanted == wanted


LAYOUTS = {
    "a link": "mv .git store && ln -s store .git",
    "a link below": "git init -q below && mv below/.git store && ln -s ../store below/.git",
    "a file": "rm -rf .git && git init -q --separate-git-dir store .",
    "a bare one with worktrees": (
        "git clone -q --bare . /tmp/x.$$ && rm -rf .git linked && mv /tmp/x.$$ store && "
        "git -C store worktree add -q ../linked && echo 'gitdir: ./store' > .git"
    ),
    "no settings and no hooks": "rm -r .git/config .git/hooks && ln -s .git store",
    "a bare one": "git clone -q --bare . store",
    "deep": "mkdir -p a/b/c/d && git init -q a/b/c/d/e && ln -s a/b/c/d/e/.git store",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hooks_and_settings_are_kept_wherever_a_repository_lies(tmp_path: Path, layout: str) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    git(workspace, "init", "-q")
    commit(workspace, "file")
    env = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["bash", "-ec", LAYOUTS[layout]], cwd=workspace, check=True, env=env)
    with sandbox.make(workspace, timeout=30) as executor:
        for path in ("hooks/post-checkout", "config", "commondir", "worktrees/linked/commondir"):
            made = f"[ -e store/{path} ] && chmod u+w store/{path} || : 3>>store/{path}"  # nothing is written
            if path.startswith("worktrees") and not (workspace / "store" / path).exists():
                continue
            output, code = executor.execute_bash(made)
            assert code != 0, path
            assert "Read-only" in output, path
        output, code = executor.execute_bash("mv store/hooks store/aside || mv store/config store/aside")
        assert code != 0
        assert "busy" in output


def test_a_workspace_may_have_many_repositories(tmp_path: Path) -> None:
    for number in range(200):
        for name in ("HEAD", "objects", "refs"):
            (tmp_path / "w" / f"{number:0>230}" / ".git" / name).mkdir(parents=True)
    with sandbox.make(tmp_path / "w", timeout=30) as executor:  # its names are too long for one argument
        made = ": 3>>$(ls | tail -n 1)/.git/hooks/post-checkout"
        assert "Read-only" in executor.execute_bash(made)[0]


@pytest.mark.parametrize("name", ["hooks", "config"])
def test_a_repository_whose_hooks_or_settings_are_links_is_kept_as_a_whole(
    workspace: Path, name: str
) -> None:
    (workspace / ".git" / name).rename(workspace / "shared")
    (workspace / ".git" / name).symlink_to("../shared")
    with sandbox.make(workspace, timeout=30, env=IDENTITY) as executor:
        for command in (f"rm .git/{name}", "touch .git/new", "touch shared/new || : 3>>shared"):
            output, code = executor.execute_bash(command)
            assert code != 0
            assert "Read-only" in output
        assert executor.execute_bash("git log --format=%s -1") == ("with a submodule\n", 0)
        assert "symbolic links" in executor.run_sync(BashAction(command="git commit -qam x")).message
    assert (workspace / ".git" / name).is_symlink()


def test_git_works_inside_and_outside_meanwhile_and_nothing_stays_behind(workspace: Path) -> None:
    def files() -> set[str]:
        return {
            str(path.relative_to(workspace)) for path in workspace.rglob("*") if "objects" not in path.parts
        }

    before = files()
    with sandbox.make(workspace, timeout=60, env=IDENTITY) as executor:
        for command in (
            "git status --porcelain",
            "git checkout -q -b topic && echo a > a && git add -A && git commit -qm a && git gc -q",
            "cd sub && echo b >> file && git commit -qam b",
            "cd ../linked && git status --porcelain && echo c > c && git add c && git commit -qm c",
            "cd .. && git stash list && git log --oneline | wc -l",
        ):
            output, code = executor.execute_bash(command)
            assert code == 0, output
        assert output.strip() == "3"
        assert (workspace / ".git" / "commondir").read_text() == COMMON_DIR
        assert git(workspace, "rev-parse", "--abbrev-ref", "HEAD").strip() == "topic"
        assert git(workspace, "rev-parse", "--git-common-dir").strip() in (".git", str(workspace / ".git"))
        assert git(workspace / "sub", "log", "--format=%s", "-1").strip() == "b"
        assert git(workspace / "linked", "log", "--format=%s", "-1").strip() == "c"
        assert not [file.path for file in executor.risky_files()]
    assert not {path for path in files() - before if path.endswith(("commondir", ".envrc", ".claude"))}
    assert git(workspace, "status", "--porcelain") == " M linked\n M sub\n"


@pytest.mark.parametrize("allow", [False, True])
def test_settings_that_git_could_not_change_are_told_in_the_result(workspace: Path, allow: bool) -> None:
    git(workspace, "init", "-q", "--bare", "origin.git")
    git(workspace, "remote", "add", "origin", str(workspace / "origin.git"))
    with sandbox.make(workspace, timeout=30, allow_git_config=allow) as executor:
        result = executor.run_sync(
            BashAction(command="git push -q -u origin HEAD:main && git -C sub config a.b c; true")
        )
        assert result.exit_code == 0
        assert ("allow_git_config" in result.message) is not allow
        assert executor.run_sync(BashAction(command="git config user.name x")).exit_code == (
            0 if allow else 4
        )
        assert executor.run_sync(BashAction(command="echo .git/config; echo config file >&2")).message == ""
    assert ("\nbranch." in git(workspace, "config", "--list")) is allow
