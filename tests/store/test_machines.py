"""Two machines and one conversation: what one has left, the other goes on from; never both at once."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError, SnapshotError, UnknownSnapshotError
from agentd_store import ConversationInUseError, LeaseLostError, StoredSnapshots, StoreError, holder
from agentd_store.checking import MAX_DELTAS
from agentd_store.collecting import collect_garbage
from agentd_store.holder import HolderGone, StoreHolder, take_as_gone
from agentd_store.log import STATE_EVERY, CheckpointLog
from agentd_store.opened import open_store
from agentd_store.place import ObjectPlace

Open = Callable[..., StoredSnapshots]


def files(tmp_path: Path, machine: str) -> dict[str, str]:
    workspace = tmp_path / machine / "workspace"
    return {path.name: path.read_text() for path in workspace.iterdir()}


def write(tmp_path: Path, machine: str, name: str, text: str) -> None:
    workspace = tmp_path / machine / "workspace"
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / name).write_text(text)


def test_another_machine_goes_on_from_there(url: str, open_at: Open, tmp_path: Path) -> None:
    write(tmp_path, "one", "a", "first")
    one = open_at(url)
    one.snapshot("begin", attachment=b"what was said")
    write(tmp_path, "one", "a", "second")
    one.snapshot(turn=2)
    one.close()
    two = open_at(url, "two")
    assert [(kept.id, kept.label, kept.turn) for kept in two.list_snapshots()] == [
        ("turn_0001", "begin", 1),
        ("turn_0002", None, 2),
    ]
    assert two.attachment("begin") == b"what was said"
    two.restore(2)
    assert files(tmp_path, "two") == {"a": "second"}
    two.restore("begin")
    assert files(tmp_path, "two") == {"a": "first"}
    assert two.snapshot(turn=2).id == "turn_0002_2", "an id of the other machine is not given again"
    assert two.snapshot().turn == 3
    two.close()
    one = open_at(url)
    one.restore(2)
    assert files(tmp_path, "one") == {"a": "first"}, "the newest of turn 2 is the other machine's"


def test_what_has_not_changed_goes_up_once(s3: str, open_at: Open, tmp_path: Path) -> None:
    for number in range(500):
        write(tmp_path, "one", f"file{number:03d}", os.urandom(1_000).hex())
    store = open_at(s3)
    sent = sent_bytes(store)
    store.snapshot()
    whole = sum(sent)
    for number in range(5):
        write(tmp_path, "one", f"file{number:03d}", os.urandom(2_000).hex())
    sent.clear()
    store.snapshot()
    assert whole > 500_000
    changed = 5 * 2_000  # of random bytes: the digits that they are written with need no room
    assert changed < sum(sent) < 1.5 * changed


def sent_bytes(store: StoredSnapshots) -> list[int]:
    """Note the size of each object that is written from now on."""
    sent: list[int] = []
    place = store._store.place
    for name in ("write", "create"):
        method = getattr(place, name)

        def noted(to: str, data: bytes, method: Callable[[str, bytes], Any] = method) -> Any:
            sent.append(len(data))
            return method(to, data)

        setattr(place, name, noted)
    return sent


def test_a_long_history_is_read_from_its_last_state_and_every_checkpoint_of_it_comes_back(
    file_url: str, open_at: Open, tmp_path: Path
) -> None:
    count = 2 * STATE_EVERY + MAX_DELTAS + 3
    for number in range(60):
        write(tmp_path, "one", f"other{number}", "the same\n" * 50)
    store = open_at(file_url)
    for number in range(count):
        write(tmp_path, "one", "a", str(number))
        store.snapshot()
    store.close()
    two = open_at(file_url, "two")
    assert len(two.list_snapshots()) == count
    for turn in (1, 2, MAX_DELTAS, MAX_DELTAS + 1, MAX_DELTAS + 2, STATE_EVERY, count):
        two.restore(turn)
        assert files(tmp_path, "two")["a"] == str(turn - 1)
        assert len(files(tmp_path, "two")) == 61


def test_of_too_many_checkpoints_the_oldest_without_a_label_are_removed(
    url: str, open_at: Open, tmp_path: Path
) -> None:
    store = open_at(url, max_checkpoints=4)
    for number in range(STATE_EVERY + 8):
        write(tmp_path, "one", "same", "for all")
        write(tmp_path, "one", "a", os.urandom(100).hex() if number == 1 else str(number))
        store.snapshot("kept" if number == 1 else None)
        assert len(store.list_snapshots()) == min(number + 1, 4)
    first = (tmp_path / "one" / "workspace" / "a").read_text()
    assert [kept.turn for kept in store.list_snapshots()] == [2, *range(STATE_EVERY + 6, STATE_EVERY + 9)]
    with pytest.raises(UnknownSnapshotError):
        store.restore(1)
    store.close()
    opened = open_store(url)
    before = len(opened.objects.names())
    assert collect_garbage(opened).objects > STATE_EVERY
    assert len(opened.objects.names()) < before - STATE_EVERY
    two = open_at(url, "two")
    two.restore("kept")
    assert len(files(tmp_path, "two")["a"]) == 200
    two.restore(STATE_EVERY + 8)
    assert files(tmp_path, "two") == {"a": first, "same": "for all"}
    with pytest.raises(ConfigError, match="max_checkpoints"):
        open_at(url, "three", max_checkpoints=0)


def test_a_conversation_is_open_in_one_process_at_a_time(url: str, open_at: Open) -> None:
    first = open_at(url)
    with pytest.raises(
        ConversationInUseError, match=rf"'c1' is open in another process \(process {os.getpid()} on "
    ):
        open_at(url, "two")
    first.snapshot()
    open_at(url, "two", conversation="c2").snapshot()
    first.close()
    assert len(open_at(url, "two").list_snapshots()) == 1


def _hold(url: str, workspace: str, cache: str, ready: Any) -> None:
    store = StoredSnapshots(workspace, url, "c1", base_dir=cache, lease_s=1.0)
    store.snapshot("before")
    ready.set()
    threading.Event().wait(60)


@pytest.fixture
def other_process(file_url: str, tmp_path: Path) -> Any:
    """A process that has the conversation, and has kept one checkpoint of it."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    write(tmp_path, "other", "a", "theirs")
    folder = tmp_path / "other"
    arguments = (file_url, str(folder / "workspace"), str(folder / "cache"), ready)
    process = context.Process(target=_hold, args=arguments, daemon=True)
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_process_that_lives_keeps_its_conversation_and_one_that_is_killed_leaves_it(
    other_process: Any, file_url: str, open_at: Open, tmp_path: Path
) -> None:
    with pytest.raises(ConversationInUseError, match=f"process {other_process.pid} on "):
        open_at(file_url)
    os.kill(other_process.pid, signal.SIGKILL)
    store = open_at(file_url)
    store.restore("before")
    assert files(tmp_path, "one") == {"a": "theirs"}


