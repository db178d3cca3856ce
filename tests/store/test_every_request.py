"""Whatever process ends between two requests, and whatever a collection does there, every state can be gone on from."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from agentd_store import LeaseLostError, StoredSnapshots, StoreError
from agentd_store.collecting import collect_garbage
from agentd_store.listing import find_damage
from agentd_store.opened import open_store
from agentd_store.place import ObjectPlace

Open = Callable[..., StoredSnapshots]
REQUESTS = ("read", "write", "create", "has", "names", "remove")


class ProcessEndedError(BaseException):
    """Stands for the end of a process: nothing after it is carried out."""


@contextmanager
def each_request(patch: pytest.MonkeyPatch, told: Callable[[ObjectPlace, str, bool], None]) -> Iterator[None]:
    """Call `told` before (False) and after (True) each request, in the thread that makes it."""
    with patch.context() as inner:
        for name in REQUESTS:
            inner.setattr(ObjectPlace, name, _telling(getattr(ObjectPlace, name), name, told))
        yield


def _telling(method: Any, name: str, told: Callable[[ObjectPlace, str, bool], None]) -> Any:
    def request(place: ObjectPlace, *args: Any, **kwargs: Any) -> Any:
        told(place, name, False)
        result = method(place, *args, **kwargs)
        told(place, name, True)
        return result

    return request


class Death:
    """Ends what does requests at one of them, before or after it; a request within another one is a part of it."""

    def __init__(self, at: int, *, after: bool) -> None:
        self.at, self.after = at, after
        self.seen = 0
        self.is_dead = False
        self._thread = threading.current_thread()
        self._lock = threading.Lock()

    def __call__(self, place: ObjectPlace, name: str, is_after: bool) -> None:
        if threading.current_thread().name == "agentd-store-lease":
            if self.is_dead:
                raise StoreError("it has ended")
            return
        with self._lock:
            if is_after is self.after:
                self.seen += 1
                self.is_dead = self.is_dead or self.seen >= self.at
            if self.is_dead:
                raise ProcessEndedError


def work(url: str, folder: Path) -> None:
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    store = StoredSnapshots(workspace, url, "c1", base_dir=folder / "cache", lease_s=20.0)
    for label in ("A", "B"):
        (workspace / "file").write_bytes(label.encode() * 100_000)
        store.snapshot(label, attachment=label.encode())
    store.delete_snapshot("A")
    (workspace / "other").write_bytes(b"C" * 100_000)
    store.snapshot("C", attachment=b"C")
    store.close()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_process_that_ends_at_any_request_leaves_what_another_machine_goes_on_with(
    open_at: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, after: bool
) -> None:
    seen: set[tuple[str, ...]] = set()
    for at in range(1, 500):
        url = f"memory://{secrets.token_hex(6)}/agents"
        death = Death(at, after=after)
        with each_request(monkeypatch, death):
            try:
                work(url, tmp_path / f"one-{at}")
            except ProcessEndedError:
                pass
        place = ObjectPlace(url)
        for name in place.names("holders"):  # as if its lease had run out
            place.remove(name)
        two = open_at(url, f"two-{at}")
        labels = tuple(str(one.label) for one in two.list_snapshots())
        seen.add(labels)
        for label in labels:
            two.restore(label)
            assert two.attachment(label) == label.encode()
            expected = b"B" if label == "C" else label.encode()
            assert (two._local.workspace_dir / "file").read_bytes() == expected * 100_000
        two.snapshot("D")
        two.close()
        store = open_store(url)
        assert collect_garbage(store, lease_s=1.0).holds == 0
        assert find_damage(store, lambda done, count: None) == []
        if not death.is_dead:
            break
    assert seen == {(), ("A",), ("A", "B"), ("B",), ("B", "C")}
    assert at > 30


class Turns:
    """Lets a writer go as far as a request, then a collection as far as one, then the writer, then the collection."""

    def __init__(self, first: int, second: int) -> None:
        self.left = {"writer": first, "collector": second}
        self.may_go = {"writer": threading.Event(), "collector": threading.Event()}
        self.stopped = {"writer": threading.Event(), "collector": threading.Event()}
        self._lock = threading.Lock()

    def __call__(self, place: ObjectPlace, name: str, is_after: bool) -> None:
        who = getattr(place, "who", "")
        if is_after or not who or threading.current_thread().name == "agentd-store-lease":
            return
        with self._lock:
            self.left[who] -= 1
            is_turn = self.left[who] == 0
        if is_turn:
            self.stopped[who].set()
            assert self.may_go[who].wait(60)


@pytest.mark.parametrize("second", range(2, 31, 5))
def test_a_collection_beside_a_writer_takes_nothing_that_is_needed(
    open_at: Open, monkeypatch: pytest.MonkeyPatch, second: int
) -> None:
    for first in range(1, 12, 2):
        url = f"memory://{secrets.token_hex(6)}/agents"
        old, store = open_at(url, f"old-{first}"), open_at(url, f"one-{first}", conversation="c2")
        for one in (old, store):
            (one._local.workspace_dir / "file").write_bytes(b"x" * 100_000)
        old.snapshot("old", attachment=b"x")
        old.delete_snapshot("old")
        store._store.place.who = "writer"  # type: ignore[attr-defined]
        collecting = open_store(url)
        collecting.place.who = "collector"  # type: ignore[attr-defined]
        turns, failed = Turns(first, second), list[BaseException]()

        def doing(
            action: Callable[[], object],
            who: str,
            turns: Turns = turns,
            failed: list[BaseException] = failed,
        ) -> Callable[[], None]:
            def do() -> None:
                try:
                    action()
                except BaseException as error:
                    failed.append(error)
                finally:
                    turns.stopped[who].set()

            return do

        with each_request(monkeypatch, turns):
            threads = {
                "writer": threading.Thread(
                    target=doing(lambda store=store: store.snapshot("new", attachment=b"x"), "writer")
                ),
                "collector": threading.Thread(
                    target=doing(
                        lambda collecting=collecting: collect_garbage(collecting, lease_s=20.0), "collector"
                    )
                ),
            }
            for who in ("writer", "collector"):
                threads[who].start()
                assert turns.stopped[who].wait(60)
            for who in ("writer", "collector"):
                turns.may_go[who].set()
                threads[who].join()
        assert failed == []
        assert find_damage(open_store(url), lambda done, count: None) == []
        store.close()
        two = open_at(url, f"two-{first}", conversation="c2")
        two.restore("new")
        assert (two._local.workspace_dir / "file").read_bytes() == b"x" * 100_000
        assert two.attachment("new") == b"x"
        for one in (two, old):
            one.close()


def test_two_writers_are_never_both_heard(open_at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each request of the one, another one takes the conversation over and writes."""
    for at in range(1, 40):
        url = f"memory://{secrets.token_hex(6)}/agents"
        one = open_at(url, f"one-{at}", lease_s=20.0)
        (one._local.workspace_dir / "file").write_bytes(b"one")
        seen, is_busy, twos = 0, False, list[StoredSnapshots]()

        def take_over(place: ObjectPlace, name: str, is_after: bool) -> None:
            nonlocal seen, is_busy
            if is_after or is_busy or place is not one._store.place:  # noqa: B023
                return
            if threading.current_thread().name == "agentd-store-lease":
                return
            seen += 1
            if seen == at:  # noqa: B023
                is_busy = True
                other = ObjectPlace(url)  # noqa: B023
                for holder in other.names("holders"):
                    other.remove(holder)
                two = open_at(url, f"two-{at}")  # noqa: B023
                (two._local.workspace_dir / "file").write_bytes(b"two")
                two.snapshot("two")
                twos.append(two)  # noqa: B023
                is_busy = False

        with each_request(monkeypatch, take_over):
            try:
                one.snapshot("one")
                is_kept = True
            except LeaseLostError:
                is_kept = False
        for two in twos:
            two.close()
        with suppress(LeaseLostError):
            one.close()
        labels = [snapshot.label for snapshot in open_at(url, f"three-{at}").list_snapshots()]
        assert labels == (["one"] if is_kept else []) + (["two"] if twos else [])
        if not twos:
            break
    assert at > 5
