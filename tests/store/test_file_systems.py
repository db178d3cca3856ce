"""Places of a process that mean the same file system share one; its client is too large for each session."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from agentd_store import file_systems
from agentd_store.place import ObjectPlace


def test_sessions_of_one_process_share_the_client_of_a_server(s3: str) -> None:
    one, two = ObjectPlace(f"{s3}/one"), ObjectPlace(f"{s3}/two")
    assert one._fs is two._fs
    assert one.create("name", b"1")
    assert two.names("") == []


def test_other_options_or_another_environment_have_another_one(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ObjectPlace(s3)
    assert ObjectPlace(s3, {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]})._fs is not first._fs
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another")
    assert ObjectPlace(s3)._fs is not first._fs


def test_who_was_refused_goes_on_with_the_credentials_of_that_time(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that lasts is refused when its credentials have expired, and others may be there with its next turn."""
    first = ObjectPlace(s3)
    old = first._fs

    def refused(*arguments: object, **options: object) -> bytes:
        raise PermissionError("the token has expired")

    first._fs.cat_file = refused
    for age_s in (float("inf"), 0.0):
        monkeypatch.setattr(file_systems, "RENEW_S", age_s)
        assert first._fs is old, "it is new: it is not made again and again"
        with pytest.raises(OSError, match="check that the credentials are there"):
            first.read("name")
    assert first.read("name") is None
    assert ObjectPlace(s3)._fs is first._fs is not old


def test_a_file_system_that_nobody_uses_is_gone() -> None:
    code = """
import gc
from agentd_store import file_systems
from agentd_store.place import ObjectPlace
place = ObjectPlace("memory://m")
assert len(file_systems._shared) == 1
del place
gc.collect()
assert not file_systems._shared
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