def test_nobody_waits_for_the_lease_of_who_is_known_to_have_ended(
    other_process: Any, file_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: float) -> None:
        raise AssertionError("it has waited")

    os.kill(other_process.pid, signal.SIGKILL)
    other_process.join()
    held = open_store(file_url)
    take_as_gone(HolderGone(CheckpointLog(held.place, held.seal, "c1").read().holder))
    monkeypatch.setattr(holder.time, "sleep", wait)
    assert [kept.label for kept in open_at(file_url).list_snapshots()] == ["before"]


def test_who_was_seen_to_say_nothing_is_believed_until_it_says_more(
    file_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StoreHolder, "_run", lambda self: None)  # it says once that it lives
        stopped = open_at(file_url, lease_s=1.5)
    mine = StoreHolder.enter(ObjectPlace(file_url), 1.0)
    try:
        gone = mine.watch(stopped.holder_id)
        assert gone is not None
        assert gone.said is not None
        take_as_gone(gone)
        monkeypatch.setattr(holder.time, "sleep", lambda _: stopped._holder._beat())
        assert not mine.is_alive(stopped.holder_id), "nothing new: it is not watched again"
        stopped._holder._beat()
        assert mine.is_alive(stopped.holder_id)
    finally:
        mine.leave()


def test_a_process_that_was_stopped_and_goes_on_cannot_write_any_more(
    file_url: str, open_at: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(StoreHolder, "_run", lambda self: None)  # it says once that it lives, and never again
        stopped = open_at(file_url, lease_s=1.5)
    assert stopped.is_sure
    taken = open_at(file_url, "two")
    assert not stopped.is_sure
    taken.snapshot("theirs")
    with pytest.raises(LeaseLostError, match="'c1' was taken over"):
        stopped.snapshot("mine")
    assert not stopped.is_open
    with pytest.raises(LeaseLostError):
        stopped.snapshot("mine")
    assert [kept.label for kept in taken.list_snapshots()] == ["theirs"]
    taken.snapshot("more")
    taken.close()
    assert [kept.label for kept in open_at(file_url, "three").list_snapshots()] == ["theirs", "more"]


def test_of_many_that_open_at_once_one_has_it(url: str, tmp_path: Path) -> None:
    opened: list[StoredSnapshots] = []
    refused: list[Exception] = []
    begin = threading.Barrier(6)

    def one(number: int) -> None:
        workspace = tmp_path / str(number)
        workspace.mkdir()
        begin.wait()
        try:
            store = StoredSnapshots(
                workspace, url, "c1", base_dir=tmp_path / f"cache{number}", lease_s=1.0 + number
            )
            opened.append(store)
        except ConversationInUseError as error:
            refused.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(opened), len(refused)) == (1, 5)
    opened[0].close()


def _pause(phase: str, info: dict[str, int]) -> None:
    time.sleep(0)


