"""A copy of a workspace leads nowhere back into the first one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from agentd_snapshots import Snapshots
from snapshot_trees import write

GIT = shutil.which("git")
needs_git = pytest.mark.skipif(GIT is None, reason="needs git: install it")
IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "Ann"), ("EMAIL", "ann@example.com"))
}


def git(folder: Path, *words: str) -> str:
    assert GIT is not None
    env = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        [GIT, "-C", str(folder), "-c", "safe.directory=*", *words],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return folder


def copy(workspace: Path, base_dir: Path, folder: Path) -> Path:
    snapshots = Snapshots(workspace, base_dir)
    return snapshots.copy_to(snapshots.snapshot(), folder)


@needs_git
def test_a_commit_in_a_copied_worktree_lands_in_the_copy(
    workspace: Path, base_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = repository(workspace / "repo")
    git(repo, "worktree", "add", "-q", str(workspace / "tree"), "-b", "work")
    git(repo, "config", "core.hooksPath", str(workspace / "hooks"))
    fork = copy(workspace, base_dir, tmp_path / "fork")
    git(fork / "tree", "commit", "-q", "--allow-empty", "-m", "in the fork")
    assert git(fork / "repo", "log", "--format=%s", "work") == "in the fork\nfirst"
    assert git(repo, "log", "--format=%s", "work") == "first"
    assert str(workspace) not in git(fork / "repo", "worktree", "list", "--porcelain")
    assert git(fork / "repo", "config", "core.hooksPath") == str(fork / "hooks")
    assert git(workspace / "tree", "status", "--porcelain") == ""
    assert caplog.messages == []


@needs_git
def test_a_worktree_of_a_repository_outside_is_told(
    workspace: Path, base_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    repo = repository(tmp_path / "outside")
    git(repo, "worktree", "add", "-q", str(workspace / "tree"), "-b", "work")
    copy(workspace, base_dir, tmp_path / "fork")
    (told,) = caplog.messages
    assert "'tree/.git'" in told
    assert "outside of the copy" in told


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a/.git", "gitdir: {}/repo/.git/worktrees/a\n", "gitdir: {}/repo/.git/worktrees/a\n"),
        ("a/.git", "gitdir: {}\n", "gitdir: {}\n"),
        ("r/.git/worktrees/a/gitdir", "{}/a/.git\n", "{}/a/.git\n"),
        ("r/.git/objects/info/alternates", "{}/o\n{}/p\n", "{}/o\n{}/p\n"),
        ("r/.git/modules/m/config", '[core]\n\tworktree = "{}/m"\n', '[core]\n\tworktree = "{}/m"\n'),
        ("r/.git/config", "[remote]\n\turl = file://{}/bare\n", "[remote]\n\turl = file://{}/bare\n"),
    ],
)
def test_what_names_the_workspace_names_the_copy(
    workspace: Path, base_dir: Path, tmp_path: Path, path: str, text: str, expected: str
) -> None:
    write(workspace, {path: text.format(workspace, workspace)})
    (workspace / path).chmod(0o444)
    fork = copy(workspace, base_dir, tmp_path / "fork")
    assert (fork / path).read_text() == expected.format(fork, fork)
    for made in (fork / path, (fork / path).parent):
        now, before = made.stat(), (workspace / made.relative_to(fork)).stat()
        assert (now.st_mode, now.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert (workspace / path).read_text() == text.format(workspace, workspace)


@pytest.mark.parametrize(
    "text", ["gitdir: {}-other/.git\n", "gitdir: ../../x/.git\n", "gitdir: /elsewhere/.git\n"]
)
def test_what_leads_elsewhere_stays_and_is_told(
    workspace: Path, base_dir: Path, tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    write(workspace, {"a/.git": text.format(workspace)})
    fork = copy(workspace, base_dir, tmp_path / "fork")
    assert (fork / "a/.git").read_text() == text.format(workspace)
    assert "'a/.git'" in caplog.messages[0]


def test_a_file_that_is_no_part_of_git_is_not_touched(
    workspace: Path, base_dir: Path, tmp_path: Path
) -> None:
    texts = {"config": "= {}/x\n", "a/gitdir": "{}/x\n", "notes/alternates": "{}\n", "b/.git": "see {}\n"}
    write(workspace, {path: text.format(workspace) for path, text in texts.items()})
    fork = copy(workspace, base_dir, tmp_path / "fork")
    for path in texts:
        assert (fork / path).read_text() == (workspace / path).read_text()


def test_symbolic_links_lead_into_the_copy(workspace: Path, base_dir: Path, tmp_path: Path) -> None:
    write(workspace, {"data/file": "1"})
    links = {
        "in": f"{workspace}/data/file",
        "root": str(workspace),
        "near": f"{workspace}s/x",
        "sys": "/usr",
        "rel": "data",
    }
    for name, target in links.items():
        (workspace / name).symlink_to(target)
    fork = copy(workspace, base_dir, tmp_path / "fork")
    found = {name: os.readlink(fork / name) for name in links}
    assert found == {**links, "in": f"{fork}/data/file", "root": str(fork)}
    assert [path.name for path in fork.iterdir()].count(".agentd-restore-link") == 0


def test_a_link_in_the_place_of_a_git_folder_is_not_followed(
    workspace: Path, base_dir: Path, tmp_path: Path
) -> None:
    write(tmp_path, {"outside/worktrees/a/gitdir": f"{workspace}/a/.git\n"})
    (workspace / ".git").symlink_to(tmp_path / "outside")
    copy(workspace, base_dir, tmp_path / "fork")
    assert (tmp_path / "outside/worktrees/a/gitdir").read_text() == f"{workspace}/a/.git\n"
