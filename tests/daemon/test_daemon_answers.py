"""An agent whose answers have a form: the checked value is the task's result, and what never fits has failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from agentd.events import RunEnd
from agentd_daemon.config.loading import examine
from agentd_demo.replay import ReplayServer
from living import agent, living

pytestmark = pytest.mark.anyio
SCHEMA = {
    "type": "object",
    "properties": {"files": {"type": "integer"}},
    "required": ["files"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("where", ["inline", "file"])
async def test_the_value_that_was_checked_is_the_result_of_the_task(where: str, tmp_path: Path) -> None:
    file = tmp_path / "count.json"
    file.write_text(json.dumps(SCHEMA))
    answer: Any = SCHEMA if where == "inline" else str(file)
    turns = ["```bash:execute\necho two\n```\n", "Two, I think.", '{"files":\n  2}']
    with ReplayServer(turns) as model:
        config = agent(model, mode="ptc", cwd=str(tmp_path / "work"), answer=answer)
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "How many files?")
            (trigger,) = await daemon.settled(1)
            ends = [event for _, event in daemon.events if isinstance(event, RunEnd)]
            status = await daemon.until(lambda: daemon.status() if daemon.status().last_result else None)
    assert (trigger.state, trigger.error) == ("done", "")
    assert json.loads(trigger.result) == {"files": 2}
    assert json.loads(status.last_result) == {"files": 2}
    assert [json.loads(end.text) for end in ends] == [{"files": 2}]
    assert "does not have the form" in model.requests[-1].last


async def test_an_answer_that_never_fits_is_a_failed_task_with_its_text_and_the_next_one_is_worked_on(
    tmp_path: Path,
) -> None:
    with ReplayServer(["Two.", "Still two.", '{"files": 3}']) as model:
        async with living(tmp_path / "state", agent(model, answer=SCHEMA)) as daemon:
            await daemon.daemon.submit("news", "How many files?")
            await daemon.settled(1)
            await daemon.daemon.submit("news", "And now?")
            first, second = await daemon.settled(2)
            counted = await daemon.until(lambda: daemon.status() if not daemon.status().last_error else None)
    assert (first.state, first.result) == ("failed", "Still two.")
    assert "does not have its form: it is no JSON" in first.error
    assert (second.state, second.result) == ("done", '{"files": 3}')
    assert counted.last_error == ""
    assert len(model.requests) == 3
    assert "Still two." not in str(model.requests[-1])


def test_what_is_wrong_with_a_schema_is_told_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "wrong.json").write_text('{"type": "objekt"}')
    (tmp_path / "good.json").write_text(json.dumps(SCHEMA))
    file = tmp_path / "agents.yaml"
    file.write_text(
        "agents:\n"
        "- {name: a, model: m, answer: {type: object, properties: {n: {type: number, minimum: low}}}}\n"
        f"- {{name: b, model: m, answer: {tmp_path}/nothere.json}}\n"
        f"- {{name: c, model: m, answer: {tmp_path}/list.json}}\n"
        f"- {{name: d, model: m, answer: {tmp_path}/wrong.json}}\n"
        f"- {{name: e, model: m, answer: {tmp_path}/good.json}}\n"
    )
    told = [str(problem).partition(": ")[2] for problem in examine([file]).problems]
    assert [line.partition(": ")[0] for line in told] == [
        "agents[0].answer.properties.n.minimum",
        "agents[1].answer",
        "agents[2].answer",
        "agents[3].answer",
    ]
    assert "'low' is not of type 'number'" in told[0]
    assert "No such file" in told[1]
    assert "must hold a JSON object, got list" in told[2]
    assert "at type" in told[3]
