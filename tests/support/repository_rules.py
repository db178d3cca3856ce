"""What holds of a repository in the workspace of every sandbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentd.types import BashAction
from agentd_runner.host.placeholders import COMMON_DIR
from git_layouts import IDENTITY, git

__all__ = ["check_git_works_and_nothing_stays", "check_links_are_kept_whole"]

STAYS = ("commondir", "config.worktree", ".envrc", ".claude")


def check_links_are_kept_whole(make: Callable[..., Any], workspace: Path, name: str) -> None:
    """Hooks or settings that are a link into the workspace: nothing of the repository can be written, all be read."""
    (workspace / ".git" / name).rename(workspace / "shared")
    (workspace / ".git" / name).symlink_to("../shared")
    with make(workspace, timeout=30, env=IDENTITY) as executor:
        for command in (f"rm .git/{name}", "touch .git/new", "touch shared/new || : 3>>shared"):
            output, code = executor.execute_bash(command)
            assert code != 0
            assert "Read-only" in output
        assert executor.execute_bash("git log --format=%s -1") == ("with a submodule\n", 0)
        assert "symbolic links" in executor.run_sync(BashAction(command="git commit -qam x")).message
    assert (workspace / ".git" / name).is_symlink()


def check_git_works_and_nothing_stays(
    make: Callable[..., Any], workspace: Path, risky_files: Callable[[Any], list[Any]] = lambda _: []
) -> None:
    """In the repository, its submodule and its linked worktree, inside and, while the sandbox stands, outside.

    :param risky_files: what the executor has to say of files that could lead a program of the host elsewhere.
    """

    def files() -> set[str]:
        return {
            str(path.relative_to(workspace)) for path in workspace.rglob("*") if "objects" not in path.parts
        }

    before = files()
    with make(workspace, timeout=60, env=IDENTITY) as executor:
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
        assert [file.path for file in risky_files(executor)] == []
    assert not {path for path in files() - before if path.endswith(STAYS)}
    assert git(workspace, "status", "--porcelain") == " M linked\n M sub\n"
