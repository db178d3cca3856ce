"""The scripted model: a task carries the answers that it is to get, so that any number of conversations go on at once.

    task("hello", "```bash:execute\\necho hi\\n```\\n", {"text": "half a", "cut_after": 3})

An answer that is an object has the fields of `fake_openai.Answer`. The model counts the answers behind the newest task.
"""

from __future__ import annotations

import json
import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fake_openai import Answer, FakeOpenAI

__all__ = ["FAULTY", "bash", "called", "python", "scripted_model", "task"]

FAULTY = "faulty"
"""The name of the model that fails now and then, before an answer or in the middle of one."""
FAULTS = ({"status": 429}, {"status": 503}, {"disconnect_after": 0}, {"cut_after": 2}, {"malformed_after": 2})
FAILING = 0.04
KEPT = 20

_OPEN, _CLOSE = "<script>", "</script>"


def task(*answers: str | dict[str, Any], say: str = "Work.") -> str:
    """Return the text of a task that is answered like this; behind the last answer comes `well`."""
    return f"{say} {_OPEN}{json.dumps(answers)}{_CLOSE}"


def bash(source: str, *, header: str = "bash:execute") -> str:
    """A block of bash."""
    return f"```{header}\n{source}\n```\n"


def python(source: str) -> str:
    """A block of Python."""
    return bash(source, header="python:execute")


def called(name: str, /, **arguments: Any) -> dict[str, Any]:
    """An answer that calls a tool natively."""
    return {"calls": [["call_1", name, json.dumps(arguments)]]}


def answer_to(request: dict[str, Any], dice: random.Random) -> Answer:
    """Return what the newest script in the conversation says next."""
    messages = request.get("messages") or request.get("input") or []
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    number, script = 0, None
    for message in reversed(messages):
        if message.get("role") == "assistant" or message.get("type") == "function_call":
            number += 1
        elif message.get("role") == "user" and _OPEN in (text := json_text(message.get("content"))):
            script = json.loads(text.rpartition(_OPEN)[2].partition(_CLOSE)[0])
            break
    if script is None or number >= len(script):
        return Answer(text="well")
    given = script[number]
    fields = {"text": given} if isinstance(given, str) else dict(given)
    fields["calls"] = [tuple(call) for call in fields.get("calls", ())]
    if request.get("model") == FAULTY and dice.random() < FAILING:
        fields |= dice.choice(FAULTS)
    return Answer(**fields)


def json_text(content: Any) -> str:
    """Return the text of a message, whose content may be parts."""
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))


@contextmanager
def scripted_model(seed: int) -> Iterator[FakeOpenAI]:
    """Serve it on loopback. It keeps the newest requests alone."""
    dice = random.Random(seed)
    server = FakeOpenAI(piece=16)
    for name in ("requests", "bodies", "paths"):
        setattr(server, name, deque(maxlen=KEPT))
    server.decide = lambda request: answer_to(request, dice)  # one at a time
    with server:
        yield server
