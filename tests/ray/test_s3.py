"""A fleet whose sessions lie in a bucket, on a real S3 server on loopback."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator

import pytest
from agentd_store import StoreError
from conftest import OpenFleet, host_pid, run
from fleet_models import StepModel, bash
from s3_server import s3_server


@pytest.fixture(scope="module")
def s3_address() -> Iterator[str]:
    with s3_server() as address:
        yield address


def test_sessions_in_a_bucket_go_on_elsewhere_and_credentials_go_only_where_they_are_given(
    open_fleet: OpenFleet, s3_address: str
) -> None:
    import s3fs

    given = {"key": "test", "secret": "test", "endpoint_url": s3_address}
    bucket = f"bucket-{secrets.token_hex(4)}"
    s3fs.S3FileSystem(skip_instance_cache=True, **given).mkdir(bucket)
    url = f"s3://{bucket}/agents"

    async def work() -> None:
        async with open_fleet(store=url, storage_options=given, key="ab" * 32) as fleet:
            session = await fleet.session(
                StepModel(bash("echo more >> notes; cat notes")), conversation_id="c1"
            )
            assert (await session.ask("One.")).text == "done"
            os.kill(await host_pid(fleet, session.node), signal.SIGKILL)
            events = [event async for event in session.run("Two.")]
            assert [e.output for e in events if e.type == "code_execution"] == ["more\nmore\n"]
        async with open_fleet(store=f"s3://{bucket}-not/agents", storage_options=given) as fleet:
            with pytest.raises(StoreError, match="make the bucket"):
                await fleet.session(StepModel())

    run(work())
