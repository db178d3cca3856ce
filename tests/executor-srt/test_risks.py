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


@pytest.mark.parametrize(
    "config",
    [
        "[core]\r\tfsmonitor = ./x\r\n",
        "[core]\f\vfsmonitor=./x\n",
        "\ufeff[include]\n\tpath = x\n",
        '[remote "a"]\n\turl = ext::x\n',
        '[remote "a"]\n\tpushUrl="ext"::x\n',
        "# \n" * 400_000 + "[core]\n\tfsmonitor = ./x\n",
    ],
)
def test_settings_that_are_written_oddly_or_at_length_are_told_as_well(workspace: Path, config: str) -> None:
    git = repository(workspace / ".git")
    (git / "config").write_bytes(config.encode())
    assert set(find_risky_files(workspace)) == {".git/config"}


def test_addresses_of_the_new_internet_protocol_are_ordinary(workspace: Path) -> None:
    repository(workspace / ".git", '[remote "a"]\n\turl = ssh://git@[2001:db8::1]/x\n')
    assert find_risky_files(workspace) == {}


def test_what_leads_git_to_another_folder_is_told(workspace: Path) -> None:
    git = repository(workspace / ".git")
    for folder in ("ordinary", "led"):
        (git / "worktrees" / folder).mkdir(parents=True)
    (git / "commondir").write_text("../elsewhere\n")
    (git / "worktrees" / "ordinary" / "commondir").write_text("../..\n")
    (git / "worktrees" / "led" / "commondir").write_text("/elsewhere\n")
    (git / "worktrees" / "led" / "config.worktree").write_text("[alias]\n")
    (workspace / "bare").mkdir()
    for name in ("HEAD", "commondir"):
        (workspace / "bare" / name).write_text("../elsewhere\n")
    led = ".git/worktrees/led"
    expected = {".git/commondir", f"{led}/commondir", f"{led}/config.worktree", "bare/commondir"}
    assert set(find_risky_files(workspace)) == expected
    (git / "commondir").write_text(".\n")
    assert set(find_risky_files(workspace)) == expected - {".git/commondir"}


@pytest.mark.parametrize(
    "folder", ["skills/a", "node_modules/b", "__pycache__", ".agentd/home", "a/node_modules/b/c"]
)
def test_of_installed_packages_and_skills_repositories_alone_are_told(workspace: Path, folder: str) -> None:
    repository(workspace / folder / "r" / ".git", "[alias]\n")
    for name in ("conftest.py", ".npmrc"):
        (workspace / folder / name).write_text("x")
    assert set(find_risky_files(workspace)) == {f"{folder}/r/.git/config"}


@pytest.mark.parametrize(
    "path",
    [
        *(
            ".cargo/config.toml",
            ".devcontainer/devcontainer.json",
            ".devcontainer.json",
            ".github/copilot-instructions.md",
        ),
        *(
            ".github/workflows/x.yml",
            ".bazelrc",
            "tools/bazel",
            ".zshenv",
            ".bash_login",
            ".windsurfrules",
            "CLAUDE.local.md",
        ),
        *(
            ".mvn/extensions.xml",
            ".bundle/config",
            ".yarn/plugins/x.cjs",
            ".pylintrc",
            ".flake8",
            ".irbrc",
            ".Rprofile",
        ),
        *(
            ".env.local",
            "x.code-workspace",
            "jupyter_server_config.py",
            "compose.override.yml",
            "ansible.cfg",
            "bunfig.toml",
        ),
        *(
            ".helix/languages.toml",
            ".ycm_extra_conf.py",
            "lefthook.yaml",
            "mise.local.toml",
            ".terraform/x",
            "go.work",
        ),
    ],
)
def test_files_that_other_programs_act_on_are_told_wherever_they_lie(workspace: Path, path: str) -> None:
    for place in (workspace / path, workspace / "deep" / "er" / path):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("x")
    assert set(find_risky_files(workspace)) == {path, f"deep/er/{path}"}


def test_a_change_far_behind_the_beginning_is_a_change(workspace: Path) -> None:
    (workspace / "conftest.py").write_bytes(bytes(5 << 20) + b"a")
    before = find_risky_files(workspace)
    (workspace / "conftest.py").write_bytes(bytes(5 << 20) + b"b")
    assert find_risky_files(workspace) != before


def test_ordinary_files_are_not_told(workspace: Path) -> None:
    for name in (
        "bazel",
        "main.py",
        "README.md",
        "package.json",
        "config.toml",
        "env.local",
        "compose.yml",
        ".gitignore",
    ):
        (workspace / name).write_text("x")
    assert find_risky_files(workspace) == {}
