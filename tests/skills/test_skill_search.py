"""`skills search`: what it finds, in what order, and what harms it not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from agentd.types import ToolSpec
from agentd_skills import AgentSkillsRenderer
from corpus import CORPUS, NOTES, many


@pytest.fixture(scope="module")
def skills(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("w") / "skills"
    AgentSkillsRenderer().render([*CORPUS, *many(4, 30)], directory, notes=NOTES)
    mine = directory / "cooking"
    mine.mkdir()
    (mine / "SKILL.md").write_text(
        "---\nname: cooking\ndescription: soups\n---\n# Cooking\n\n## Goulash\n\nPaprika.\n"
    )
    return directory


def search(skills: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["skills", "search", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=skills.parent,
        env={
            "PATH": f"/usr/bin:/bin:{skills}/bin",
            "AGENTD_PYTHON": sys.executable,
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )


def found(skills: Path, *words: str) -> list[str]:
    """The tools' names, best first."""
    done = search(skills, *words)
    assert (done.returncode, done.stderr) == (0, "")
    return [line.partition("  ")[2].partition("(")[0] for line in done.stdout.splitlines()]


def test_a_hit_says_the_skill_how_to_call_it_and_what_it_does(skills: Path) -> None:
    assert search(skills, "-n", "1", "convert", "time").stdout == (
        "time  convert_time(source_timezone: str, time: str, target_timezone: str)  - Convert time between timezones\n"
    )
    assert search(skills, "-n1", "git_add").stdout == "git  git_add(repo_path: str, files: list[str])\n"
    assert search(skills, "-n1", "list", "issues").stdout.endswith(" - List issues of a repository.\n")


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("create_entities", "create_entities"),
        ("structured", "get_structured_content"),
        ("annotated message", "get_annotated_message"),
        ("message post", "chat_postMessage"),  # camelCase is taken apart
        ("chatPostMessage", "chat_postMessage"),
        ("timestamp start", "git_log"),  # a parameter's name
        ("ISO 8601", "git_log"),  # a parameter's description
        ("knowledge graphs", "create_entities"),  # stems
        ("repositor issue", "list_issues"),  # beginnings of words
        ("notion title", "API_post_search"),
        ("日本", "class_"),
        ("nnotate", "get_annotated_message"),  # inside a word, if nothing else fits
    ],
)
def test_the_best_hit_is_the_one_that_is_meant(skills: Path, words: str, name: str) -> None:
    assert found(skills, *words.split())[0] == name


def test_a_word_in_a_name_counts_more_than_in_a_text(tmp_path: Path) -> None:
    tools = [
        ToolSpec(name="a", description="Exports invoices, and makes each invoice a file."),
        ToolSpec(name="b", input_schema={"properties": {"x": {"description": "the invoice"}}}),
        ToolSpec(name="invoice", description="Something."),
        ToolSpec(name="c", input_schema={"properties": {"invoice": {}}}),
        *many(1, 10),
    ]
    AgentSkillsRenderer().render(tools, tmp_path)
    assert found(tmp_path, "invoice") == ["invoice", "a", "c", "b"]


def test_at_most_ten_hits_or_as_many_as_asked_for(skills: Path) -> None:
    assert len(found(skills, "thing")) == 10
    assert len(found(skills, "-n", "25", "thing")) == 25
    for wrong in ("0", "x", "1001", "-3", ""):
        done = search(skills, "thing", "-n", wrong)
        assert (done.returncode, "-n must be a number from 1 to 1000" in done.stderr) == (2, True)
    assert search(skills, "thing", "-n").returncode == 2


def test_nothing_found_is_exit_code_1_and_a_hint(skills: Path) -> None:
    done = search(skills, "zebra", "crossing")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nothing fits 'zebra crossing'; try other words, or: skills list\n"


def test_a_search_for_no_word_is_refused(skills: Path) -> None:
    for words in ((), ("",), ('"', "*"), ("-n", "3")):
        assert search(skills, *words).returncode == 2


@pytest.mark.parametrize(
    "words",
    ['"', 'list" OR "', "list*", "NEAR(list issues)", "a:list", "list AND", "NOT list", "-list", "{a b}: list", "^list",
     "list'; DROP TABLE hits; --", "--", "%list_", "\udcff list", "list " * 5000, "\u202elist", "list\nissues"],
)  # fmt: skip
def test_no_words_are_syntax(skills: Path, words: str) -> None:
    done = search(skills, "--", words, "issues")
    assert done.returncode == 0
    assert done.stderr == ""
    assert "list_issues(" in done.stdout


def test_skills_written_by_hand_and_what_servers_say_are_found_too(skills: Path) -> None:
    assert search(skills, "paprika").stdout == "cooking  (skills read cooking)  - Goulash\n"
    assert search(skills, "soups").stdout == "cooking  (skills read cooking)  - soups\n"
    assert search(skills, "-n1", "remember").stdout == (
        "memory  (skills read memory)  - Remember what the user tells about people.\n"
    )


def test_the_skills_directory_is_only_read(skills: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {p: ((s := p.stat()).st_ino, s.st_mtime_ns) for p in skills.rglob("*")}

    before = state()
    search(skills, "list")
    assert state() == before


@pytest.mark.parametrize(
    "stand_in",
    [
        "raise ImportError('built without it')",
        "class OperationalError(Exception): pass\n"
        "class connect:\n"
        "    def __init__(self, name): pass\n"
        "    def execute(self, text): raise OperationalError('no such module: fts5')\n"
        "    def close(self): pass\n",
    ],
    ids=["no sqlite3", "no FTS5"],
)
def test_without_full_text_search_it_says_so_and_looks_for_substrings(tmp_path: Path, stand_in: str) -> None:
    AgentSkillsRenderer().render(CORPUS, tmp_path)
    (tmp_path / "lib" / "sqlite3.py").write_text(stand_in)
    done = search(tmp_path, "-n", "2", "git", "log")
    assert done.returncode == 0
    assert done.stdout.startswith("git  git_log(")
    assert done.stderr == "skills: this Python's SQLite has no FTS5; ranked by plain substrings\n"


def test_damaged_index_lines_are_passed_over(tmp_path: Path) -> None:
    AgentSkillsRenderer().render(CORPUS, tmp_path)
    with open(tmp_path / "lib" / ".search" / "git.jsonl", "ab") as file:
        file.write(
            b'\xff\n{}\n[1]\n["log", "", "git"]\n[1, 2, 3, 4, 5, 6]\n["\\ud800 log", "", "git", "", "", ""]\nnull\n'
        )
    assert found(tmp_path, "log")[0] == "git_log"
    os.unlink(tmp_path / "lib" / ".search" / "git.jsonl")
    assert search(tmp_path, "commit", "logs").stdout.startswith("git  (skills read git)  - ")
