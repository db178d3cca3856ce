"""What code leaves for other programs is found, however it is laid; and looking for it cannot be made to fail."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from agentd_executor_srt import risks
from agentd_executor_srt.risks import find_risky_files


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A folder whose owner may look into it, whoever that is."""
    with tempfile.TemporaryDirectory(prefix="agentd-risks-") as folder:
        yield Path(folder)


def repository(folder: Path, config: str = "") -> Path:
    for name in ("hooks", "objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text("ref: refs/heads/main\n")
    (folder / "config").write_text(config)
    return folder


@pytest.mark.parametrize(
    "config",
    [
        "[core]\n\tfsmonitor = ./x\n",
        "[core] fsmonitor = ./x\n",
        '[core]fsmonitor=./x\n[remote "a"]\n',
        "[core]\n\tHooksPath = /x\n",
        "[core]\n\talternateRefsCommand = ./x\n",
        '[submodule "a"]\n\tupdate = !./x\n',
        "[pager]\n\tlog = ./x\n",
        "[a] b = c\n[ alias ]\n\tx = !y\n",
        "[a][include]\n\tpath = x\n",
        "[init]\n\ttemplateDir = x\n",
        "[interactive]\n\tdiffFilter = x\n",
        "[sendemail]\n\tsmtpServer = ./x\n",
        '[gpg "ssh"]\n\tdefaultKeyCommand = x\n',
    ],
)
def test_settings_of_git_that_name_commands_are_told(workspace: Path, config: str) -> None:
    repository(workspace / "new" / ".git", config)
    assert set(find_risky_files(workspace)) == {"new/.git/config"}


def test_ordinary_settings_of_git_are_not_told(workspace: Path) -> None:
    remote = '[remote "origin"]\n\turl = x\n\tfetch = +refs/*\n\tpartialclonefilter = blob:none\n'
    repository(workspace / ".git", f"[core]\n\tbare = false\n{remote}[user]\n\tname = x\n")
    assert find_risky_files(workspace) == {}


def test_links_in_a_repository_are_told(workspace: Path) -> None:
    git = repository(workspace / ".git")
    (git / "config").unlink()
    (git / "config").symlink_to("../elsewhere")
    (git / "modules").symlink_to("../modules")
    assert set(find_risky_files(workspace)) == {".git/config", ".git/modules"}


def test_the_workspace_itself_may_have_the_shape_of_a_repository(workspace: Path) -> None:
    repository(workspace, "[core]\n\tfsmonitor = ./x\n")
    assert set(find_risky_files(workspace)) == {"config"}


def test_a_folder_of_the_shape_of_a_repository_hides_nothing(workspace: Path) -> None:
    repository(workspace / "source")
    (workspace / "source" / "conftest.py").write_text("x")
    repository(workspace / "source" / "sub" / ".git", "[alias]\n")
    assert set(find_risky_files(workspace)) == {"source/conftest.py", "source/sub/.git/config"}


def test_repositories_of_submodules_are_looked_at_however_deep(workspace: Path) -> None:
    git = repository(workspace / ".git")
    deep = git
    for _ in range(200):
        deep = deep / "modules" / "m"
    repository(deep, "[alias]\n")
    assert [path.endswith("m/config") for path in find_risky_files(workspace)] == [True]


def test_what_is_closed_to_us_is_passed_over(workspace: Path) -> None:
    git = repository(workspace / ".git", "[alias]\n")
    (git / "modules").mkdir()
    (workspace / "closed").mkdir()
    (workspace / "conftest.py").write_text("x")
    for folder in (workspace / "closed", git / "modules", git):
        folder.chmod(0)
    before = os.geteuid()
    os.chmod(workspace, 0o755)
    if before == 0:
        os.seteuid(65534)
    try:
        found = set(find_risky_files(workspace))
    finally:
        os.seteuid(before)
        for folder in (git, git / "modules", workspace / "closed"):
            folder.chmod(0o700)
    assert found == {"conftest.py"}


def test_more_files_than_are_looked_at_are_told(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(risks, "MAX_ENTRIES", 3)
    for number in range(5):
        (workspace / str(number)).touch()
    assert "not all were looked at" in find_risky_files(workspace)["."].reason
