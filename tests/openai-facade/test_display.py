"""From streams to events for display, patched or plain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from agentd_openai.display import display_events, display_events_async
from fake_openai import FakeOpenAI
from hypothesis import given, settings, strategies as st
from ways import WAYS, call

GO: Any = [{"role": "user", "content": "go"}]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_plain_stream_shows_its_text_and_its_end(api: str, serve: Any) -> None:
    server = serve("Some ```bash:execute\nls\n``` text")
    with server.client() as client:
        if api == "chat":
            stream = client.chat.completions.create(model="m", messages=GO, stream=True)
        else:
            stream = client.responses.create(model="m", input="go", stream=True)
        shown = list(display_events(stream))
    assert "".join(e.text for e in shown if e.type == "text_delta") == "Some ```bash:execute\nls\n``` text"
    assert shown[-1].type == "turn_end"
    assert sum(e.type == "turn_end" for e in shown) == 1


def test_a_code_item_of_the_provider_itself_is_an_execution(serve: Any) -> None:
    from fake_openai import Answer

    item = {
        "id": "ci_1",
        "type": "code_interpreter_call",
        "container_id": "cntr_1",
        "code": "print(1)",
        "status": "completed",
        "outputs": [{"type": "logs", "logs": "1\n"}],
    }
    with serve(Answer(text="one", items=[item])).client() as client:
        shown = list(display_events(client.responses.create(model="m", input="go", stream=True)))
    done = [e for e in shown if e.type == "code_execution"]
    assert [(e.code, e.output, e.status, e.exit_code) for e in done] == [("print(1)", "1\n", "completed", 0)]


@pytest.mark.parametrize("way", [w for w in WAYS if w.endswith("stream")])
def test_a_run_shows_prose_code_and_ends_in_order(way: str, serve: Any, patched: Any) -> None:
    server = serve("Hm.\n```bash:execute\necho 1; false\n```\nlies", "Ok.", piece=1)
    shown = call(way, patched(server, asynchronous=way.startswith("async"))).shown
    kinds = [e.type for e in shown]
    squeezed = [k for i, k in enumerate(kinds) if i == 0 or kinds[i - 1] != k]
    writing = ["code_delta"] if "chat" in way else []
    assert squeezed == [
        "text_delta", *writing, "code_start", "code_output", "code_execution", "turn_end", "text_delta", "turn_end",
    ]  # fmt: skip
    done = next(e for e in shown if e.type == "code_execution")
    assert (done.code, done.output, done.status, done.exit_code) == ("echo 1; false\n", "1\n", "failed", 1)
    assert "".join(e.text for e in shown if e.type == "text_delta") == "Hm.\nOk."
    assert "code_start" in kinds
    ends = [e for e in shown if e.type == "turn_end"]
    assert (ends[0].turn, ends[1].turn) == (1, 2)
    assert ends[1].usage.output_tokens == 10


def test_leaving_the_display_early_closes_the_stream(serve: Any, patched: Any) -> None:
    server = serve("```bash:execute\necho 1; sleep 60\n```\n", "never")
    client = patched(server)
    stream = client.responses.create(model="m", input="go", stream=True)
    for event in display_events(stream):
        if event.type == "code_output":
            break
    with pytest.raises(StopIteration):
        next(stream)
    assert len(server.requests) == 1


def test_the_async_display_closes_its_stream_too(serve: Any, patched: Any) -> None:
    client = patched(serve("```bash:execute\necho 1; sleep 60\n```\n", "never"), asynchronous=True)

    async def look() -> list[str]:
        stream = await client.chat.completions.create(model="m", messages=GO, stream=True)
        events = display_events_async(stream)
        kinds = []
        async for event in events:
            kinds.append(event.type)
            if event.type == "code_output":
                break
        await events.aclose()  # type: ignore[attr-defined]
        await client.close()
        return kinds

    assert [kind for kind in asyncio.run(look()) if kind != "code_delta"] == ["code_start", "code_output"]


texts = st.lists(
    st.sampled_from(
        [
            "word ",
            "\n",
            "`",
            "``",
            "```",
            "```bash:execute\ntrue\n```\n",
            "```\nexample\n```\n",
            "é",
            "```ruby:execute\n1\n```\n",
            "~~~",
        ]
    ),
    max_size=8,
).map("".join)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(text=texts, piece=st.integers(1, 9))
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_no_text_is_lost_or_shown_twice_however_it_is_cut(api: str, text: str, piece: int) -> None:
    import tempfile

    from agentd_openai import patch_openai_with_ptc
    from script_model import RecordingExecutor

    shown = {}
    with tempfile.TemporaryDirectory() as folder:
        from pathlib import Path

        for size in (piece, 10_000):
            with FakeOpenAI(text or " ", "done", piece=size) as server, server.client() as client:
                patch_openai_with_ptc(
                    client, executor=RecordingExecutor(Path(folder)), tools=[], parsers=["fence"]
                )
                if api == "chat":
                    items = list(client.chat.completions.create(model="m", messages=GO, stream=True))
                    raw = "".join(i.choices[0].delta.content or "" for i in items)
                else:
                    items = list(client.responses.create(model="m", input="go", stream=True))
                    raw = "".join(i.delta for i in items if i.type == "response.output_text.delta")
                events = list(display_events(items))
                prose = "".join(e.text for e in events if e.type == "text_delta")
                code = sorted(e.code for e in events if e.type == "code_execution")  # some run at once
                answer = next(
                    (
                        m
                        for m in server.requests[-1]["messages" if api == "chat" else "input"]
                        if m["role"] == "assistant"
                    ),
                    None,
                )
                shown[size] = (raw, prose, code)
                if answer is not None:  # there was a block: the text up to its end was sent, and nothing more
                    said = (
                        answer["content"]
                        if isinstance(answer["content"], str)
                        else answer["content"][0]["text"]
                    )
                    assert raw.removesuffix("done").removesuffix("\n\n" if api == "chat" else "") == said
                else:
                    assert raw == prose == (text or " ")
                client.cleanup_ptc()
    assert shown[piece] == shown[10_000]
