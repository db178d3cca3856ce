"""A conversation's turns, without a terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from agentd.registry import Registry
from agentd_chat.kept import ConversationFolder
from agentd_chat.talk import Talk, TalkSettings
from chat_person import block
from script_model import ScriptModel

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class ForgettingModel(ScriptModel):
    def reset(self) -> None:
        self.messages = []


@pytest.mark.parametrize("checkpoints", [True, False])
async def test_a_turn_that_is_stopped_before_its_run_begins_was_never_there(
    checkpoints: bool, tmp_path: Path
) -> None:
    model = ForgettingModel(block("bash:execute", "echo 1 > first"), "Done.", "Later.")
    work = tmp_path / "work"
    session: dict[str, Any] = {
        "model": model,
        "registry": Registry(),
        "executor": "subprocess",
        "snapshots_dir": tmp_path / "kept",
    }
    folder = ConversationFolder(work, tmp_path / "chats")
    settings = TalkSettings(session=session, cwd=work, checkpoints=checkpoints)
    async with Talk(settings, folder, folder.new()) as talk:
        await talk.turn("Write.", "Write.", lambda _: None)
        prepare = talk._checkpoint

        async def stopped_meanwhile() -> str:
            await talk.stop()
            return await prepare()

        talk._checkpoint = stopped_meanwhile  # type: ignore[method-assign]
        with anyio.fail_after(30):
            outcome = await talk.turn("Never.", "Never.", lambda _: None)
        talk._checkpoint = prepare  # type: ignore[method-assign]
        assert (outcome.turn.stop_reason, outcome.withdrawn) == ("cancelled", True)
        assert [turn.task for turn in talk.kept.turns] == ["Write."]
        assert model.requests == 2

        assert (await talk.undo()).task == "Write."
        assert (work / "first").exists() != checkpoints
        assert talk.kept.turns == []
