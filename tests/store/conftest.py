"""What the tests of the store share: places for it, among them a real S3 server on loopback."""

from __future__ import annotations

import secrets
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from agentd_store import StoredSnapshots
from gs_server import gs_server
from s3_server import s3_server

Open = Callable[..., StoredSnapshots]


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("AGENTD_STORE_KEY", raising=False)


@pytest.fixture(scope="session")
def s3_address() -> Iterator[str]:
    """The address of an S3 server on loopback, in a process of its own."""
    with s3_server() as address:
        yield address


@pytest.fixture
def s3(s3_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store in a new bucket of that server."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket = f"bucket-{secrets.token_hex(6)}"
    urllib.request.urlopen(urllib.request.Request(f"{s3_address}/{bucket}", method="PUT")).close()
    return f"s3://{bucket}/agents"


@pytest.fixture(scope="session")
def gs_address() -> Iterator[str]:
    """The address of a server of Google Cloud Storage's API on loopback, in a process of its own."""
    pytest.importorskip(
        "gcsfs", reason="gcsfs is in an environment of its own: scripts/test-alone store -k gs"
    )
    with gs_server() as address:
        yield address


@pytest.fixture
def gs(gs_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a store in a new bucket of that server."""
    import gcsfs

    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gs_address)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks Google itself for a bucket's kind
    bucket = f"bucket-{secrets.token_hex(6)}"
    gcsfs.GCSFileSystem(token="anon", skip_instance_cache=True).mkdir(bucket)
    return f"gs://{bucket}/agents"


@pytest.fixture(params=["file", "memory", "s3", "gs"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store, of each kind."""
    if request.param in ("s3", "gs"):
        return str(request.getfixturevalue(request.param))
    return (
        f"file://{tmp_path}/remote" if request.param == "file" else f"memory://{secrets.token_hex(6)}/agents"
    )


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    """The URL of an empty store in a folder."""
    return f"file://{tmp_path}/remote"


@pytest.fixture
def open_at(tmp_path: Path) -> Iterator[Open]:
    """Opens a conversation as a machine does that has a workspace and a cache of its own, both named after it."""
    opened: list[StoredSnapshots] = []

    def make(url: str, machine: str = "one", conversation: str = "c1", **options: object) -> StoredSnapshots:
        workspace = tmp_path / machine / "workspace"
        workspace.mkdir(parents=True, exist_ok=True)
        options = {"base_dir": tmp_path / machine / "cache", "lease_s": 1.0} | options
        opened.append(StoredSnapshots(workspace, url, conversation, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for one in opened:
        if one.is_open:
            one.close()
