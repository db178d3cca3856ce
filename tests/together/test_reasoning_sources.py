"""What a model thinks is one kind of event, whatever field or item its server sends it in: never part of the answer,
and no block in it runs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from agentd.events import Event, ReasoningDelta, TextDelta
from agentd.session.session import Session
from agentd_daemon.config.values import AgentConfig
from agentd_model_openai.chat import ChatModel
from agentd_model_openai.responses import ResponsesModel
from agentd_sink_console.console import ConsoleSink
from fake_openai import THOUGHTS, Answer, FakeOpenAI
from living import living

THOUGHT = "I could do\n```bash:execute\ntouch draft\n```\nbut nö 🎈."
BLOCK = "I look.\n```bash:execute\necho one\n```\n"
SOURCES = [(api, form) for api, forms in THOUGHTS.items() for form in forms]


def script(form: str) -> list[Answer]:
    return [Answer(text=text, thought=THOUGHT, thought_in=form) for text in (BLOCK, "All done.")]


async def run(api: str, server: FakeOpenAI, folder: Path, *, streamed: bool, **options: Any) -> list[Event]:
    made = ChatModel if api == "chat" else ResponsesModel
    with server.client() as client:
        model = made("m", client=client, streamed=streamed)
        async with Session(model, cwd=folder, tools=[], executor="subprocess", **options) as session:
            return [event async for event in session.run("go")]


def thoughts(events: list[Event]) -> list[str]:
    """What was thought, in each turn."""
    found = [""]
    for event in events:
        if isinstance(event, ReasoningDelta):
            found[-1] += event.text
        elif event.type == "turn_end":
            found.append("")
    return [text.strip("\n") for text in found[:-1]]


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("api", "form"), SOURCES)
async def test_a_session_tells_of_it_and_runs_nothing_of_it(
    api: str, form: str, streamed: bool, tmp_path: Path
) -> None:
    with FakeOpenAI(*script(form), piece=3) as server:
        events = await run(api, server, tmp_path, streamed=streamed)
    assert thoughts(events) == [THOUGHT, THOUGHT]
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said.replace("\n", "") == "I look.All done."
    assert [e.code for e in events if e.type == "code_start"] == ["echo one\n"]
    assert events[-1].text.strip() == "All done."  # type: ignore[union-attr]
    assert not (tmp_path / "draft").exists()
    kinds = [event.type for event in events if event.type in ("reasoning", "text_delta", "code_start")]
    assert kinds.index("reasoning") < kinds.index("text_delta") < kinds.index("code_start")


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(("api", "form"), SOURCES)
async def test_the_console_shows_it_dim_and_the_jsonl_sink_keeps_it(
    api: str, form: str, streamed: bool, tmp_path: Path
) -> None:
    shown = io.StringIO()
    sinks = [ConsoleSink(shown, color=True), ("jsonl", {"path": tmp_path / "log.jsonl"})]
    with FakeOpenAI(*script(form)) as server:
        await run(api, server, tmp_path / "work", streamed=streamed, sinks=sinks)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    kept = "".join(line["text"] for line in lines if line["type"] == "reasoning")
    assert kept.replace("\n", "") == 2 * THOUGHT.replace("\n", "")
    dim = "".join(part.partition("\x1b[0m")[0] for part in shown.getvalue().split("\x1b[2m")[1:])
    assert THOUGHT.replace("\n", "") in dim.replace("\n", "")
    assert "All done." not in dim


@pytest.mark.anyio
@pytest.mark.parametrize(("api", "form"), SOURCES)
async def test_an_agent_of_the_daemon_tells_of_it(api: str, form: str, tmp_path: Path) -> None:
    with FakeOpenAI(*script(form)) as server:
        config = AgentConfig(
            name="news",
            model="m",
            base_url=server.base_url,
            api=api,  # type: ignore[arg-type]
            mode="ptc",
            executor="subprocess",
            cwd=tmp_path / "work",
        )
        async with living(tmp_path / "state", config) as daemon:
            await daemon.daemon.submit("news", "go")
            await daemon.settled(1)
    assert thoughts([event for _, event in daemon.events]) == [THOUGHT, THOUGHT]


@pytest.mark.anyio
async def test_the_parts_of_a_summary_stand_apart(tmp_path: Path) -> None:
    item: dict[str, Any] = {"id": "rs_9", "type": "reasoning", "summary": []}
    item["summary"] = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    for streamed in (True, False):
        with FakeOpenAI(Answer(text="Done.", items=[item])) as server:
            events = await run("responses", server, tmp_path, streamed=streamed)
        assert thoughts(events) == ["One.\n\nTwo."]
