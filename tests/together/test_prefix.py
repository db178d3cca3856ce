"""What a provider's prompt cache needs: each request begins with the bytes of the one before."""

from __future__ import annotations

import json
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.errors import ModelError
from agentd.registry import Registry
from agentd.turn.loop import TurnLoop
from agentd.turn.prompt import instructions
from agentd_model_openai import ChatModel, ResponsesModel
from agentd_skills import AgentSkillsRenderer
from hypothesis import given, settings, strategies as st
from script_model import RecordingExecutor

NOTATIONS = Registry().create_notations(["fence"])
NOTATION = NOTATIONS[0]
pieces = st.lists(
    st.sampled_from(
        [
            "prose ",
            "```bash:execute\nls\n```\n",
            "```a.txt:create\nx\n```\n",
            "```ruby:execute\n1\n```\n",
            "\n",
            "é€😀 ",
        ]
    ),
    max_size=6,
).map("".join)


class Whole:
    """An SDK object of either API with this text."""

    def __init__(self, text: str) -> None:
        message = type("M", (), {"content": text})
        self.choices = [type("C", (), {"finish_reason": "stop", "message": message})]
        self.usage = None
        self.status = "completed"
        self.output_text = text
        self.output: list[Any] = []


@pytest.mark.parametrize("api", ["chat", "responses"])
@settings(max_examples=40, deadline=None)
@given(answers=st.lists(pieces, min_size=1, max_size=5), tasks=st.integers(1, 3))
def test_each_request_begins_with_the_one_before(api: str, answers: list[str], tasks: int) -> None:
    sent: list[str] = []
    script = iter(answers * tasks)
    key = "messages" if api == "chat" else "input"

    async def create(**request: Any) -> Any:
        sent.append(json.dumps([request.get("instructions"), *request[key]])[:-1])
        return Whole(next(script, "done"))

    async def converse() -> None:
        model: Any = (ChatModel if api == "chat" else ResponsesModel)("m", create=create, streamed=False)
        model.start(instructions(own="Mine.", skills="- skill", notation=NOTATION))
        with tempfile.TemporaryDirectory() as folder:
            for number in range(tasks):
                model.add_task(f"task {number}")
                loop = TurnLoop(model=model, executor=RecordingExecutor(Path(folder)), notations=NOTATIONS)
                with suppress(ModelError):  # two empty answers
                    await loop.run()

    anyio.run(converse)
    assert len(sent) >= tasks
    for before, after in pairwise(sent):
        assert after.startswith(before)


def test_the_instructions_are_the_same_for_the_same_tools() -> None:
    told = instructions(own="Mine.", skills="S", notation=NOTATION)
    assert told == instructions(own="Mine.", skills="S", notation=NOTATION)
    assert told == f"Mine.\n\n{instructions(notation=NOTATION)}\n\nS"


@pytest.mark.parametrize(
    "said",
    [
        "```bash:execute",
        "```python:execute",
        "```PATH:create",
        "run at the same time",
        "Text after a block ends your turn",
        "Never assume",
        "Put conditions inside a block",
    ],
)
def test_the_guide_tells_the_model_each_rule(said: str) -> None:
    assert said in instructions(notation=NOTATION)


def test_the_skills_guide_names_each_subcommand() -> None:
    for command in ("skills list", "skills frontmatter", "skills read", "skills run", "skills exec"):
        assert command in AgentSkillsRenderer.guide
