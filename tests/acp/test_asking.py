"""What becomes of a question that nobody answers in time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from acp.schema import ToolCallUpdate
from acp_editor import AcpEditor
from agentd_acp.asking import EditorPerson
from agentd_policy.questions import Question
from agentd_tools.policy import PolicyRequest

pytestmark = pytest.mark.anyio


async def test_a_question_that_is_over_has_no_answer_that_would_be_logged_as_ignored(tmp_path: Path) -> None:
    editor: Any = AcpEditor()
    editor.answer = lambda about: asyncio.sleep(3600)  # the person is at lunch
    nothing: Any = None
    person = EditorPerson(editor, "a session", tmp_path, nothing, lambda: None)
    request = PolicyRequest(kind="tool", name="order", content=b"{}", source="shop", action_id="")
    question = Question("q", request, "a rule", "the editor", tmp_path, lambda *_: None)
    asking = asyncio.create_task(person._put(question, ToolCallUpdate(tool_call_id="1")))
    await editor.until(lambda: editor.asked)
    question.give_up()
    assert await asking is None
