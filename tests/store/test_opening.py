"""How a store is opened: its key, and what is said about one that cannot be used."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from agentd.errors import ConfigError
from agentd_store import StoredSnapshots, StoreError
from agentd_store.opened import open_store, try_store
from agentd_store.place import ObjectPlace

Open = Callable[..., StoredSnapshots]
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = bytes(range(1, 33)).hex()


def files_of(url: str) -> dict[Path, bytes]:
    root = Path(url.removeprefix("file://"))
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_with_a_key_nothing_that_is_kept_can_be_read_without_it(
    file_url: str, open_at: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_STORE_KEY", KEY)
    store = open_at(file_url)
    (tmp_path / "one" / "workspace" / "secret-name").write_text("the secret content")
    store.snapshot("secret label", attachment=b"the secret attachment")
    store.close()
    for path, data in files_of(file_url).items():
        assert b"secret" not in data, path
        assert b"secret" not in os.fsencode(path.name)
    two = open_at(file_url, "two")
    two.restore("secret label")
    assert (tmp_path / "two" / "workspace" / "secret-name").read_text() == "the secret content"
    assert two.attachment(1) == b"the secret attachment"


def test_another_key_none_or_one_too_many_is_refused(file_url: str, tmp_path: Path) -> None:
    open_store(file_url, key=KEY)
    with pytest.raises(ConfigError, match="is encrypted with another key"):
        open_store(file_url, key=OTHER)
    with pytest.raises(ConfigError, match="no key was given: set AGENTD_STORE_KEY"):
        open_store(file_url)
    plain = f"file://{tmp_path}/plain"
    open_store(plain)
    with pytest.raises(ConfigError, match="is not encrypted, and a key was given"):
        open_store(plain, key=KEY)


@pytest.mark.parametrize("key", ["short", "ä" * 32, "0" * 63, base64.b64encode(b"x" * 31).decode()])
def test_what_is_no_key_is_refused_and_not_shown(file_url: str, key: str) -> None:
    with pytest.raises(ConfigError, match="must be 32 bytes as base64 or 64 hexadecimal digits") as caught:
        open_store(file_url, key=key)
    assert key not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("/srv/agents", "must be a URL with a bucket or folder"),
        ("file://srv/agents", "must be absolute, with three slashes: 'file:///srv/agents'"),
        ("s3://", "must be a URL with a bucket or folder"),
        ("http://127.0.0.1/agents", "'http' cannot be used"),
        ("nonsense://agents", "'nonsense' cannot be used"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        open_store(url)


def test_a_store_is_tried_without_making_one(file_url: str, s3: str, tmp_path: Path) -> None:
    for url in (file_url, s3):
        assert not try_store(url)
        with pytest.raises(StoreError, match="there is no store at"):
            open_store(url, make=False)
    assert not Path(file_url.removeprefix("file://")).exists(), "nor is a folder left"
    for url in (file_url, s3):
        place = open_store(url).place
        before = place.names("")
        assert try_store(url)
        assert place.names("") == before


def test_a_store_that_cannot_be_used_is_found_out_by_a_try(
    file_url: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(file_url, key=KEY)
    with pytest.raises(ConfigError, match="no key was given: set AGENTD_STORE_KEY"):
        try_store(file_url)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/store' could not "):
        try_store(f"file://{tmp_path}/file/store")
    with pytest.raises(StoreError, match="make the bucket or folder, or correct the URL"):
        try_store("s3://no-such-bucket/agents")
    monkeypatch.setattr(ObjectPlace, "create", lambda *_: True)
    with pytest.raises(ConfigError, match="writes over an object"):
        try_store(s3)


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "x" * 129, "é"])
def test_what_is_no_name_of_a_conversation_is_refused(file_url: str, open_at: Open, name: str) -> None:
    with pytest.raises(ConfigError, match="must have 1 to 128 letters"):
        open_at(file_url, conversation=name)


def test_a_bucket_that_is_not_there_and_a_server_that_is_not_reached_are_told(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match="make the bucket or folder, or correct the URL"):
        open_store("s3://bucket-that-is-not-there/agents")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="check that it can be reached from here"):
        open_store(
            s3, storage_options={"config_kwargs": {"connect_timeout": 1, "retries": {"max_attempts": 0}}}
        )


def test_a_folder_that_may_not_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"could not .*; check that it can be reached"):
        open_store(f"file://{tmp_path}/file/agents")


def test_a_server_that_writes_over_what_is_there_is_refused(
    file_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_anyway(place: ObjectPlace, name: str, data: bytes) -> bool:
        place.write(name, data)
        return True

    monkeypatch.setattr(ObjectPlace, "create", write_anyway)
    with pytest.raises(ConfigError, match="writes over an object"):
        open_store(file_url)
    assert files_of(file_url) == {}


def test_a_store_of_a_later_format_is_refused(file_url: str) -> None:
    open_store(file_url)
    about = Path(file_url.removeprefix("file://"), "about.json")
    about.write_text(about.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(StoreError, match="has format 2, this agentd reads format 1"):
        open_store(file_url)


def test_an_object_that_is_damaged_swapped_or_lost_is_told_and_the_workspace_stays(
    file_url: str, open_at: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_STORE_KEY", KEY)
    store = open_at(file_url)
    (tmp_path / "one" / "workspace" / "a").write_bytes(os.urandom(100_000))
    store.snapshot("kept")
    store.close()
    objects = Path(file_url.removeprefix("file://"), "objects")
    large, small = sorted(
        (path for path in objects.rglob("*") if path.is_file()), key=lambda path: -path.stat().st_size
    )
    whole = large.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    for number, (data, told) in enumerate(
        [
            (bytes(damaged), "damaged, or was encrypted with another key"),
            (small.read_bytes(), "damaged, or was encrypted with another key"),
            (whole[:40], "damaged"),
            (b"", "is damaged"),
            (None, "has lost the object"),
        ]
    ):
        large.unlink(missing_ok=True)
        if data is not None:
            large.write_bytes(data)
        two = open_at(file_url, f"two{number}")
        workspace = tmp_path / f"two{number}" / "workspace"
        (workspace / "mine").write_text("mine")
        two.snapshot()  # or the folder would be one in which the conversation never was
        with pytest.raises(StoreError, match=told):
            two.restore("kept")
        assert [path.name for path in workspace.iterdir()] == ["mine"]
        two.close()


def test_who_may_only_read_is_told_what_was_refused_first(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError("Access Denied")

    file_system = ObjectPlace(s3)._fs
    monkeypatch.setattr(file_system, "pipe_file", refused)
    monkeypatch.setattr(file_system, "rm_file", refused)
    with pytest.raises(
        StoreError, match=r"could not create 'probe-\w+': Access Denied; .*remove and list below"
    ):
        open_store(s3)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("An error occurred (InsufficientStorage): The bucket is full.", "make room in the store"),
        ("An error occurred (QuotaExceeded): The quota has been exceeded.", "make room in the store"),
        ("An error occurred (SlowDown): Please reduce your request rate.", "fewer sessions at once"),
        ("An error occurred (ExpiredToken): The provided token has expired.", "have not expired"),
        ("An error occurred (InternalError): fullness unknown", "check that it can be reached"),
    ],
)
def test_what_a_provider_says_has_its_next_step(file_url: str, said: str, told: str) -> None:
    with (
        pytest.raises(StoreError, match=told),
        ObjectPlace(file_url)._told("write", "a"),
    ):
        raise OSError(5, said)
