"""Repositories of git in all the places where one may lie, for the tests of sandboxes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["IDENTITY", "LAYOUTS", "commit", "git", "lay_out", "with_submodule_and_worktree"]

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


def with_submodule_and_worktree(folder: Path) -> Path:
    """Return a new repository with a submodule and a linked worktree, which is in its working tree."""
    for name in ("sub", "w"):
        (folder / name).mkdir()
        git(folder / name, "init", "-q")
        commit(folder / name, "file")
    git(folder / "w", "submodule", "--quiet", "add", str(folder / "sub"), "sub")
    git(folder / "w", "commit", "-qm", "with a submodule")
    git(folder / "w", "worktree", "add", "-q", "linked")
    return folder / "w"


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
"""How a repository comes to lie in `store`, in a workspace that is one."""


def lay_out(workspace: Path, layout: str) -> None:
    """Make a repository in the way that one of `LAYOUTS` says."""
    workspace.mkdir()
    git(workspace, "init", "-q")
    commit(workspace, "file")
    env = {**os.environ, **IDENTITY, "GIT_CONFIG_GLOBAL": os.devnull}
    subprocess.run(["bash", "-ec", LAYOUTS[layout]], cwd=workspace, check=True, env=env)
