"""The journal of a map: what it keeps, in which store, and what it does when that does not take it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.types import Usage
from agentd_ray import map_journal
from agentd_ray.map_journal import MapJournal
from agentd_ray.map_records import JournalEntry, ResultRecord
from agentd_ray.map_tasks import map_tasks
from agentd_store.errors import StoreError

KEY = "ab" * 32


@pytest.fixture(params=["plain", "encrypted"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.delenv("AGENTD_STORE_KEY", raising=False)
    if request.param == "encrypted":
        monkeypatch.setenv("AGENTD_STORE_KEY", KEY)
    monkeypatch.setattr(map_journal, "_PAUSE_S", 0.0)
    return f"file://{tmp_path}/store"


def record(id: str, **more: Any) -> ResultRecord:
    (task,) = map_tasks([{"id": id, "task": "do it"}])
    return ResultRecord(id, task.digest, "answered", **more)


def opened(url: str, name: str = "m", *ids: str) -> MapJournal:
    journal = MapJournal(url, name, lease_s=1.0)
    journal.open(map_tasks([{"id": id, "task": "do it"} for id in ids]))
    return journal


def files(url: str) -> list[Path]:
    return sorted(Path(url.removeprefix("file://")).glob("maps/m/log/*"))


@pytest.mark.anyio
async def test_what_it_keeps_is_there_for_the_next_one(url: str) -> None:
    first = opened(url, "m", "a", "b")
    await first.add(record("a", text="äöü", usage={"input_tokens": 3, "cost_usd": 0.5}))
    first.close()
    second = opened(url, "m", "a", "b")
    one, two = map_tasks([{"id": "a", "task": "do it"}, {"id": "b", "task": "do it"}])
    known = second.known(one)
    assert known is not None
    assert (known.text, known.used()) == ("äöü", Usage(input_tokens=3, cost_usd=0.5))
    assert second.known(two) is None
    assert second.known(map_tasks([{"id": "a", "task": "do another thing"}])[0]) is None
    second.close()


@pytest.mark.anyio
async def test_results_that_come_at_once_are_kept_together(url: str) -> None:
    journal = opened(url)
    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(journal.add, record(f"t{number}"))
    assert len(files(url)) < 20
    journal.close()
    assert len(opened(url).results) == 200


def failing(journal: MapJournal, *, written: bool, times: int) -> list[str]:
    """Have the store fail at entries, before they are written or after."""
    create: Callable[[str, bytes], bool] = journal._place.create
    tried: list[str] = []

    def create_or_fail(name: str, data: bytes) -> bool:
        tried.append(name)
        if len(tried) > times:
            return create(name, data)
        if written:
            create(name, data)
        raise StoreError("the network is gone")

    journal._place.create = create_or_fail  # type: ignore[method-assign]
    return tried


@pytest.mark.anyio
@pytest.mark.parametrize("written", [True, False])
async def test_an_entry_that_the_store_does_not_confirm_is_written_once(url: str, written: bool) -> None:
    journal = opened(url)
    tried = failing(journal, written=written, times=2)
    await journal.add(record("a"))
    assert len(set(tried)) == 1
    assert len(files(url)) == 2
    await journal.add(record("b"))
    journal.close()
    assert set(opened(url).results) == {"a", "b"}


@pytest.mark.anyio
async def test_a_store_that_takes_nothing_ends_it(url: str) -> None:
    journal = opened(url)
    failing(journal, written=False, times=99)
    with pytest.raises(StoreError, match="the network is gone"):
        await journal.add(record("a"))


def test_a_lost_entry_is_told(url: str) -> None:
    opened(url).close()
    files(url)[0].unlink()
    with pytest.raises(StoreError, match="has lost 'maps/m/log/0000000001' of the map 'm'"):
        opened(url)


def test_what_is_no_entry_is_told(url: str) -> None:
    journal = opened(url)
    name = journal._name(2)
    journal._place.create(name, journal._seal.close(name, b"\x81\xa4kind\x07"))
    with pytest.raises(StoreError, match=f"'{name}' is damaged"):
        journal.read()
    bad = JournalEntry("results", "h", results=[ResultRecord("a", "d", "answered", usage={"no": 1})])
    with pytest.raises(StoreError, match="is damaged"):
        JournalEntry.decode("x", bad.encode())


def test_the_map_of_a_dead_driver_is_taken_over(url: str) -> None:
    journal = opened(url)
    assert journal._holder is not None
    other = MapJournal(url, "m", lease_s=1.0)
    other.read()
    assert other._create(JournalEntry("opened", "a-process-that-is-dead"))
    third = opened(url)
    assert third._seen_token == 3
    third.close()
    journal.close()
    assert len(files(url)) == 4, "who was taken over closes nothing"


def test_the_names_of_maps_do_not_meet(url: str) -> None:
    one, two = opened(url, "m"), opened(url, "m2")
    one.close()
    two.close()
