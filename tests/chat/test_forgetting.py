"""Conversations are listed and forgotten, one by one or the oldest of too many; their pictures are kept with them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd.turn.transcript import Transcript
from agentd_chat.forgetting import forget, forget_oldest
from agentd_chat.kept import ConversationBusyError, ConversationFolder, KeptConversation, KeptTurn
from agentd_chat.pictures import keep_pictures, put_back
from agentd_history.pictures import files_of
from agentd_images.folder import PictureFolder
from agentd_images.reading import read_picture
from agentd_images.settings import Images
from agentd_snapshots import Snapshots
from chat_person import WRITES, block, model
from pictures import png

Agentd = Talk = Any  # the fixtures' classes

SHOWS = block("python:execute", "import agentd", 'agentd.show("its.png")')


@pytest.fixture
def folder(tmp_path: Path) -> ConversationFolder:
    (tmp_path / "work").mkdir()
    return ConversationFolder(tmp_path / "work", tmp_path / "chats")


def said(folder: ConversationFolder, text: str, age_s: int = 0, **more: Any) -> KeptConversation:
    """A conversation that was kept so long ago."""
    kept = folder.new()
    kept.turns.append(KeptTurn(task=text, **more))
    folder.save(kept)
    file = folder.path / f"{kept.id}.json"
    os.utime(file, (file.stat().st_mtime - age_s,) * 2)
    return kept


def test_the_oldest_of_too_many_go_and_none_that_is_open_or_cannot_be_read(
    folder: ConversationFolder, tmp_path: Path
) -> None:
    other = ConversationFolder(tmp_path / "other", tmp_path / "chats")
    kept = {name: said(where, name, age) for name, where, age in (
        ("new", folder, 0), ("third", other, 30), ("open", folder, 40), ("broken", folder, 50), ("last", other, 60)
    )}  # fmt: skip
    (folder.path / f"{kept['broken'].id}.json").write_text('{"version": 99}')
    os.utime(folder.path / f"{kept['broken'].id}.json", (1, 1))
    with folder.held(kept["open"].id):
        assert forget_oldest(5, Registry(), base=tmp_path / "chats") == 0
        assert forget_oldest(2, Registry(), base=tmp_path / "chats") == 1
        assert forget_oldest(1, Registry(), base=tmp_path / "chats") == 1
    assert {one.title for one in folder.all()} == {"new", "open"}
    assert kept["broken"].id in folder.ids()
    assert list(other.all()) == []
    assert list(other.path.iterdir()) == []
    assert forget_oldest(1, Registry(), base=tmp_path / "nowhere") == 0


def test_what_is_forgotten_is_gone_with_its_checkpoints_and_no_others(folder: ConversationFolder) -> None:
    snapshots = Snapshots(folder.workspace)
    before, after, undone, of_others = (snapshots.snapshot(label) for label in "abcd")
    kept = said(folder, "x", before=before.id, after=after.id)
    kept.undone = [undone.id, "removed_before"]
    folder.save(kept)
    with folder.held(kept.id), pytest.raises(ConversationBusyError):
        forget(folder, kept.id, Registry())
    assert forget(folder, kept.id, Registry()).title == "x"
    assert [one.id for one in snapshots.list_snapshots()] == [of_others.id]
    assert list(folder.path.iterdir()) == []
    with pytest.raises(ConfigError):
        forget(folder, kept.id, Registry())
    with pytest.raises(ConfigError):  # another process has forgotten it meanwhile
        folder.current(kept)


def test_one_whose_folder_is_gone_is_forgotten_all_the_same(
    folder: ConversationFolder, tmp_path: Path
) -> None:
    said(folder, "old", 10, before=Snapshots(folder.workspace).snapshot().id)
    said(folder, "new")
    shutil.rmtree(folder.workspace)
    assert forget_oldest(1, Registry(), base=tmp_path / "chats") == 1
    assert [one.title for one in folder.all()] == ["new"]


def test_pictures_are_kept_beside_a_conversation_and_put_back(folder: ConversationFolder) -> None:
    workspace = PictureFolder(folder.workspace)
    kept = said(folder, "x")
    pictures = [read_picture(png(n), f"{n}.png", Images()) for n in range(105)]
    for picture in pictures:
        workspace.write(picture.file, picture.data)
        kept.transcript.add("results", f"[note: {picture.line('picture 1')}]")
        keep_pictures(folder, kept)
    newest = files_of(kept.transcript)[-100:]
    ours = PictureFolder(folder.path, folder.pictures(kept.id))
    assert set(ours.files()) == set(newest)
    shutil.rmtree(folder.workspace / ".agentd")
    (folder.path / folder.pictures(kept.id) / newest[0]).write_bytes(b"damaged")
    put_back(folder, kept)
    assert set(workspace.files()) == set(newest[1:])
    assert workspace.read(newest[1]) == pictures[6].data
    folder.workspace.chmod(0o500)
    put_back(folder, kept)
    folder.workspace.chmod(0o700)
    with folder.held(kept.id):
        folder.remove(kept.id)
    assert list(folder.path.iterdir()) == []
    kept.transcript = Transcript()
    put_back(folder, kept)


@pytest.mark.slow
def test_conversations_are_listed_for_people_and_programs_and_forgotten_by_name(
    agentd: Agentd, home: Path
) -> None:
    model(agentd, WRITES, "First.", "Second.", "Third.")
    for text in ("make a\nfile", "second thing", "third thing"):
        assert agentd("chat", "-q", text, "--max-chats", "2").returncode == 0
    listed = agentd("chat", "--list").stdout.splitlines()
    assert [line.split("  ")[2:] for line in listed] == [
        ["1 turn", "third thing"],
        ["1 turn", "second thing"],
    ]
    data = json.loads(agentd("chat", "--list", "--json").stdout)
    assert [one["title"] for one in data] == ["third thing", "second thing"]
    gone = agentd("chat", "--forget", data[0]["id"][:-1], "--forget", data[0]["id"])
    assert (gone.returncode, gone.stdout) == (0, f"forgotten: {data[0]['id']}  third thing\n")
    assert len(agentd("chat", "--list").stdout.splitlines()) == 1
    checkpoints = Snapshots(agentd.cwd, home / ".local/state/agentd/snapshots").list_snapshots()
    assert len(checkpoints) == 2  # before and after the only turn
    wrong = agentd("chat", "--forget", "nonsense")
    assert wrong.returncode == 2
    assert "--forget nonsense: no conversation of this folder has that id" in wrong.stderr
    assert agentd("chat", "--list", "hello").returncode == 2
    empty = agentd("chat", "--list", "--cwd", str(home))
    assert (empty.returncode, empty.stdout) == (0, "")
    assert "no conversation was kept of" in empty.stderr


@pytest.mark.slow
def test_a_conversation_with_pictures_goes_on_with_them_after_the_workspace_was_cleaned(
    agentd: Agentd, home: Path, talk: Talk
) -> None:
    (agentd.cwd / "its.png").write_bytes(png(2))
    server = model(agentd, SHOWS, "Seen.", "Still.", "Undone.", "Blind.")
    person = talk("chat", "--images")
    person.say("look")
    person.told("Seen.")
    assert person.leave() == 0
    shutil.rmtree(agentd.cwd / ".agentd")
    again = talk("chat", "--continue")
    again.say("and now?")
    again.told("Still.")
    again.say("/undo")
    again.told("taken back: 'and now?'")
    again.say("once more")
    again.told("Undone.")
    assert again.leave() == 0
    blind = agentd("chat", "-q", "--continue", "--no-images", "and now?")
    assert (blind.returncode, blind.stdout) == (0, "Blind.\n"), blind.stderr
    assert [json.dumps(r.body).count("data:image/png") for r in server.requests] == [0, 1, 1, 1, 0]


@pytest.mark.slow
def test_taking_back_leaves_no_checkpoints_that_nobody_knows_of(
    agentd: Agentd, home: Path, talk: Talk
) -> None:
    model(agentd, *["Said."] * 3)
    person = talk("chat")
    for number in range(3):
        person.say(f"turn {number}")
        person.see(lambda n=number: sum(row.strip() == "Said." for row in person.everything()) == n + 1)
    for number in (2, 1):
        person.say("/undo")
        person.told(f"taken back: 'turn {number}'")
    assert person.leave() == 0
    [file] = (home / ".local/state/agentd/chats").glob("*/*.json")
    kept = KeptConversation.from_dict(json.loads(file.read_bytes()), file)
    store = Snapshots(agentd.cwd, home / ".local/state/agentd/snapshots")
    assert len(kept.undone) == 2
    assert {one.id for one in store.list_snapshots()} == set(kept.checkpoints())


def test_what_a_killed_process_has_half_forgotten_can_be_forgotten_with_all_of_it(
    folder: ConversationFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = Snapshots(folder.workspace)
    before, after = (snapshots.snapshot(label) for label in "ab")
    kept = said(folder, "x", before=before.id, after=after.id)

    def end(store: Snapshots) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Snapshots, "collect_garbage", end)
        with pytest.raises(KeyboardInterrupt):
            forget(folder, kept.id, Registry())
    with monkeypatch.context() as patch:
        patch.setattr(ConversationFolder, "remove", lambda folder, id: end(snapshots))
        with pytest.raises(KeyboardInterrupt):
            forget(folder, kept.id, Registry())
    assert forget(folder, kept.id, Registry()).title == "x"
    assert snapshots.list_snapshots() == []
    assert list(folder.path.iterdir()) == []
