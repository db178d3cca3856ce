"""All places are taken: which sandbox is put away for a newcomer, and what its client finds when it comes back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd_mcp_server.making_room import Seat, who_makes_room
from hypothesis import given, strategies as st
from mcp import Client
from mcp_serving import HELLO, Wire, served, text

SEATS = st.lists(
    st.builds(
        Seat,
        name=st.uuids().map(str),
        address=st.sampled_from("abc"),
        idle_s=st.none() | st.floats(0, 1e6),
    ),
    max_size=8,
)


@given(SEATS, st.sampled_from("abcd"), st.floats(0, 1000))
def test_who_is_at_work_or_was_so_just_now_never_makes_room_and_the_longest_idle_does(
    seats: list[Seat], address: str, grace_s: float
) -> None:
    name, wait_s = who_makes_room(seats, address, grace_s=grace_s)
    idle_s = {seat.name: seat.idle_s for seat in seats}
    if name is None:
        assert wait_s >= 1
        assert all(s is None or s < 10 * grace_s for s in idle_s.values())
    else:
        assert wait_s == 0
        assert (idle_s[name] or 0.0) >= grace_s
        own = next(seat.address for seat in seats if seat.name == name)
        others = [seat.idle_s for seat in seats if seat.address == own and seat.idle_s is not None]
        assert idle_s[name] == max(others)


def test_an_address_that_opens_one_after_the_other_displaces_its_own_and_not_those_of_who_has_fewer() -> None:
    seats = [Seat(str(number), "one of many", 61.0 + number) for number in range(31)]
    modest = Seat("modest", "modest", 599.0)
    assert who_makes_room([*seats, modest], "one of many", grace_s=60) == ("30", 0.0)
    assert who_makes_room([*seats, modest], "newcomer", grace_s=60) == ("modest", 0.0)  # as it has no more
    late = [Seat(seat.name, seat.address, 59.5) for seat in seats]
    assert who_makes_room([*late, modest], "one of many", grace_s=60) == (None, 1.0)
    assert who_makes_room([*late, Seat("modest", "modest", 600.0)], "one of many", grace_s=60)[0] == "modest"
    assert who_makes_room([Seat("busy", "x", None)], "y", grace_s=60) == (None, 15.0)


def run(wire: Wire, number: int, tool: str, code: str) -> dict[str, Any]:
    """Make a call and return its structured result."""
    result: dict[str, Any] = wire.run(number, tool, code=code)["result"]
    return {"text": result["content"][0]["text"], **result.get("structuredContent", {})}


@pytest.mark.anyio
@pytest.mark.slow  # it starts a server
async def test_clients_that_left_make_room_and_find_their_files_and_shell_when_they_come_back(
    tmp_path: Path,
) -> None:
    def comes(url: str) -> Wire:
        wire = Wire(url)
        wire.begin()
        return wire

    def leaves_something(wire: Wire) -> None:
        run(wire, 1, "run_bash", "mkdir sub; cd sub; x=seven; f() { echo f of $x; }; echo kept > file")
        run(wire, 2, "run_python", "y = 1")
        wire.hang_up()

    def comes_back(wire: Wire) -> None:
        back = run(wire, 3, "run_bash", "f; cat file")
        assert back["output"] == "f of seven\nkept\n"
        assert "put away, as its place was needed for another client" in back["note"]
        assert "the shell's directory, variables and functions are as they were" in back["text"]
        again = run(wire, 4, "run_python", "print('y' in globals())")
        assert (again["text"], "note" in again) == ("False", False)  # it is told once
        wire.hang_up()

    def is_told(url: str) -> None:
        wire = Wire(url)
        refused = wire.post("initialize", HELLO, number=0)
        assert (refused.status, int(refused.headers["retry-after"])) == (503, 15)
        assert "all sandboxes are in use; try again in 15 s" in refused.read().decode()
        assert wire.post("ping", number=0).status == 400  # nothing else is looked at
        wire.hang_up()

    thread = anyio.to_thread.run_sync
    with served(tmp_path, "--max-sandboxes", "2", "--keep-idle", "0") as url:
        async with Client(url, mode="legacy") as listening:  # it has a stream open all the time
            await listening.call_tool("run_python", {"code": "mine = 1"})
            first = await thread(comes, url)
            await thread(leaves_something, first)
            second = await thread(comes, url)
            assert (await thread(run, second, 1, "run_bash", "echo here"))["output"] == "here\n"
            await thread(second.hang_up)
            await thread(comes_back, first)
            await thread(run, second, 2, "run_bash", "cat")  # it comes back in turn, and then it has a job
            job = "import subprocess\nsubprocess.run(['job', 'start', 'j', '--', 'sleep', '1000'])"
            await thread(run, second, 3, "run_python", job)
            await thread(second.hang_up)
            await thread(is_told, url)
            async with Client(url) as modern:
                told = await modern.call_tool("run_bash", {"code": "true", "sandbox": "another"})
            assert told.is_error
            assert "all 2 sandboxes are in use, and none has been idle for 0 s; try again in 15 s" in text(
                told
            )
            await thread(run, second, 4, "run_bash", "job signal j KILL; job wait j")
            await thread(second.hang_up)
            async with Client(url) as modern:
                named = {"code": "echo $PWD", "sandbox": "another"}
                assert text(await modern.call_tool("run_bash", named)).endswith("/another")
                async with Client(url) as other:
                    more = {"code": "echo $PWD", "sandbox": "more"}
                    assert text(await other.call_tool("run_bash", more)).endswith("/more")
                back = await modern.call_tool("run_bash", named)
                assert json.dumps(back.structured_content).count("was put away") == 1
                wrong = {"code": "print(y)", "sandbox": "another"}  # several share it: who has read that?
                assert "was put away" in text(await modern.call_tool("run_python", wrong))
                assert "was put away" not in text(await modern.call_tool("run_bash", named))
            mine = await listening.call_tool("run_python", {"code": "print(mine)"})
            assert text(mine) == "1"


@pytest.mark.anyio
@pytest.mark.slow  # it starts a server
async def test_a_call_that_runs_keeps_its_place_though_its_client_has_left(tmp_path: Path) -> None:
    def leaves(url: str) -> Wire:
        wire = Wire(url)
        wire.begin()
        wire.call(1, "run_bash", code="touch begun; until [ -e go ]; do sleep 0.05; done; echo over > done")
        return wire

    with served(tmp_path, "--max-sandboxes", "1", "--keep-idle", "0", "--reconnect", "600") as url:
        wire = await anyio.to_thread.run_sync(leaves, url)
        while not list(tmp_path.glob("w/*/begun")):
            await anyio.sleep(0.02)
        wire.hang_up()
        late = Wire(url)
        assert (
            await anyio.to_thread.run_sync(lambda: late.post("initialize", HELLO, number=0))
        ).status == 503
        late.hang_up()
        (folder,) = tmp_path.glob("w/*")
        (folder / "go").touch()
        while not (folder / "done").exists():
            await anyio.sleep(0.02)
        while True:  # the call is over a moment later
            try:
                await anyio.to_thread.run_sync(late.begin)
                break
            except ConnectionRefusedError:
                late.hang_up()
                await anyio.sleep(0.02)
        assert (await anyio.to_thread.run_sync(run, late, 1, "run_bash", "echo here"))["output"] == "here\n"
        late.hang_up()
