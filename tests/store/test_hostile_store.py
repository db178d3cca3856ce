"""Whoever can write to a store without a key reaches nothing of its readers, and ends them by a `StoreError` alone."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
from agentd.errors import SnapshotError
from agentd_snapshots.packs import pack_name
from agentd_snapshots.tree import FileTree
from agentd_store import StoredSnapshots, StoreError
from agentd_store.collecting import collect_garbage
from agentd_store.holder import MAX_LEASE_S, StoreHolder
from agentd_store.listing import conversation_rows, find_damage, store_rows
from agentd_store.opened import OpenedStore, open_store
from agentd_store.records import LogEntry

Open = Callable[..., StoredSnapshots]
UP = "../../../../outside"


@attrs.frozen
class WrittenStore:
    """A store with one checkpoint, and what its last entry says, to be said otherwise."""

    url: str
    store: OpenedStore
    name: str
    said: dict[str, Any]
    root: Path

    def say(self, said: object) -> None:
        data = said if isinstance(said, bytes) else msgspec.msgpack.encode(said)
        self.store.place.write(self.name, self.store.seal.close(self.name, data))

    def put(self, content: bytes) -> str:
        return self.store.objects.put(
            ("c1", 1), {self.store.seal.name_of(content): lambda: content}
        ).popitem()[1]


@pytest.fixture
def written(file_url: str, open_at: Open, tmp_path: Path) -> WrittenStore:
    one = open_at(file_url)
    (tmp_path / "one" / "workspace" / "a").write_bytes(b"content" * 1000)
    one.snapshot("kept", attachment=b"attached")
    one.close()
    store = open_store(file_url)
    name = "conversations/c1/log/0000000002"
    data = store.place.read(name)
    assert data is not None
    said = msgspec.msgpack.decode(store.seal.open(name, data), strict=False)
    return WrittenStore(file_url, store, name, said, Path(file_url.removeprefix("file://")))


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def use(written: WrittenStore, open_at: Open, tmp_path: Path) -> None:
    """Do all that there is to do with it; raise what went wrong first. Nothing but cache and store is written to."""
    before = {name for name in everything(tmp_path) if not name.startswith(("two/cache", "remote"))}
    errors: list[SnapshotError] = []
    opened: list[StoredSnapshots] = []

    def attempt(action: Callable[[], object]) -> None:
        try:
            action()
        except SnapshotError as error:
            errors.append(error)

    attempt(lambda: opened.append(open_at(written.url, "two")))
    before |= {"two", "two/workspace"}
    for two in opened:
        attempt(two.list_snapshots)
        attempt(lambda two=two: two.attachment("kept"))
        attempt(lambda two=two: two.restore("kept"))
        attempt(lambda two=two: two.copy_to("kept", tmp_path / "two" / "workspace" / "copy"))
    after = {name for name in everything(tmp_path) if not name.startswith(("two/cache", "remote"))}
    assert {name for name in after - before if not name.startswith("two/workspace")} == set()
    for two in opened:
        attempt(lambda two=two: two.snapshot("more"))
        attempt(two.close)
    attempt(lambda: store_rows(written.store))
    attempt(lambda: conversation_rows(written.store, "c1"))
    attempt(lambda: errors.extend(map(StoreError, find_damage(written.store, lambda done, count: None))))
    attempt(lambda: collect_garbage(written.store, lease_s=1.0))
    assert all(str(error).isprintable() for error in errors)
    if errors:
        raise errors[0]


def changed(said: dict[str, Any], **values: Any) -> dict[str, Any]:
    return said | {"checkpoint": said["checkpoint"] | values}


PARTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "an id that goes up": lambda said: changed(said, id=UP),
    "an absolute id": lambda said: changed(said, id="/tmp/outside"),
    "an id with a slash": lambda said: changed(said, id="turn_0001/x"),
    "an empty id": lambda said: changed(said, id=""),
    "an id with a zero byte": lambda said: changed(said, id="turn_0001\0"),
    "a label with an escape": lambda said: changed(said, label="kept\x1b[2J"),
    "a negative turn": lambda said: changed(said, turn=-1),
    "a giant turn": lambda said: changed(said, turn=2**63),
    "no time": lambda said: changed(said, timestamp=float("nan")),
    "a time beyond all": lambda said: changed(said, timestamp=1e300),
    "no list of files": lambda said: changed(said, tree=[]),
    "a list of files of many parts": lambda said: changed(said, tree=said["checkpoint"]["tree"] * 1000),
    "an object's name that goes up": lambda said: changed(said, tree=[UP]),
    "an attachment's name that goes up": lambda said: changed(said, attachment=UP),
    "a pack that there is not": lambda said: changed(said, needs=[99]),
    "a pack's number below zero": lambda said: changed(said, needs=[-1]),
    "a pack's name that goes up": lambda said: said | {"packs": {1: {**said["packs"][1], "name": UP}}},
    "a pack of another name": lambda said: said | {"packs": {1: {**said["packs"][1], "name": "0" * 32 + ".pack"}}},
    "a pack's part that goes up": lambda said: said | {"packs": {1: {**said["packs"][1], "parts": [UP]}}},
    "a pack without parts": lambda said: said | {"packs": {1: {**said["packs"][1], "parts": []}}},
    "a pack twice as long": lambda said: said | {
        "packs": {1: {**said["packs"][1], "parts": said["packs"][1]["parts"] * 2}}
    },
    "a giant number of a pack": lambda said: said | {"packs": {2**63: said["packs"][1]}},
    "a holder that goes up": lambda said: said | {"kind": "opened", "holder": UP},
    "no entry": lambda said: [1, 2],
    "a text for an entry": lambda said: "x",
    "wrong types": lambda said: changed(said, turn="one"),
    "nothing": lambda said: b"",
    "no text": lambda said: msgspec.msgpack.encode(changed(said, label="kept")).replace(b"kept", b"k\xffpt"),
    "depth": lambda said: b"\x81\xaacheckpoint\x81\xa5stats\x81\xa1a" + b"\x91" * 100_000 + b"\xc0",
    "a long list that is not there": lambda said: b"\xdd\xff\xff\xff\xff",
}  # fmt: skip


@pytest.mark.parametrize("what", PARTS)
def test_a_record_that_no_agentd_writes_is_refused(
    written: WrittenStore, open_at: Open, tmp_path: Path, what: str
) -> None:
    written.say(PARTS[what](written.said))
    with pytest.raises(SnapshotError):
        use(written, open_at, tmp_path)


def test_the_state_in_an_entry_is_looked_at_like_the_entry(written: WrittenStore, open_at: Open) -> None:
    record = written.said["checkpoint"] | {"id": UP}
    entry = {"kind": "closed", "holder": "", "state": {"checkpoints": [record]}}
    for number in range(3, 33):
        name = f"conversations/c1/log/{number:010d}"
        said = entry if number == 32 else {"kind": "closed", "holder": ""}
        written.store.place.write(name, written.store.seal.close(name, msgspec.msgpack.encode(said)))
    with pytest.raises(StoreError, match="is no id of a checkpoint"):
        open_at(written.url, "two")


@pytest.mark.parametrize("number", [4, 50, 9_999_999_999])
def test_an_entry_with_a_gap_before_it_is_a_loss(written: WrittenStore, open_at: Open, number: int) -> None:
    name = f"conversations/c1/log/{number:010d}"
    entry = written.store.seal.close(name, msgspec.msgpack.encode(LogEntry("closed", "")))
    written.store.place.write(name, entry)
    written.store.place.remove("conversations/c1/log/0000000003")
    with pytest.raises(StoreError, match="has lost"):
        open_at(written.url, "two")


def tree_of(change: Callable[[list[Any]], object]) -> Callable[[bytes], bytes]:
    def make(encoded: bytes) -> bytes:
        folders = msgspec.msgpack.decode(encoded)
        change(folders)
        return msgspec.msgpack.encode(folders)

    return make


# a folder: parent, name, mode, uid, gid, mtime_ns, files
# a file: name, mode, uid, gid, mtime_ns, size, digests, runs, target
TREES: dict[str, Callable[[bytes], bytes]] = {
    "a name that goes up": tree_of(lambda folders: folders[0][6][0].__setitem__(0, b"../../outside")),
    "two entries of a name": tree_of(lambda folders: folders[0][6].append(folders[0][6][0])),
    "a link and a folder of a name": tree_of(
        lambda folders: (
            folders[0][6].append([b"d", 0o777, 0, 0, 0, 0, b"", [], b"../../.."]),
            folders.append([0, b"d", 0o755, 0, 0, 0, [], []]),
        )
    ),
    "half a digest": tree_of(lambda folders: folders[0][6][0].__setitem__(6, b"x" * 40)),
    "runs without end": tree_of(lambda folders: folders[0][6][0].__setitem__(7, [0, 2**62])),
    "odd runs": tree_of(lambda folders: folders[0][6][0].__setitem__(7, [0])),
    "a negative size": tree_of(lambda folders: folders[0][6][0].__setitem__(5, -1)),
    "a time beyond all": tree_of(lambda folders: folders[0][6][0].__setitem__(4, 2**64 - 1)),
    "a target with a zero byte": tree_of(lambda folders: folders[0][6].append([b"d", 0, 0, 0, 0, 0, b"", [], b"\0"])),
    "no folders": lambda encoded: b"\x90",
    "its own parent": tree_of(lambda folders: folders.append([1, b"d", 0o755, 0, 0, 0, [], []])),
    "no tree": lambda encoded: b"\xc0" * 10,
    "a digest that there is not": tree_of(lambda folders: folders[0][6][0].__setitem__(6, b"x" * 32)),
    "a size beyond all": tree_of(lambda folders: folders[0][6][0].__setitem__(5, 2**63 - 1)),
    "a name beyond all": tree_of(lambda folders: folders[0][6][0].__setitem__(0, b"x" * 5000)),
    "an odd mode": tree_of(lambda folders: folders[0][6][0].__setitem__(1, 2**63)),
    "a user beyond all": tree_of(lambda folders: folders[0][6][0].__setitem__(2, 2**63)),
    "a file that runs as its owner": tree_of(lambda folders: folders[0][6][0].__setitem__(1, 0o4755)),
    "a folder that hands on its group": tree_of(lambda folders: folders[0].__setitem__(2, 0o2755)),
    "a negative user": tree_of(lambda folders: folders[0][6][0].__setitem__(2, -5)),
}  # fmt: skip


@pytest.mark.parametrize("what", TREES)
def test_a_list_of_files_that_no_agentd_writes_is_refused(
    written: WrittenStore, open_at: Open, tmp_path: Path, what: str
) -> None:
    encoded = written.store.objects.get(written.said["checkpoint"]["tree"][0])
    FileTree.decode(encoded)
    name = written.put(TREES[what](encoded))
    written.say(changed(written.said, tree=[name], tree_name=name))
    with pytest.raises(SnapshotError):
        use(written, open_at, tmp_path)


@pytest.mark.parametrize("at", [-struct.calcsize("<Q32s8s") - 1, 20], ids=["a length", "a content"])
def test_a_pack_is_taken_by_its_content_alone_and_a_bad_one_is_not_kept(
    at: int, written: WrittenStore, open_at: Open, tmp_path: Path
) -> None:
    parts = written.said["packs"][1]["parts"]
    data = bytearray(b"".join(map(written.store.objects.get, parts)))
    data[at] ^= 0xFF
    written.say(
        written.said | {"packs": {1: written.said["packs"][1] | {"parts": [written.put(bytes(data))]}}}
    )
    two = open_at(written.url, "two")
    with pytest.raises(StoreError, match="is damaged"):
        two.restore("kept")
    two.close()
    written.say(written.said)
    two = open_at(written.url, "two")
    two.restore("kept")
    assert (tmp_path / "two" / "workspace" / "a").read_bytes() == b"content" * 1000


@pytest.mark.parametrize(
    "name",
    [
        "conversations/c1/log/x",
        "conversations/c1/log/0000000003x",
        "conversations/c1/other",
        "conversations/loose",
        "conversations/.hidden/log/0000000001",
        "conversations/a b\x1b/log/0000000001",
        "pins/loose",
        "pins/.x/1",
        "pins/c1/x",
        "pins/c1/1/2",
        "pins/c1/" + "9" * 200,
        "objects/loose",
        "objects/ab/abc/def",
        "garbage/x/y",
        "holders/x",
    ],
)
def test_what_else_lies_in_a_store_harms_nobody(
    written: WrittenStore, open_at: Open, tmp_path: Path, name: str
) -> None:
    data = written.store.seal.close(
        name, msgspec.msgpack.encode((1.0, ["x"]) if "garbage" in name else ["x"])
    )
    written.store.place.write(name, data)
    use(written, open_at, tmp_path)


def test_a_link_or_a_pipe_for_an_object_is_refused(
    written: WrittenStore, open_at: Open, tmp_path: Path
) -> None:
    path = written.root / written.name
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(StoreError, match="could not read"):
        use(written, open_at, tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="is no regular file"):
        use(written, open_at, tmp_path)


@pytest.mark.parametrize(
    "about",
    [
        b"[" * 100_000,
        b"{}",
        b"[]",
        b'{"format": 1, "check": 7}',
        b'{"format": 1, "check": "zz"}',
        json.dumps({"format": "x" * 10_000, "check": ""}).encode(),
        b"\xff",
        b" " * (1 << 20),
    ],
)
def test_what_a_store_says_of_itself_may_be_anything(file_url: str, about: bytes) -> None:
    open_store(file_url).place.write("about.json", about)
    for key in ("", "00" * 32):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            open_store(file_url, key=key)
        assert type(caught.value).__name__ in ("StoreError", "ConfigError")
        assert len(str(caught.value)) < 1000


def test_an_object_that_unpacks_to_more_than_it_may_have_is_not_unpacked(file_url: str) -> None:
    import zstandard

    store = open_store(file_url)
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(32) + bytes(1 << 20))
    large = store.seal.close("x", bytes(1 << 20))
    for data in (large[:9] + frame, large):
        with pytest.raises(StoreError, match="more than 1000 bytes"):
            store.seal.open("x", data, most=1000)
    assert len(store.seal.open("x", large)) == 1 << 20


@pytest.mark.parametrize("lease", [1e300, float("inf"), float("nan"), "x", None, [], -1, 0, True, 10**400])
def test_a_holder_may_say_any_lease(lease: Any) -> None:
    from agentd_store.holder import _lease_of

    assert 0 < _lease_of({"lease_s": lease}, 30.0) <= MAX_LEASE_S


def test_what_a_holder_says_of_itself_is_shown_only_if_it_can_be(file_url: str) -> None:
    store = open_store(file_url)
    holder = StoreHolder.enter(store.place, 1.0)
    store.place.write("holders/x", json.dumps({"pid": 1, "host": "\x1b[2Jhost"}).encode())
    store.place.write("holders/deep", b"[" * 4000)
    assert (holder.describe("x"), holder.describe("deep")) == ("x", "deep")
    assert not holder.is_alive("deep")
    holder.leave()


def test_the_name_of_a_pack_is_that_of_its_content(written: WrittenStore, tmp_path: Path) -> None:
    path = tmp_path / "pack"
    path.write_bytes(b"".join(map(written.store.objects.get, written.said["packs"][1]["parts"])))
    assert pack_name(path) == written.said["packs"][1]["name"]
