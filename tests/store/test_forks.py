"""A fork of a process that has a conversation, and a process that was stopped for longer than its lease."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd_store import ConversationInUseError, LeaseLostError, StoredSnapshots
from agentd_store.holder import StoreHolder
from agentd_store.opened import open_store

Open = Callable[..., StoredSnapshots]


def in_a_fork(action: Callable[[], str]) -> str:
    """Return what an action says in a forked child."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks of processes with threads
        pid = os.fork()
    if not pid:
        try:
            said = action()
        except BaseException as error:
            said = repr(error)
        os.write(writing, said.encode()[:4000])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        said = file.read().decode()
    os.waitpid(pid, 0)
    return said


def test_a_fork_has_nothing_of_its_parents_conversation_and_ends_nothing_of_it(
    file_url: str, open_at: Open, tmp_path: Path
) -> None:
    store = open_at(file_url)
    store.snapshot("before")
    place = open_store(file_url).place

    def child() -> str:
        said = [str(store.is_open), str(store.is_sure)]
        try:
            store.snapshot("in the child")
        except LeaseLostError:
            said.append("refused")
        store.close()
        try:
            open_at(file_url, "child")
        except ConversationInUseError:
            said.append("in use")
        own = open_at(file_url, "child", conversation="c2")
        own.snapshot("own")
        own.close()
        return " ".join(said)

    held = [threading.Event(), threading.Event()]

    def hold() -> None:
        with store._lock:
            held[0].set()
            held[1].wait()

    holding = threading.Thread(target=hold)  # the fork has this lock, and nobody to let go of it
    holding.start()
    held[0].wait()
    said = in_a_fork(lambda: (store.close(), "closed")[1])
    held[1].set()
    holding.join()
    assert said == "closed"
    assert in_a_fork(child) == "False False refused in use"
    assert place.names("holders")
    store.snapshot("after")
    assert [one.label for one in store.list_snapshots()] == ["before", "after"]


def test_a_process_that_goes_on_after_its_lease_is_sure_only_once_it_has_looked(
    file_url: str, open_at: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = StoreHolder._beat
    with monkeypatch.context() as patch:
        patch.setattr(StoreHolder, "_run", lambda self: None)  # it is stopped
        stopped, alone = open_at(file_url, lease_s=1.5), open_at(file_url, "alone", "c2", lease_s=1.25)
        open_at(file_url, "two")  # after the lease of the first one
        for store in (stopped, alone):
            holder = store._holder
            assert holder is not None
            while holder.is_sure:
                threading.Event().wait(0.05)
            beat(holder)  # it goes on
            assert holder.is_sure
    assert not stopped.is_sure
    assert alone.is_sure
    with pytest.raises(LeaseLostError):
        stopped.snapshot("late")
