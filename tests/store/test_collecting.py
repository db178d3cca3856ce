"""A collection takes what nothing needs, and never what somebody is about to need."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from agentd_store import LeaseLostError, StoredSnapshots, StoreError
from agentd_store.collecting import collect_garbage
from agentd_store.holder import StoreHolder
from agentd_store.log import STATE_EVERY
from agentd_store.objects import ObjectSet
from agentd_store.opened import open_store
from agentd_store.records import LogEntry

Open = Callable[..., StoredSnapshots]


def write(store: StoredSnapshots, data: bytes, name: str = "a") -> None:
    (store._local.workspace_dir / name).write_bytes(data)


def read(store: StoredSnapshots, name: str = "a") -> bytes:
    return (store._local.workspace_dir / name).read_bytes()


def test_what_no_checkpoint_needs_goes_and_all_others_come_back(url: str, open_at: Open) -> None:
    store, other = open_at(url), open_at(url, "other", conversation="c2")
    contents = [os.urandom(200_000) for _ in range(3)]
    for number, data in enumerate(contents):
        write(store, data)
        store.snapshot(f"number {number}", attachment=b"%d" % number)
    write(other, contents[1])
    other.snapshot("the same")
    opened = open_store(url)
    before = opened.objects.names()
    assert collect_garbage(opened).objects == 0
    assert opened.objects.names() == before
    for number in (0, 1):
        store.delete_snapshot(f"number {number}")
    removed = collect_garbage(opened)
    assert removed.objects == len(before) - len(opened.objects.names()) > 0
    two = open_at(url, "two", conversation="c3")
    assert two.list_snapshots() == []
    store.close()
    other.close()
    for conversation, wanted, data in (("c1", "number 2", contents[2]), ("c2", "the same", contents[1])):
        again = open_at(url, f"again-{conversation}", conversation=conversation)
        again.restore(wanted)
        assert read(again) == data
    assert collect_garbage(opened).objects == 0


def test_a_collection_in_the_middle_of_a_checkpoint_takes_nothing_of_it(url: str, open_at: Open) -> None:
    store = open_at(url)
    write(store, data := os.urandom(200_000))
    collected = []
    append = store._log.append

    def collect_first(entry: Any) -> None:
        collected.append(collect_garbage(open_store(url), lease_s=1.0).objects)
        append(entry)

    store._log.append = collect_first  # type: ignore[method-assign]
    store.snapshot("whole", attachment=b"x")
    store._log.append = append  # type: ignore[method-assign]
    assert collected == [0]
    store.close()
    two = open_at(url, "two")
    two.restore("whole")
    assert (read(two), two.attachment("whole")) == (data, b"x")


def test_what_is_about_to_be_removed_is_written_again_by_who_needs_it(
    url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = open_at(url), open_at(url, "other", conversation="c2")
    write(store, data := os.urandom(200_000))
    store.snapshot("first", attachment=b"x")
    store.delete_snapshot("first")
    pinned = ObjectSet.pinned
    removed = []

    def write_after(objects: ObjectSet) -> Any:
        found = pinned(objects)  # the collection has seen no pin
        write(other, data)
        other.snapshot("the same", attachment=b"x")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ObjectSet, "pinned", write_after)
        removed.append(collect_garbage(open_store(url), lease_s=1.0).objects)
    assert removed[0] > 0
    assert collect_garbage(open_store(url), lease_s=1.0).objects == 0
    other.close()
    two = open_at(url, "two", conversation="c2")
    two.restore("the same")
    assert (read(two), two.attachment("the same")) == (data, b"x")


def test_a_checkpoint_that_begins_before_a_note_and_ends_after_it_is_seen_by_its_pin(
    url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = open_at(url), open_at(url, "other", conversation="c2")
    write(store, data := os.urandom(200_000))
    store.snapshot("first")
    store.delete_snapshot("first")
    doomed = ObjectSet.doomed
    collected = []

    def collect_after(objects: ObjectSet) -> set[str]:
        found = doomed(objects)  # the writer has seen no note
        monkeypatch.setattr(ObjectSet, "doomed", doomed)
        collected.append(collect_garbage(open_store(url), lease_s=1.0))
        return found

    monkeypatch.setattr(ObjectSet, "doomed", collect_after)
    write(other, data)
    other.snapshot("the same")
    assert len(collected) == 1
    other.close()
    two = open_at(url, "two", conversation="c2")
    two.restore("the same")
    assert read(two) == data


def test_what_a_dead_process_has_half_written_goes_and_it_cannot_end_it_any_more(
    file_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StoreHolder, "_run", lambda self: None)  # it says once that it lives, and never again
        dead = open_at(file_url, lease_s=1.5)
    write(dead, os.urandom(200_000))
    append, collected = dead._log.append, []

    def collect_first(entry: Any) -> None:
        collected.append(collect_garbage(open_store(file_url), lease_s=1.0))
        append(entry)

    dead._log.append = collect_first  # type: ignore[method-assign]
    with pytest.raises(LeaseLostError):
        dead.snapshot("half")
    assert (collected[0].holds, collected[0].objects) == (1, 2)
    assert open_store(file_url).objects.names() == set()


def test_entries_of_a_log_that_no_reader_needs_go(file_url: str, open_at: Open) -> None:
    store = open_at(file_url)
    for number in range(3 * STATE_EVERY):
        write(store, b"%d" % number)
        store.snapshot()
    assert collect_garbage(open_store(file_url)).entries == 2 * STATE_EVERY - 1
    store.snapshot("last")
    store.close()
    again = open_at(file_url, "two")
    assert len(again.list_snapshots()) == 3 * STATE_EVERY + 1
    again.restore(5)
    assert read(again) == b"4"


@pytest.mark.parametrize("what", ["snapshot", "close"])
def test_who_was_taken_over_is_told_so_though_the_next_entries_are_gone(
    url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StoreHolder, "_run", lambda self: None)  # it says once that it lives, and never again
        stopped = open_at(url, lease_s=1.5)
        stopped.snapshot("mine")
    taken = open_at(url, "two")
    for _ in range(3 * STATE_EVERY):
        taken._log.append(LogEntry("deleted", ""))
    assert collect_garbage(open_store(url)).entries == 2 * STATE_EVERY - 1
    before = open_store(url).place.names("conversations")
    with pytest.raises(LeaseLostError, match="'c1' was taken over"):
        getattr(stopped, what)()
    assert not stopped.is_open
    assert open_store(url).place.names("conversations") == before  # and it has left nothing there
    taken.snapshot("theirs")
    assert [kept.label for kept in taken.list_snapshots()] == ["mine", "theirs"]


def test_a_server_that_fails_behind_an_entry_does_not_cost_the_conversation(
    file_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(file_url)

    def fails(name: str) -> bool:
        raise StoreError(f"could not look for {name!r}")

    with monkeypatch.context() as patch:
        patch.setattr(store._log._place, "has", fails)
        store._log.append(LogEntry("deleted", ""))
        store._log.append(LogEntry("deleted", ""))
    store.snapshot("kept")
    store.close()
    assert [kept.label for kept in open_at(file_url, "two").list_snapshots()] == ["kept"]
