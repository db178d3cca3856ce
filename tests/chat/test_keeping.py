"""Conversations are kept: gone on with, chosen, and found again after a crash."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.turn.transcript import Transcript
from agentd.types import Usage
from agentd_chat.kept import ConversationBusyError, ConversationFolder, KeptTurn
from agentd_demo.replay import ReplayFault
from chat_person import LOOKS, WRITES, block, model

Agentd = Talk = Any  # the fixtures' classes


def kept_files(home: Path) -> list[Path]:
    return sorted((home / ".local/state/agentd/chats").glob("*/*.json"))


@pytest.mark.slow
def test_a_conversation_goes_on_with_its_shell_and_keeps_what_a_person_has_changed(
    agentd: Agentd, home: Path, talk: Talk
) -> None:
    server = model(agentd, WRITES, "First.", LOOKS, "Second.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    assert person.leave() == 0
    (agentd.cwd / "sub" / "made.txt").write_text("mine\n")
    again = talk("chat", "--continue")
    again.told("1 turn: one")
    again.told("  First.")
    again.say("two")
    again.told("│ green in sub")
    again.told("Second.")
    assert (agentd.cwd / "sub" / "made.txt").read_text() == "mine\n"
    again.say("/undo")
    again.told("taken back: 'two'")
    again.say("/undo")
    again.told("taken back: 'one'")
    assert not (agentd.cwd / "sub").exists()
    assert again.leave() == 0
    assert "I write it." in json.dumps(server.requests[2].body)
    assert len(kept_files(home)) == 1


@pytest.mark.slow
def test_kill_9_loses_the_running_turn_alone_and_its_files_can_be_taken_back(
    agentd: Agentd, home: Path, talk: Talk
) -> None:
    waits = block("bash:execute", "cd ..; echo half > half.txt; echo started; sleep 100")
    model(agentd, WRITES, "First.", waits, LOOKS, "Third.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    person.say("two")
    person.told("│ started")
    os.kill(person.process.pid, signal.SIGKILL)
    assert person.wait() == -signal.SIGKILL
    again = talk("chat", "--continue")
    again.told("its last turn was lost with its process")
    again.say("/undo")
    again.told("taken back: 'two'")
    assert not (agentd.cwd / "half.txt").exists()
    assert (agentd.cwd / "sub" / "made.txt").exists()
    again.say("three")
    again.told("│ green in sub")
    again.told("Third.")
    assert again.leave() == 0


@pytest.mark.slow
def test_one_is_chosen_from_the_list_or_by_the_beginning_of_its_id(
    agentd: Agentd, home: Path, talk: Talk
) -> None:
    model(agentd, "A.", "B.")
    for said, answered in (("first thing", "A."), ("second thing", "B.")):
        person = talk("chat")
        person.say(said)
        person.told(answered)
        assert person.leave() == 0
    chooses = talk("chat", "--resume")
    chooses.told("first thing")
    chooses.told("second thing")
    chooses.see("which one?")
    chooses.type("2\r")
    chooses.told("1 turn: first thing")
    assert chooses.leave() == 0
    oldest = min(kept_files(home), key=lambda file: json.loads(file.read_bytes())["created_at"])
    named = talk("chat", "--resume", oldest.stem)
    named.told("1 turn: first thing")
    assert named.leave() == 0
    wrong = agentd("chat", "--resume", "nonsense", "hello")
    assert wrong.returncode == 2
    assert "no conversation of this folder has that id" in wrong.stderr


@pytest.mark.slow
def test_piped_input_is_one_turn_and_is_kept(agentd: Agentd, home: Path) -> None:
    server = model(agentd, WRITES, "First.", LOOKS, "Second.")
    first = agentd("chat", stdin="do it\nwell\n")
    assert first.returncode == 0, first.stderr
    assert "First." in first.stdout
    assert "\x1b" not in first.stdout
    assert server.requests[0].last == "do it\nwell\n"
    second = agentd("chat", "--continue", "--no-checkpoints", "and now?")
    assert second.returncode == 0, second.stderr
    assert "│ green in sub" in second.stdout
    nothing = agentd("chat")
    assert nothing.returncode == 2
    assert "no message; for one turn, give one or pipe it in" in nothing.stderr


@pytest.mark.slow
def test_one_turn_prints_its_answer_alone_or_events_and_goes_on_with_the_conversation(
    agentd: Agentd, home: Path
) -> None:
    server = model(
        agentd, WRITES, "First.", LOOKS, "Second.", "Cut", faults={5: ReplayFault("status", status=401)}
    )
    first = agentd("chat", "--quiet", "do it")
    assert (first.returncode, first.stdout, first.stderr) == (0, "First.\n", "")
    second = agentd("chat", "--json", "--continue", stdin="and now?")
    events = [json.loads(line) for line in second.stdout.splitlines()]
    assert [e["output"] for e in events if e["type"] == "code_execution"] == ["green in sub\n"]
    assert events[-1]["text"] == "Second."
    assert "do it" in json.dumps(server.requests[2].body)
    cut = agentd("chat", "-q", "--continue", "--max-turns", "1", "more")
    assert (cut.returncode, cut.stdout) == (0, "Cut\n")
    failed = agentd("chat", "-q", "--continue", "again")
    assert (failed.returncode, failed.stdout) == (3, "")
    assert "401" in failed.stderr
    assert agentd("chat", "-q", "--json", "x").returncode == 2


@pytest.mark.slow
def test_an_open_conversation_is_not_opened_twice(agentd: Agentd, home: Path, talk: Talk) -> None:
    model(agentd, "First.", "Second.")
    person = talk("chat")
    person.say("one")
    person.told("First.")
    person.at_prompt()
    refused = agentd("chat", "--continue", "two")
    assert refused.returncode == 2
    assert "is open in another process" in refused.stderr
    assert person.leave() == 0
    assert agentd("chat", "--continue", "two").returncode == 0


@pytest.mark.slow
def test_in_the_home_folder_nothing_is_taken_back_but_what_was_said(
    agentd: Agentd, home: Path, talk: Talk
) -> None:
    model(agentd, "First.")
    person = talk("chat", "--cwd", str(home))
    person.told("no checkpoints are kept here")
    person.say("one")
    person.told("First.")
    person.say("/diff")
    person.told("no checkpoints are kept here")
    person.say("/undo")
    person.told("files stay as they are")
    assert person.leave() == 0


# --- the files -------------------------------------------------------------------------------------


def test_what_is_saved_is_read_again_and_is_for_this_user_alone(tmp_path: Path) -> None:
    folder = ConversationFolder(tmp_path / "work", tmp_path / "state" / "chats")
    kept = folder.new()
    kept.transcript.add("task", "half a character \ud83d")
    kept.turns.append(
        KeptTurn(task="do it", before="a", after="b", usage=Usage(input_tokens=3, cost_usd=0.5))
    )
    kept.shell = {"cwd": "/x"}
    folder.save(kept)
    assert folder.load(kept.id) == kept
    assert folder.load(kept.id[:-2]) == kept
    file = folder.path / f"{kept.id}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o700 for path in (folder.path, tmp_path / "state"))
    assert [path.name for path in folder.path.iterdir()] == [file.name]


def test_a_turn_that_was_running_is_a_lost_one(tmp_path: Path) -> None:
    folder = ConversationFolder(tmp_path, tmp_path / "chats")
    kept = folder.new()
    kept.pending = KeptTurn(task="do it", before="a")
    folder.save(kept)
    read = folder.load(kept.id)
    assert read.pending is None
    assert read.turns == [KeptTurn(task="do it", before="a", stop_reason="lost")]
    assert read.transcript == Transcript()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 1}', '{"version": 99}', "null", "[" * 5000])
def test_a_file_that_is_no_conversation_is_named_and_passed_over(tmp_path: Path, text: str) -> None:
    folder = ConversationFolder(tmp_path, tmp_path / "chats")
    good = folder.new()
    folder.save(good)
    (folder.path / "broken.json").write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.json"):
        folder.load("broken")
    assert [one.id for one in folder.all()] == [good.id]


@pytest.mark.parametrize(
    ("name", "value"),
    [("updated_at", 1e400), ("created_at", 10**400), ("pending", {}), ("pending", True), ("id", "another")],
)
def test_a_wrong_value_in_a_kept_conversation_hides_no_other(tmp_path: Path, name: str, value: Any) -> None:
    folder = ConversationFolder(tmp_path / "work", tmp_path / "chats")
    good, bad = folder.new(), folder.new()
    for one in (good, bad):
        one.turns.append(KeptTurn(task="hello"))
        folder.save(one)
    file = folder.path / f"{bad.id}.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    assert [one.id for one in folder.all()] == [good.id]
    with pytest.raises(ConfigError, match=f"{bad.id}.json: is "):
        folder.load(bad.id)


def test_a_task_that_is_no_text_makes_no_conversation(tmp_path: Path) -> None:
    folder = ConversationFolder(tmp_path / "work", tmp_path / "chats")
    kept = folder.new()
    kept.turns.append(KeptTurn(task="hello"))
    folder.save(kept)
    file = folder.path / f"{kept.id}.json"
    file.write_text(file.read_text().replace('"hello"', "null"))
    with pytest.raises(ConfigError, match="task is no text"):
        folder.load(kept.id)


def test_a_pipe_in_place_of_a_conversation_holds_nobody_up(tmp_path: Path) -> None:
    folder = ConversationFolder(tmp_path / "work", tmp_path / "chats")
    folder.path.mkdir(parents=True)
    os.mkfifo(folder.path / "pipe.json")
    assert folder.newest() is None


def test_two_folders_of_one_name_have_conversations_of_their_own(tmp_path: Path) -> None:
    base = tmp_path / "chats"
    one, other = (
        ConversationFolder(tmp_path / "a" / "x", base),
        ConversationFolder(tmp_path / "b" / "x", base),
    )
    one.save(one.new())
    assert one.newest() is not None
    assert other.newest() is None


def test_a_conversation_that_is_held_is_busy_for_others_until_its_process_ends(tmp_path: Path) -> None:
    folder = ConversationFolder(tmp_path, tmp_path / "chats")
    with folder.held("one"):
        with pytest.raises(ConversationBusyError, match="open in another process"), folder.held("one"):
            pass
        with folder.held("two"):
            pass
    with folder.held("one"):
        pass
    assert list(folder.path.iterdir()) == []  # nothing was said in either


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    folder = ConversationFolder(tmp_path, tmp_path / "chats")
    kept = folder.new()
    folder.save(kept)
    before = (folder.path / f"{kept.id}.json").read_bytes()
    code = (
        "import resource, sys; from pathlib import Path; from agentd_chat.kept import ConversationFolder\n"
        f"folder = ConversationFolder(Path({str(tmp_path)!r}), Path({str(tmp_path / 'chats')!r}))\n"
        f"kept = folder.load({kept.id!r}); kept.model = 'x' * 10_000\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    folder.save(kept)\nexcept OSError as error:\n    print('refused', error.errno)\n"
    )
    done = subprocess.run([sys.executable, "-B", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("refused"), done.stderr
    assert (folder.path / f"{kept.id}.json").read_bytes() == before
    assert len(list(folder.path.iterdir())) == 1
