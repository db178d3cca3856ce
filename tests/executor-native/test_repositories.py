"""Repositories that are in a workspace at the start: code works with git in them, and cannot lead git elsewhere."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import native
import pytest
from agentd.errors import SandboxUnavailableError
from agentd.types import BashAction
from agentd_executor_native import sources
from git_layouts import LAYOUTS, git, lay_out, with_submodule_and_worktree
from repository_rules import check_git_works_and_nothing_stays, check_links_are_kept_whole

KEPT = (
    *(".git/config", ".git/config.worktree", ".git/commondir", ".git/hooks/post-checkout"),
    *("sub/.git", "linked/.git"),
    *(f".git/worktrees/linked/{name}" for name in ("commondir", "gitdir", "config.worktree")),
    *(f".git/modules/sub/{name}" for name in ("config", "commondir", "hooks/post-checkout")),
)


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return with_submodule_and_worktree(tmp_path)


def test_no_file_that_leads_git_elsewhere_can_be_made_changed_or_moved(workspace: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {path: (workspace / path).read_bytes() for path in KEPT if (workspace / path).exists()}

    before = contents()
    with native.make(workspace, timeout=30) as executor:
        for path in KEPT:
            written = f"(echo x > {path}) 2>/dev/null || (rm -rf {path}; echo x > {path}) 2>/dev/null"
            assert executor.execute_bash(f"{written} && echo written")[0] == "", path
            folder = os.path.dirname(path)
            moved = f"mv {folder} moved 2>/dev/null && mkdir -p {folder} && echo moved"
            assert executor.execute_bash(moved)[0] == "", folder
    assert contents() == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_hooks_and_settings_are_kept_wherever_a_repository_lies(tmp_path: Path, layout: str) -> None:
    workspace = tmp_path / "w"
    lay_out(workspace, layout)
    with native.make(workspace, timeout=30) as executor:
        for path in ("hooks/post-checkout", "config", "commondir", "worktrees/linked/commondir"):
            if path.startswith("worktrees") and not (workspace / "store" / path).exists():
                continue
            made = f"[ -e store/{path} ] && chmod u+w store/{path} || : 3>>store/{path}"  # nothing is written
            output, code = executor.execute_bash(made)
            assert code != 0, path
            assert "Read-only" in output, path
        output, code = executor.execute_bash("mv store/hooks store/aside || mv store/config store/aside")
        assert code != 0
        assert "busy" in output


def test_what_a_repository_s_settings_name_in_the_workspace_is_kept(workspace: Path) -> None:
    git(workspace, "config", "include.path", "../shared/git.config")
    git(workspace, "config", "core.hooksPath", "tools/hooks")
    with native.make(workspace, timeout=30) as executor:
        for path in ("tools/hooks/pre-commit", "shared/git.config"):
            output, code = executor.execute_bash(f"mkdir -p $(dirname {path}) && echo x > {path}")
            assert code != 0, output
    assert not (workspace / "tools").exists()
    assert not (workspace / "shared").exists()


@pytest.mark.parametrize("name", ["hooks", "config"])
def test_a_repository_whose_hooks_or_settings_are_links_is_kept_as_a_whole(
    workspace: Path, name: str
) -> None:
    check_links_are_kept_whole(native.make, workspace, name)


def test_git_works_inside_and_outside_meanwhile_and_nothing_stays_behind(workspace: Path) -> None:
    check_git_works_and_nothing_stays(native.make, workspace)


def test_settings_that_git_could_not_change_are_told_in_the_result(workspace: Path) -> None:
    with native.make(workspace, timeout=30) as executor:
        result = executor.run_sync(BashAction(command="git config user.name x; true"))
        assert (result.exit_code, "allow_git_config" in result.message) == (0, True)
    with native.make(workspace, timeout=30, allow_git_config=True) as executor:
        result = executor.run_sync(BashAction(command="git -C sub config user.name x; true"))
        assert (result.exit_code, result.message) == (0, "")


def many(folder: Path, count: int) -> Path:
    for number in range(count):
        for name in ("HEAD", "objects", "refs"):
            (folder / str(number) / ".git" / name).mkdir(parents=True)
    return folder


def test_a_workspace_may_have_many_repositories(tmp_path: Path) -> None:
    with native.make(many(tmp_path / "w", 100), timeout=30) as executor:
        for number in (0, 99):
            assert "Read-only" in executor.execute_bash(f": 3>>{number}/.git/hooks/post-checkout")[0]


def test_more_repositories_than_files_may_be_open_are_refused_with_the_remedy(tmp_path: Path) -> None:
    native.need_native()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        with (
            native.make(many(tmp_path / "w", 200)) as executor,
            pytest.raises(SandboxUnavailableError, match=r"more than .* ulimit -n"),
        ):
            executor.execute_bash("true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not list((tmp_path / "w").rglob("commondir"))


def test_more_than_bubblewrap_can_show_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST", 100)
    with (
        native.make(many(tmp_path / "w", 20)) as executor,
        pytest.raises(
            SandboxUnavailableError, match=r"more than bubblewrap can show: take a folder with fewer"
        ),
    ):
        executor.execute_bash("true")
