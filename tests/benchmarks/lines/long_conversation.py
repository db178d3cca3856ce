"""A session of 200 turns with a model that answers at once: each turn is a task, a bash block that prints 4 KB, and an
answer. The history keeps the conversation within 20,000 tokens; all of it would have 200,000 in the end.

Ours: what a turn around the 200th costs (the median of the last 20) beside one around the 20th (of turns 11 to 30), and
the largest request of all: 80 KB of it are the conversation, the rest is the system prompt and what JSON adds. The
model is a transport inside the process.
Theirs: nothing of this kind. Floor: none, as the early turns are it."""

from __future__ import annotations

import statistics
import tempfile
import time
from itertools import pairwise

from benchmarks.line import Figures, Line, Row
from benchmarks.scripted import ScriptedModel

LINE = Line(
    name="long_conversation",
    rows=(
        Row(
            key="late_x",
            title="turn 200 of a conversation with a history: times turn 20",
            unit="x",
            limit=1.3,
        ),
        Row(key="early_ms", title="  turn 20", unit="ms"),
        Row(key="late_ms", title="  turn 200", unit="ms"),
        Row(key="request_kb", title="  largest request", unit="KB", limit=110.0),
    ),
)
TURNS = 200
SCRIPT = ["```bash:execute\nprintf '%04000d' 0\n```\n", "done"]


def ours(quick: bool) -> Figures:
    """A session over the SDK."""
    from agentd import SyncSession
    from agentd_history import History
    from agentd_model_openai import open_model

    model = ScriptedModel(SCRIPT)
    spent: list[float] = []
    sizes = [0]
    with (
        tempfile.TemporaryDirectory() as cwd,
        SyncSession(
            open_model("gpt-4o", client=model.client()),
            cwd=cwd,
            executor="subprocess",
            tools=(),
            history=History(max_tokens=20_000),
        ) as session,
    ):
        for _ in range(TURNS):
            begin = time.perf_counter()
            end = session.ask("Go on.")
            spent.append((time.perf_counter() - begin) * 1e3)
            assert end.text == "done", end
            sizes.append(model.sent_bytes)
    early, late = statistics.median(spent[10:30]), statistics.median(spent[-20:])
    largest = max((after - before) / 2 for before, after in pairwise(sizes))  # of a turn's two requests
    return {"late_x": late / early, "early_ms": early, "late_ms": late, "request_kb": largest / 1e3}


def theirs(quick: bool) -> Figures:
    """Nothing of this kind."""
    return {}


def floor(quick: bool) -> Figures:
    """None: the early turns are it."""
    return {}
