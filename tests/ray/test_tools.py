"""Tools of a session on a fleet: they travel, stay with the driver, and are not called twice where that must not be."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from agentd import tool
from agentd_policy import Question
from agentd_ray import NotSendableError
from conftest import OpenFleet, host_pid, run
from fleet_models import StepModel


def python(code: str) -> str:
    return f"```python:execute\n{code}\n```\n"


def test_a_function_travels_to_the_host_and_one_stays_with_the_driver(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        loop, seen = asyncio.get_running_loop(), []

        def pid_there() -> int:
            """Tell the process that this runs in."""
            return os.getpid()

        @tool(where="driver")
        async def pid_here(word: str) -> dict[str, object]:
            """Tell the process that this runs in."""
            seen.append((word, asyncio.get_running_loop() is loop))
            return {"pid": os.getpid(), "blob": [1, None, "x"]}

        @tool(where="driver")
        def failing() -> None:
            """Fail."""
            raise ValueError("not today")

        code = (
            "from lib.tools import pid_there, pid_here, failing\n"
            "print('there', pid_there())\nprint('here', pid_here('hi'))\n"
            "try:\n    failing()\nexcept Exception as error:\n    print(type(error).__name__, error)"
        )
        async with open_fleet() as fleet:
            session = await fleet.session(StepModel(python(code)), tools=[pid_there, pid_here, failing])
            events = [event async for event in session.run("Call.")]
            (block,) = [event for event in events if event.type == "code_execution"]
            assert block.output.splitlines() == [
                f"there {await host_pid(fleet, session.node)}",
                f"here {{'pid': {os.getpid()}, 'blob': [1, None, 'x']}}",
                "ToolError failing() raised ValueError: not today",
            ]
            assert seen == [("hi", True)]
            assert sorted(e.name for e in events if e.type == "tool_call") == [
                "failing",
                "pid_here",
                "pid_there",
            ]

    run(work())


def test_what_cannot_be_sent_is_named(open_fleet: OpenFleet) -> None:
    async def work() -> None:
        lock = threading.Lock()

        def locked() -> bool:
            """Tell whether it is."""
            return lock.locked()

        async with open_fleet() as fleet:
            with pytest.raises(
                NotSendableError, match=r"tools\[0\] \(locked\): cannot be sent to a host: TypeError.*driver"
            ):
                await fleet.session(StepModel(), tools=[locked])
            with pytest.raises(NotSendableError, match=r"model: cannot be sent.*lambda"):
                await fleet.session(lock)

    run(work())


def paying(ledger: Path) -> Any:
    @tool(idempotent=False)
    def pay(amount: int) -> str:
        """Pay."""
        with open(ledger, "a") as file:
            file.write(f"{amount}\n")
        return "paid"

    return pay


PAY = (
    "from lib.tools import pay\n"
    "try:\n    print(pay(5))\nexcept Exception as error:\n    print('refused:', error)\n"
    "import os, time\nif not os.path.exists({marker!r}):\n    open({marker!r}, 'w').close()\n    time.sleep(60)"
)


async def pay_on_a_host_that_dies(fleet: Any, tmp_path: Path, **settings: Any) -> tuple[Any, list[Any]]:
    marker = tmp_path / "marker"
    model = StepModel(
        python(PAY.format(marker=str(marker))), python("from lib.tools import pay\nprint(pay(7))")
    )
    session = await fleet.session(model, tools=[paying(tmp_path / "ledger")], **settings)
    events: list[Any] = []

    async def read() -> None:
        events.extend([event async for event in session.run("Pay.")])

    reading = asyncio.ensure_future(read())
    while not marker.exists():
        await asyncio.sleep(0.02)
    os.kill(await host_pid(fleet, session.node), signal.SIGKILL)
    await reading
    return session, events


def test_a_call_that_must_not_be_made_twice_is_refused_when_its_turn_is_done_again(
    open_fleet: OpenFleet, tmp_path: Path
) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            session, events = await pay_on_a_host_that_dies(fleet, tmp_path)
            assert session.moves == 1
            outputs = [event.output for event in events if event.type == "code_execution"]
            assert "may have been done already: pay(" in outputs[0]
            assert "Nobody is there to allow a second call" in outputs[0]
            assert "denied" in outputs[1], "it stays so until the run has ended"
            assert (tmp_path / "ledger").read_text() == "5\n"
            again = [event async for event in session.run("Pay again, please.")]
            assert next(e.output for e in again if e.type == "code_execution") == "paid\n"
            assert (tmp_path / "ledger").read_text() == "5\n5\n7\n"

    run(work())


def test_the_drivers_approver_is_asked_before_it_is_made_again(open_fleet: OpenFleet, tmp_path: Path) -> None:
    async def work() -> None:
        asked: list[Question] = []

        async def approve(question: Question) -> str:
            asked.append(question)
            return "once"

        async with open_fleet() as fleet:
            _, events = await pay_on_a_host_that_dies(fleet, tmp_path, approver=approve)
            outputs = [event.output for event in events if event.type == "code_execution"]
            assert outputs == ["paid\n", "paid\n"]
            assert (tmp_path / "ledger").read_text() == "5\n5\n7\n"
            (question,) = asked
            assert question.name == "pay"
            assert question.arguments() == {"amount": 5}
            assert "may have been done already: pay(" in question.why

    run(work())


def test_without_a_loss_nobody_is_asked(open_fleet: OpenFleet, tmp_path: Path) -> None:
    async def work() -> None:
        async with open_fleet() as fleet:
            model = StepModel(*[python("from lib.tools import pay\nprint(pay(1))")] * 3)
            session = await fleet.session(model, tools=[paying(tmp_path / "ledger")])
            assert (await session.ask("Pay three times.")).text == "done"
            assert (tmp_path / "ledger").read_text() == "1\n1\n1\n"
            assert not list((tmp_path).glob("store-*/intents/*/*")), "what is over is forgotten"

    run(work())


def test_a_policy_asks_the_drivers_approver(open_fleet: OpenFleet, tmp_path: Path) -> None:
    async def work() -> None:
        asked: list[str] = []

        def approve(question: Question) -> bool:
            asked.append(f"{question.kind} {question.name}")
            return False

        async with open_fleet() as fleet:
            model = StepModel(python("from lib.tools import pay\nprint(pay(1))"))
            session = await fleet.session(
                model,
                tools=[paying(tmp_path / "ledger")],
                policy="ask-writes",
                approver=approve,
            )
            await session.ask("Pay.")
            assert asked == ["tool pay"]
            assert not (tmp_path / "ledger").exists()

    run(work())
