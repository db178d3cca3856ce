"""The same in other places: a sandbox, LiteLLM's models, checkpoints, event loops, a model that is an object."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from agentd.errors import ConfigError
from agentd.events import Event, Picture
from agentd.session.session import Session
from agentd.session.sync import SyncSession
from fake_openai import FakeOpenAI
from pictures import png
from script_model import ScriptModel

FENCE = "```"
SHOW = f'{FENCE}python:execute\nimport agentd; agentd.show("a.png")\nprint(len(dir(agentd)))\n{FENCE}\n'


class SeenEvents:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


@pytest.mark.anyio
async def test_on_both_event_loops_sinks_hear_of_a_picture_before_the_next_answer(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    sink = SeenEvents()
    with FakeOpenAI(SHOW, "Seen.") as server:
        async with Session(
            "gpt-4.1", base_url=server.base_url, api_key="none", cwd=tmp_path, tools=[], executor="subprocess",
            images=True, sinks=[sink],
        ) as session:  # fmt: skip
            await session.ask("look")
    kinds = [e.type for e in sink.events]
    assert kinds.count("picture") == 1
    assert kinds.index("code_execution") < kinds.index("picture") < kinds.index("text_delta")
    assert "image_url" in json.dumps(server.requests[1])


def test_code_in_the_native_sandbox_shows_pictures_and_finds_their_files(tmp_path: Path) -> None:
    from agentd_executor_native.executor import NativeExecutor

    ok, why = NativeExecutor(tmp_path).verify()
    if not ok:
        pytest.skip(f"the native sandbox cannot run here: {why}")
    (tmp_path / "a.png").write_bytes(png())
    look = (
        f"{FENCE}bash:execute\ncat .agentd/pictures/*.png | head -c 4 | od -c\nskills show a.png\n{FENCE}\n"
    )
    with (
        FakeOpenAI(SHOW, look, "Seen.") as server,
        SyncSession(
            "gpt-4.1",
            base_url=server.base_url,
            api_key="none",
            cwd=tmp_path,
            tools=[],
            executor="native",
            images=True,
        ) as session,
    ):
        session.ask("look")
    assert [json.dumps(r).count("data:image/png") for r in server.requests] == [0, 1, 2]
    assert "P   N   G" in session.transcript.executions[1].output


@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
def test_a_model_of_litellm_gets_pictures_in_its_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("litellm") is None:
        pytest.skip("install agentd[litellm]")
    (tmp_path / "a.png").write_bytes(png())
    with FakeOpenAI(SHOW, "Seen.") as server:
        monkeypatch.setenv("OPENROUTER_API_BASE", server.base_url)
        monkeypatch.setenv("OPENROUTER_API_KEY", "none")
        with SyncSession(
            "openrouter/openai/gpt-4o", cwd=tmp_path, tools=[], executor="subprocess", images=True
        ) as session:
            session.ask("look")
    content = server.requests[1]["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]


def test_going_back_and_on_shows_the_pictures_of_then(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    with (
        FakeOpenAI(SHOW, "Seen.", "More.", "Again.") as server,
        SyncSession(
            "gpt-4.1", base_url=server.base_url, api_key="none", cwd=tmp_path, tools=[], executor="subprocess",
            images=True,
        ) as session,
    ):  # fmt: skip
        session.ask("look")
        session.checkpoint("seen")
        session.ask("more")
        session.rewind("seen")
        session.ask("again")
    assert [json.dumps(r).count("data:image/png") for r in server.requests] == [0, 1, 1, 1]
    assert server.requests[3]["messages"][:-1] == server.requests[2]["messages"][:-1]


@pytest.mark.anyio
async def test_a_model_that_takes_text_alone_is_told_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    model = ScriptModel(SHOW, "Seen.")
    async with Session(model, cwd=tmp_path, tools=[], executor="subprocess", images=True) as session:
        await session.ask("look")
        assert "8 x 8 pixels" in model.results[0]
        assert "not shown pictures" in model.results[0]
        with pytest.raises(ConfigError, match=r"cannot (forget|rewind)"):
            await session.forget_last()


def test_a_picture_whose_file_cannot_be_written_is_shown_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / ".agentd").mkdir()
    (tmp_path / ".agentd/pictures").write_text("a file where the folder should be")
    events: list[Any] = []
    with (
        FakeOpenAI(SHOW, "Seen.") as server,
        SyncSession(
            "gpt-4.1", base_url=server.base_url, api_key="none", cwd=tmp_path, tools=[], executor="subprocess",
            images=True,
        ) as session,
    ):  # fmt: skip
        events += session.run("look")
    assert [e.path for e in events if isinstance(e, Picture)] == [""]
    last = json.dumps(server.requests[1]["messages"][-1])
    assert "data:image/png" in last
    assert "that file could not be written: " in last
