"""Repositories that are in a workspace at the start: code works with git in them, and cannot lead git elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import sandbox
from agentd.types import BashAction
from agentd_runner.host.placeholders import COMMON_DIR
from agentd_runner.host.repositories import guard_repositories
from agentd_runner.stand_ins import FOLDER
from git_layouts import LAYOUTS, git, lay_out, with_submodule_and_worktree
from repository_rules import check_git_works_and_nothing_stays, check_links_are_kept_whole


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A repository with a submodule and a linked worktree, which is in the workspace, too."""
    return with_submodule_and_worktree(tmp_path)


def test_what_is_kept_of_repositories(workspace: Path) -> None:
    for skipped in ("node_modules", "site-packages"):
        (workspace / skipped / "x").mkdir(parents=True)
        git(workspace / skipped / "x", "init", "-q")
    guard = guard_repositories(workspace)
    linked = ".git/worktrees/linked"
    assert guard.wanted == {
        f"{folder}/{name}": absent
        for folder in (".git", ".git/modules/sub")
        for name, absent in (
            ("commondir", COMMON_DIR),
            ("config", ""),
            ("config.worktree", ""),
            ("hooks", FOLDER),
        )
    } | {f"{linked}/config.worktree": ""}
    assert sorted(guard.denied) == sorted(
        [*guard.wanted, "linked/.git", "sub/.git", f"{linked}/commondir", f"{linked}/gitdir"]
    )
    settings = {name for name in guard.wanted if "config" in name}
    allowing = guard_repositories(workspace, allow_config=True)
    assert set(allowing.wanted) == set(guard.wanted) - settings
    assert set(allowing.denied) == set(guard.denied) - settings


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


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hooks_and_settings_are_kept_wherever_a_repository_lies(tmp_path: Path, layout: str) -> None:
    workspace = tmp_path / "w"
    lay_out(workspace, layout)
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
    check_links_are_kept_whole(sandbox.make, workspace, name)


def test_git_works_inside_and_outside_meanwhile_and_nothing_stays_behind(workspace: Path) -> None:
    check_git_works_and_nothing_stays(sandbox.make, workspace, lambda executor: executor.risky_files())


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
