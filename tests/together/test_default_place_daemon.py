"""Where the code of an agent runs that names no executor."""

from __future__ import annotations

from pathlib import Path

import native
import pytest
from agentd.events import RunStart
from agentd_demo.replay import ReplayServer
from agentd_executor_native.executor import NativeExecutor
from living import agent, living, told

pytestmark = pytest.mark.anyio

FENCE = "```"
LOOK = f"{FENCE}bash:execute\ntest -e /home && echo the home is there; echo looked\n{FENCE}\n"


async def test_its_code_runs_in_the_sandbox_where_that_can_run(tmp_path: Path) -> None:
    native.need_native()
    with ReplayServer([LOOK, "Done."]) as model:
        async with living(tmp_path / "state", agent(model, mode="ptc", executor="")) as daemon:
            await daemon.daemon.submit("news", "look")
            (trigger,) = await daemon.settled(1)
            assert (trigger.state, trigger.result) == ("done", "Done.")
            (begun,) = [event for _, event in daemon.events if isinstance(event, RunStart)]
            assert begun.executor == "native"
        last = told(model.requests[-1])[-1]
        assert "looked" in last
        assert "the home is there" not in last


@pytest.mark.parametrize("prewarm", [None, 0])
async def test_its_sandbox_is_ready_before_its_first_task_unless_none_is_wanted(
    prewarm: int | None, tmp_path: Path
) -> None:
    native.need_native()
    with ReplayServer([LOOK, "Done."]) as model:
        settings = agent(model, mode="ptc", executor="native", executor_options={"prewarm": prewarm})
        async with living(tmp_path / "state", settings) as daemon:
            worker = await daemon.until(lambda: daemon.daemon._supervisors["news"].worker)
            await daemon.until(lambda: worker._is_prepared)
            assert worker.session is not None
            executor = worker.session.executor
            assert isinstance(executor, NativeExecutor)
            assert (executor._connected() is not None) is (prewarm is None)
            await daemon.daemon.submit("news", "look")
            (trigger,) = await daemon.settled(1)
            assert (trigger.state, trigger.result) == ("done", "Done.")
        assert model.requests


async def test_a_default_that_is_not_there_parks_the_agent_and_says_whose_choice_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTD_EXECUTOR", "nowhere")
    with ReplayServer(["Never."]) as model:
        async with living(tmp_path / "state", agent(model, mode="ptc", executor="")) as daemon:
            await daemon.daemon.submit("news", "look")
            await daemon.until(lambda: daemon.status().state == "parked")
            assert daemon.status().last_error.startswith("AGENTD_EXECUTOR: unknown executor 'nowhere'")
        assert model.requests == []
