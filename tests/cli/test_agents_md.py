"""AGENTS.md: what a project tells agents is told to the model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from agentd_cli.agents_md import MAX_BYTES, agents_instructions

Agentd = Any  # the fixture's class


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository."""
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "deep" / "er").mkdir(parents=True)
    return project


def test_files_from_the_repositorys_root_down_are_told_the_nearest_last(project: Path) -> None:
    (project.parent / "AGENTS.md").write_text("outside")
    (project / "AGENTS.md").write_text("Use tabs.")
    (project / "deep" / "er" / "AGENTS.md").write_text("Use blanks.")
    told, notes = agents_instructions(project / "deep" / "er")
    assert notes == []
    assert "outside" not in told
    assert told.index("Use tabs.") < told.index("Use blanks.")
    assert agents_instructions(project / "deep")[0].endswith("Use tabs.")


def test_outside_of_a_repository_only_the_folders_own_counts(tmp_path: Path) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "AGENTS.md").write_text("above")
    assert agents_instructions(below) == ("", [])
    (below / "AGENTS.md").write_text("here")
    assert agents_instructions(below)[0].endswith("here")


def test_what_is_too_long_is_cut_the_farthest_first_and_said(project: Path) -> None:
    (project / "AGENTS.md").write_text("far " * 10_000)
    (project / "deep" / "AGENTS.md").write_text("near " * 4_000)
    told, notes = agents_instructions(project / "deep")
    assert told.count("near ") >= 3_999
    assert len(told) < MAX_BYTES + 1_000
    assert notes == [
        f"{project / 'AGENTS.md'}: only {MAX_BYTES - 20_000:,} of its bytes are told to the model"
    ]
    assert "the rest of this file was left out" in told


def test_a_link_within_the_project_is_followed_and_one_that_leads_out_is_not(project: Path) -> None:
    (project / "CLAUDE.md").write_text("In here.")
    os.symlink("CLAUDE.md", project / "AGENTS.md")
    assert agents_instructions(project)[0].endswith("In here.")
    secret = project.parent / "secret"
    secret.write_text("a key")
    os.symlink(secret, project / "deep" / "AGENTS.md")
    told, notes = agents_instructions(project / "deep")
    assert "a key" not in told
    assert notes == [f"{project / 'deep' / 'AGENTS.md'}: leads out of the project, so it is not read"]


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink(path, path)])
def test_what_is_no_file_is_passed_over(project: Path, make: Any) -> None:
    make(project / "AGENTS.md")
    assert agents_instructions(project)[0] == ""


def test_a_run_tells_it_unless_it_is_told_not_to(agentd: Agentd) -> None:
    server = agentd.replay("done", "done")
    (agentd.cwd / "AGENTS.md").write_text("Always say please.")
    assert agentd("run", "task").returncode == 0
    assert "Always say please." in server.requests[0].messages[0][1]
    assert agentd("run", "--no-agents-md", "task").returncode == 0
    assert "Always say please." not in server.requests[1].messages[0][1]