def test_what_threads_write_meanwhile_does_not_disturb_a_list(url: str) -> None:
    place, ended = ObjectPlace(url), threading.Event()
    stay = {f"a/{number:03}" for number in range(200 if url.startswith("memory") else 10)}
    for name in stay:
        place.write(name, b"stays")
    interval_s, thresholds = sys.getswitchinterval(), gc.get_threshold()
    gc.callbacks.append(_pause)  # the collector may let other threads run wherever an object is made
    gc.set_threshold(10)
    sys.setswitchinterval(1e-6)
    failed: list[Exception] = []

    def writes(thread: int) -> None:
        try:
            for number in range(1_000_000):
                if ended.is_set():
                    return
                place.write(f"a/{thread}-{number % 50}", b"x")
                place.remove(f"a/{thread}-{number * 7 % 50}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=writes, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(200 if url.startswith("memory") else 20):
            assert stay <= set(place.names("a"))
    finally:
        sys.setswitchinterval(interval_s)
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(_pause)
        ended.set()
        for thread in threads:
            thread.join()
    assert not failed


def test_a_folder_that_cannot_be_listed_is_told_not_taken_for_an_empty_one(file_url: str) -> None:
    place = ObjectPlace(file_url)
    place.write("pins/deep/one", b"x")
    free = os.open("/dev/null", os.O_RDONLY)
    os.close(free)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))  # no file can be opened
    try:
        with pytest.raises(StoreError, match=r"could not list 'pins'.*Too many open files"):
            place.names("pins")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert place.names("pins") == ["pins/deep/one"]
    assert place.names("nosuch") == []


@pytest.mark.parametrize("fails_at", ["pins/", "objects/", "conversations/"])
def test_what_could_not_be_sent_whole_is_not_there(
    file_url: str, open_at: Open, tmp_path: Path, fails_at: str
) -> None:
    write(tmp_path, "one", "a", "kept")
    store = open_at(file_url)
    store.snapshot("whole")
    write(tmp_path, "one", "a", "lost")
    place = store._store.place
    write_object, create = place.write, place.create

    def failing(method: Callable[[str, bytes], Any]) -> Callable[[str, bytes], Any]:
        def call(name: str, data: bytes) -> Any:
            if name.startswith(fails_at):
                raise StoreError("the bucket is full")
            return method(name, data)

        return call

    place.write, place.create = failing(write_object), failing(create)  # type: ignore[method-assign]
    with pytest.raises(SnapshotError, match="the bucket is full"):
        store.snapshot("half")
    place.write, place.create = write_object, create  # type: ignore[method-assign]
    assert [kept.label for kept in store.list_snapshots()] == ["whole"]
    with pytest.raises(UnknownSnapshotError):
        store.restore("half")
    assert store.snapshot("after").id == "turn_0002", "the id of what was lost is free"
    store.close()
    two = open_at(file_url, "two")
    assert [kept.label for kept in two.list_snapshots()] == ["whole", "after"]
    two.restore("after")
    assert files(tmp_path, "two") == {"a": "lost"}


def test_a_cache_that_was_lost_or_belongs_to_another_history_is_filled_anew(
    file_url: str, open_at: Open, tmp_path: Path
) -> None:
    write(tmp_path, "one", "a", "ones")
    one = open_at(file_url)
    one.snapshot("first")
    one.close()
    two = open_at(file_url, "two")
    two.delete_snapshot("first")
    write(tmp_path, "two", "a", "twos")
    assert two.snapshot("first").id == "turn_0001"
    two.close()
    one = open_at(file_url)
    one.restore("turn_0001")
    assert files(tmp_path, "one") == {"a": "twos"}, "the cache has another turn_0001"


def test_a_cache_without_room_is_told_and_filled_when_there_is_some(
    file_url: str, open_at: Open, tmp_path: Path
) -> None:
    one = open_at(file_url)
    data = os.urandom(1 << 20)
    (tmp_path / "one" / "workspace" / "a").write_bytes(data)
    one.snapshot("kept")
    one.close()
    two = open_at(file_url, "two")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, limits[1]))
    try:
        with pytest.raises(StoreError, match="in the local cache: File too large; make room there"):
            two.restore("kept")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    two.restore("kept")
    assert (tmp_path / "two" / "workspace" / "a").read_bytes() == data


def test_a_conversation_that_could_not_be_closed_is_not_kept_from_others(
    file_url: str, open_at: Open, tmp_path: Path
) -> None:
    """The process lives on with another conversation; the store cannot be written in one moment."""
    log = tmp_path / "remote" / "conversations"
    other = open_at(file_url, conversation="c2")
    for opens_again in (True, False):
        one = open_at(file_url)
        one.snapshot()
        log.rename(tmp_path / "away")
        log.touch()
        with pytest.raises(StoreError, match="could not create"):
            one.close()
        log.unlink()
        (tmp_path / "away").rename(log)
        if opens_again:
            one = open_at(file_url)
            with pytest.raises(ConversationInUseError):
                open_at(file_url, "third")
            other._holder._close_left()
            one.snapshot("the first close is over, and does not close this one")
            one.close()
        else:
            other._holder._close_left()
            assert not CheckpointLog(other._store.place, other._store.seal, "c1").read().holder
    other.close()
