"""What a model thinks, in each way of calling a patched client, and in streams of plain ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd_openai.display import display_events
from fake_openai import THOUGHTS, Answer
from ways import WAYS, arguments, call, create_of, text_of

THOUGHT = "I could do\n```bash:execute\ntouch draft\n```\nbut nö 🎈."
BLOCK = "I look.\n```bash:execute\necho one\n```\n"
CELLS = [(way, form) for way in WAYS for form in THOUGHTS[way.split("-")[1]]]


class Keeping:
    """A sink that keeps the events."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def emit(self, event: Any) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


def thoughts(events: list[Any]) -> list[str]:
    """What was thought, in each turn."""
    found = [""]
    for event in events:
        if event.type == "reasoning":
            found[-1] += event.text
        elif event.type == "turn_end":
            found.append("")
    return [text.strip("\n") for text in found[:-1]]


@pytest.mark.parametrize(("way", "form"), CELLS)
def test_a_patched_client_tells_of_it_and_runs_nothing_of_it(
    way: str, form: str, serve: Any, patched: Any, tmp_path: Path
) -> None:
    server = serve(*(Answer(text=text, thought=THOUGHT, thought_in=form) for text in (BLOCK, "All done.")))
    sink = Keeping()
    client = patched(server, asynchronous=way.startswith("async"), cwd=tmp_path / "work", sinks=[sink])
    outcome = call(way, client)
    assert thoughts(sink.events) == [THOUGHT, THOUGHT]
    assert not (tmp_path / "work" / "draft").exists()
    if outcome.items:
        assert thoughts(outcome.shown) == [THOUGHT, THOUGHT]
        said = "".join(event.text for event in outcome.shown if event.type == "text_delta")
        assert said.replace("\n", "") == "I look.All done."
        order = [
            event.type for event in outcome.shown if event.type in ("reasoning", "text_delta", "code_start")
        ]
        assert order.index("reasoning") < order.index("text_delta") < order.index("code_start")
    elif form != "tags":
        assert text_of(way, outcome) == "All done."


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_the_events_of_a_plain_stream_have_it(api: str, serve: Any) -> None:
    for form in THOUGHTS[api]:
        if form in ("tags", "both", "item"):
            continue  # only a run knows what they mean
        server = serve(Answer(text="All done.", thought=THOUGHT, thought_in=form))
        with server.client() as client:
            shown = list(display_events(create_of(client, api)(**arguments(api), stream=True)))
        assert thoughts(shown) == [THOUGHT], form


@pytest.mark.parametrize("way", [way for way in WAYS if way.endswith("stream")])
def test_it_comes_once_where_only_the_last_answers_text_is_for_the_caller(
    way: str, serve: Any, patched: Any
) -> None:
    form: dict[str, Any] = {"type": "json_object"}
    more = {"response_format": form} if "chat" in way else {"text": {"format": form}}
    thought_in = "reasoning_content" if "chat" in way else "text"
    answers = [Answer(text=text, thought=THOUGHT, thought_in=thought_in) for text in (BLOCK, "{}")]
    sink = Keeping()
    client = patched(serve(*answers), asynchronous=way.startswith("async"), sinks=[sink])
    shown = call(way, client, **more).shown
    assert thoughts(sink.events) == [THOUGHT, THOUGHT]
    assert thoughts(shown) == [THOUGHT, THOUGHT]
