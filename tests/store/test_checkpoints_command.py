"""`agentd checkpoints`: what a store holds, for people and programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd_cli.main import run_command_line
from agentd_store import LeaseLostError, StoredSnapshots
from agentd_store.holder import StoreHolder
from agentd_store.listing import store_rows
from agentd_store.opened import open_store

Open = Callable[..., StoredSnapshots]
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command; returns its exit code and what it printed."""

    def call(*arguments: str) -> tuple[int, str]:
        code = run_command_line(["checkpoints", *arguments])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return call


@pytest.fixture
def filled(file_url: str, open_at: Open, tmp_path: Path) -> str:
    """A store with two conversations, one of them with two checkpoints."""
    for conversation in ("c1", "c2"):
        store = open_at(file_url, conversation, conversation=conversation)
        (tmp_path / conversation / "workspace" / "a").write_bytes(os.urandom(100_000))
        store.snapshot("begin")
        if conversation == "c1":
            (tmp_path / conversation / "workspace" / "a").write_bytes(os.urandom(100_000))
            store.snapshot()
        store.close()
    return file_url


def test_it_lists_conversations_and_their_checkpoints(filled: str, run: Run) -> None:
    code, output = run("--store", filled)
    head, *rows = output.splitlines()
    assert (code, head.split()) == (0, ["conversation", "checkpoints", "turn", "at", "open"])
    assert [(row.split()[0], row.split()[1]) for row in rows] == [("c1", "2"), ("c2", "1")]
    told = json.loads(run("--store", filled, "c1", "--json")[1])
    assert [(row["id"], row["label"], row["turn"]) for row in told["checkpoints"]] == [
        ("turn_0001", "begin", 1),
        ("turn_0002", None, 2),
    ]


def test_an_empty_store_says_so(file_url: str, run: Run) -> None:
    open_store(file_url)
    assert run("--store", file_url) == (0, "there are none yet\n")


def test_a_look_makes_no_store(file_url: str, run: Run) -> None:
    code, output = run("--store", file_url)
    assert code != 0
    assert f"there is no store at {file_url!r}" in output
    assert not Path(file_url.removeprefix("file://")).exists()


def test_it_deletes_and_collects(filled: str, run: Run) -> None:
    told = json.loads(run("--store", filled, "c1", "--delete", "begin", "--collect", "--json")[1])
    assert [row["id"] for row in told["checkpoints"]] == ["turn_0002"]
    assert told["collected"]["objects"] == 2
    assert run("--store", filled, "--verify")[0] == 0


def test_it_forgets_a_conversation_with_all_that_is_its_own(
    filled: str, run: Run, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(filled.removeprefix("file://"))
    with monkeypatch.context() as patch:
        patch.setattr(StoreHolder, "_run", lambda self: None)  # it says once that it lives, and never again
        cut_off = open_at(filled, "c1", conversation="c1", lease_s=1.5)
    in_use, output = run("--store", filled, "c2", "--forget")
    listed = [line.split()[0] for line in output.splitlines()]  # ids behind it may have any letters
    assert (in_use, "c1" in listed, "c2" in listed) == (0, True, False)
    kept = open_store(filled).objects.names()
    code, output = run("--store", filled, "c1", "--forget", "--json")
    told = json.loads(output)
    assert (code, told["conversations"]) == (0, [])
    assert told["collected"]["objects"] == len(kept) > 0
    assert open_store(filled).objects.names() == set()
    for name in ("c1", "c2"):
        (left,) = (root / "conversations" / name / "log").iterdir()
        assert b"begin" not in left.read_bytes()
        assert b"turn_" not in left.read_bytes()
    with pytest.raises(LeaseLostError):
        cut_off.snapshot("late")
    assert run("--store", filled) == (0, "there are none yet\n")
    anew = open_at(filled, "elsewhere", conversation="c1")
    assert anew.list_snapshots() == []
    anew.snapshot("anew")
    anew.close()
    assert [one.label for one in open_at(filled, "third", conversation="c1").list_snapshots()] == ["anew"]
    assert run("--store", filled, "--verify")[0] == 0


def test_a_reader_meanwhile_finds_a_forgotten_conversation_empty_and_not_damaged(
    filled: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, codes = open_store(filled), []
    names = reader.place.names

    def listed(folder: str) -> list[str]:
        found = names(folder)
        if not codes and folder == "conversations/c1/log":
            codes.append(run("--store", filled, "c1", "--forget")[0])
        return found

    monkeypatch.setattr(reader.place, "names", listed)
    assert [row["conversation"] for row in store_rows(reader)] == ["c2"]
    assert codes == [0]


def test_it_finds_what_is_damaged(filled: str, run: Run) -> None:
    assert "nothing is lost or damaged" in run("--store", filled, "--verify")[1]
    objects = [path for path in Path(filled.removeprefix("file://"), "objects").rglob("*") if path.is_file()]
    max(objects, key=lambda path: path.stat().st_size).write_bytes(b"agentdR1\0nonsense")
    code, output = run("--store", filled, "--verify")
    assert code == 1
    assert "is damaged" in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--store", "nonsense"], "must be a URL"),
        (["--store", "URL", "c3"], "there is no conversation 'c3'"),
        (["--store", "URL", "c1", "--delete", "nothing"], "unknown snapshot 'nothing'"),
        (["--store", "URL", "--delete", "begin"], "name the conversation"),
        (["--store", "URL", "--forget"], "--forget: name the conversation"),
        (["--store", "URL", "c3", "--forget"], "there is no conversation 'c3'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_reason(
    filled: str, run: Run, arguments: list[str], told: str
) -> None:
    code, output = run(*(filled if argument == "URL" else argument for argument in arguments))
    assert code != 0
    assert told in output
