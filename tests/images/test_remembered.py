"""Long conversations: a picture counts, and old ones become text before anything else goes."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from agentd import SyncSession
from agentd.turn.transcript import Message, NativeCall, Transcript
from agentd_history import History
from agentd_history.bounding import tokens, without_long_results
from agentd_history.pictures import PICTURE, picture_tokens, without_pictures
from agentd_images.reading import read_picture
from agentd_images.settings import Images
from fake_openai import FakeOpenAI
from pictures import made

FENCE = "```"
LINE = f"[note: {read_picture(made(size=(1500, 1000)), 'a.png', Images()).line('picture 1')}]"


def test_a_picture_counts_by_its_pixels_and_costs_nothing_as_text() -> None:
    message = Message("results", f"text\n\n{LINE}")
    assert picture_tokens(message) == 1 + 1500 * 1000 // 750
    native = Message("results", "", (NativeCall(id="1", name="t", output=LINE),))
    assert picture_tokens(native) == picture_tokens(message)
    part = Message.of_task([{"type": "image_url", "image_url": {"url": "https://example.com"}}])
    assert picture_tokens(part) == 1_000
    for one in (message, native, part):
        old = without_pictures(one)
        assert picture_tokens(old) == 0
        assert tokens([old]) < tokens([one])
        assert without_pictures(old) == old
    assert "[note: old picture 1: a.png, image/png, 1500 x 1000 pixels" in without_pictures(message).content


def test_old_pictures_become_text_before_results_are_cut_and_the_newest_stay() -> None:
    messages = [Message("task", "go")]
    for number in range(6):
        messages += [Message("answer", f"answer {number}"), Message("results", f"{'long ' * 400}\n\n{LINE}")]
    transcript = Transcript(messages=messages)
    shorter = without_long_results(transcript, tokens(messages) - 5_000, 2)
    assert shorter is not None
    seen = [len(PICTURE.findall(m.content)) for m in shorter.messages if m.role == "results"]
    assert seen == [0, 0, 0, 1, 1, 1]
    assert all(len(m.content) > 2_000 for m in shorter.messages if m.role == "results")


def test_a_session_with_a_history_sends_few_old_pictures_and_keeps_all(tmp_path: Path) -> None:
    show = [
        f"{FENCE}python:execute\nimport agentd\nfrom PIL import Image\n"
        f'agentd.show(Image.new("L", (1000, 750), {n}))\n{FENCE}\n'
        for n in range(6)
    ]
    with FakeOpenAI(*show, "Enough.") as server:
        with SyncSession(
            "gpt-4.1", base_url=server.base_url, api_key="none", cwd=tmp_path, tools=[], executor="subprocess",
            images=True, history=History(rule="shorten", max_tokens=4_500),
        ) as agent:  # fmt: skip
            agent.ask("look")
        kept = sum(len(PICTURE.findall(m.content)) for m in agent.transcript.messages)
    counts = [json.dumps(request).count("data:image/png") for request in server.requests]
    assert counts[:4] == [0, 1, 2, 3]
    assert max(counts) <= 4
    assert counts[-1] < 6
    assert any(later < before for before, later in pairwise(counts))
    assert kept == 6
