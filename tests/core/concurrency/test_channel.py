"""The channel: tasks and threads at either end."""

from __future__ import annotations

import threading

import anyio
import pytest
from agentd._concurrency.channel import Channel
from agentd._concurrency.pool import call_in_thread

pytestmark = pytest.mark.anyio


async def test_a_writer_waits_for_a_reader_that_is_behind() -> None:
    channel: Channel[int] = Channel(limit=4)
    for number in range(4):
        channel.put(number)
    assert channel.is_full()
    flowed = anyio.Event()

    async def write() -> None:
        await channel.flow()
        flowed.set()

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.lowlevel.checkpoint()
        assert not flowed.is_set()
        assert await channel.batch() == [0, 1, 2, 3]
        await flowed.wait()
    channel.close(KeyError("end"))
    with pytest.raises(KeyError):
        await channel.batch()
    assert await channel.batch() == []


async def test_a_thread_reads_what_a_loop_writes_and_catches_up() -> None:
    channel: Channel[int] = Channel(limit=4)
    got: list[int] = []

    def read() -> None:
        while batch := channel.batch_sync():
            got.extend(batch)

    thread = threading.Thread(target=read)
    for number in range(1000):
        channel.put(number)
        if number == 4:
            thread.start()
        if number >= 4 and channel.is_full():
            await channel.flow()
    channel.close()
    await anyio.to_thread.run_sync(thread.join)
    assert got == list(range(1000))


async def test_a_loop_reads_what_a_thread_writes_and_the_thread_waits_for_it() -> None:
    channel: Channel[int] = Channel(limit=4)
    got: list[int] = []
    longest = 0

    def write() -> None:
        for number in range(1000):
            channel.put(number)
            channel.flow_sync()
        channel.close(KeyError("end"))

    thread = threading.Thread(target=write)
    thread.start()

    async def read() -> None:
        nonlocal longest
        while batch := await channel.batch():
            longest = max(longest, len(batch))
            got.extend(batch)

    with pytest.raises(KeyError):
        await read()
    thread.join()
    assert got == list(range(1000))
    assert longest <= 4


async def test_several_writers_go_on_when_there_is_room() -> None:
    channel: Channel[int] = Channel(limit=1)
    channel.put(0)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(channel.flow)
            await anyio.wait_all_tasks_blocked()
            assert await channel.batch() == [0]


async def test_a_thread_that_waits_for_room_goes_on_when_the_reader_leaves() -> None:
    channel: Channel[int] = Channel(limit=1)
    channel.put(0)
    thread = threading.Thread(target=channel.flow_sync)
    thread.start()
    channel.close()
    thread.join(10)
    assert not thread.is_alive()
    channel.put(1)
    assert await channel.batch() == [0]
    assert await channel.batch() == []


async def test_room_is_told_in_the_loop_of_who_asked() -> None:
    channel: Channel[int] = Channel(limit=2)
    here, told = threading.get_ident(), anyio.Event()

    def room() -> None:
        assert threading.get_ident() == here
        told.set()

    channel.when_room(room)
    for number in range(2):
        channel.put(number)
    assert await call_in_thread(channel.batch_sync) == [0, 1]
    with anyio.fail_after(10):
        await told.wait()


async def test_a_channel_may_be_closed_in_the_middle_of_a_put() -> None:
    channel: Channel[object] = Channel()
    with channel._lock:  # as a `put` holds it when the garbage collector ends the reader
        channel.close()
    channel.put(1)
    assert await channel.batch() == []
