from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest
from agentd.errors import ConfigError
from agentd_demo.recording import Recording, RecordingMismatch, Turn
from agentd_demo.replay import ReplayFault, ReplayServer


def client_of(server: ReplayServer, *, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=retries)


def chat(client: openai.OpenAI, *texts: str) -> str:
    roles = ["user", "assistant"] * len(texts)
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=False)]
    answer = client.chat.completions.create(model="m", messages=messages)  # type: ignore[arg-type]
    return answer.choices[0].message.content or ""


def test_the_openai_client_reads_both_apis_streamed_and_whole() -> None:
    text = "a text that is longer than one chunk: " + "ü漢🙂 " * 20
    with ReplayServer([text], repeat=True) as server, client_of(server) as client:
        assert [model.id for model in client.models.list()] == ["replay"]
        assert chat(client, "hi") == text
        chunks = list(
            client.chat.completions.create(
                model="m",
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
        assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
        assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
        assert chunks[-1].usage is not None
        response = client.responses.create(model="m", input="hi", metadata={"k": "v"})
        assert response.output_text == text
        assert response.metadata == {"k": "v"}
        events = list(client.responses.create(model="m", input="hi", stream=True))
        assert "".join(e.delta for e in events if e.type == "response.output_text.delta") == text
        assert [e.sequence_number for e in events] == list(range(len(events)))
        assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
        vectors = client.embeddings.create(model="m", input=["a", "b"]).data
        assert len(vectors) == 2
        assert len(vectors[0].embedding) == 8
        assert vectors[0].embedding != vectors[1].embedding


def test_the_journal_tells_what_was_asked_and_answered() -> None:
    with ReplayServer(["one"]) as server, client_of(server) as client:
        client.responses.create(model="m", instructions="be brief", input=[{"role": "user", "content": "hi"}])
        (entry,) = server.requests
        assert entry.done.wait(20)
        assert entry.path == "/v1/responses"
        assert entry.messages == [("system", "be brief"), ("user", "hi")]
        assert (entry.last, entry.answer, entry.status) == ("hi", "one", 200)


def test_a_recording_follows_each_conversation_by_itself_also_through_stored_responses() -> None:
    recording = Recording.of(["first", "second"])
    with ReplayServer(recording) as server, client_of(server) as client:
        assert chat(client, "a") == "first"
        assert chat(client, "b") == "first"
        assert chat(client, "a", "first", "more") == "second"
        one = client.responses.create(model="m", input="x")
        two = client.responses.create(model="m", input="y", previous_response_id=one.id)
        assert (one.output_text, two.output_text) == ("first", "second")
        with pytest.raises(openai.UnprocessableEntityError, match="ends after 2 turns"):
            client.responses.create(model="m", input="z", previous_response_id=two.id)


def test_an_answer_quotes_the_numbers_that_were_received_and_fails_without_them() -> None:
    recording = Recording(
        (
            Turn(text="count in {{where}}", capture={"where": "below `(.+?)`"}),
            Turn(
                text="there are {{n}} in {{where}}", expect=(r"^total: \d+$",), capture={"n": r"total: (\d+)"}
            ),
        )
    )
    with ReplayServer(recording) as server, client_of(server) as client:
        assert chat(client, "look below `src`") == "count in src"
        assert chat(client, "look below `src`", "count in src", "total: 42") == "there are 42 in src"
        with pytest.raises(openai.UnprocessableEntityError, match="expects to read"):
            chat(client, "look below `src`", "count in src", "total: none, nothing ran")
        with pytest.raises(openai.UnprocessableEntityError, match="quotes 'where'"):
            chat(client, "look somewhere")


def test_a_recording_is_read_from_a_file_and_a_wrong_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"model": "m", "turns": [{"text": ["a", "b"], "chunk": 1, "delay_s": 5}]}))
    recording = Recording.load(path)
    assert recording.turns[0].text == "a\nb"
    assert recording.without_delays().turns[0].delay_s == 0
    for wrong in ("{", "{}", '{"turns": [{"text": 1}]}', '{"turns": [{"text": "a", "colour": 1}]}'):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match=r"r\.json: not a recording"):
            Recording.load(path)
    with pytest.raises(RecordingMismatch):
        recording.answer(["a", "b"])


def test_a_status_fault_is_an_error_of_that_status_and_uses_up_no_turn() -> None:
    faults = {0: ReplayFault("status", 500), 1: ReplayFault("status", 429, retry_after_s=0.01)}
    with ReplayServer(["only"], faults=faults) as server, client_of(server) as client:
        with pytest.raises(openai.InternalServerError):
            chat(client, "hi")
        with pytest.raises(openai.RateLimitError) as caught:
            chat(client, "hi")
        assert caught.value.response.headers["retry-after"] == "0.01"
        assert chat(client, "hi") == "only"
        assert [entry.status for entry in server.requests] == [500, 429, 200]


def raw_stream(server: ReplayServer) -> bytes:
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
    with urllib.request.urlopen(server.base_url + "/chat/completions", body, timeout=20) as answer:
        return bytes(answer.read())


def test_a_cut_stream_ends_in_order_without_its_finish_marker() -> None:
    with ReplayServer(["abc" * 100], faults={0: ReplayFault("cut", after=3)}) as server:
        data = raw_stream(server)
        assert data.count(b"data: ") == 3
        assert b'finish_reason": "stop' not in data
        assert b"[DONE]" not in data


def test_a_malformed_event_stands_in_the_middle_and_the_rest_follows() -> None:
    with ReplayServer(["abc" * 100], faults={0: ReplayFault("malformed", after=2)}) as server:
        data = raw_stream(server)
        assert b'data: {"id": "half a ch\n\n' in data
        assert data.endswith(b"[DONE]\n\n")


def test_an_empty_answer_is_status_200_without_a_body() -> None:
    with ReplayServer(["x"], faults={0: ReplayFault("empty")}) as server:
        assert raw_stream(server) == b""


@pytest.mark.parametrize("after", [0, 2])
def test_a_disconnect_is_a_connection_error(after: int) -> None:
    with (
        ReplayServer(["abc" * 100], faults={0: ReplayFault("disconnect", after=after)}) as server,
        client_of(server) as client,
        pytest.raises(
            (openai.APIConnectionError, Exception), match=r"(?i)connection|disconnect|peer|incomplete"
        ),
    ):
        list(
            client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": "x"}], stream=True
            )
        )


def test_a_client_that_leaves_in_the_middle_is_noted_in_the_journal() -> None:
    slow = Turn(text="x" * 10_000, chunk=10, delay_s=0.002)
    with ReplayServer([slow]) as server, client_of(server) as client:
        stream = client.responses.create(model="m", input="hi", stream=True)
        next(iter(stream))
        stream.close()
        (entry,) = server.requests
        assert entry.done.wait(20)
        assert entry.closed_early
        assert entry.sent_chunks < 1000


def test_a_stalled_stream_lasts_until_the_client_leaves_and_closing_the_server_ends_it() -> None:
    faults = {0: ReplayFault("stall", after=2), 1: ReplayFault("stall", after=2)}
    before = set(threading.enumerate())
    with ReplayServer(["x" * 1000], faults=faults, repeat=True) as server, client_of(server) as client:
        stream = client.responses.create(model="m", input="hi", stream=True)
        assert next(iter(stream)).type == "response.created"
        stream.close()
        assert server.requests[0].done.wait(20)
        stream = client.responses.create(model="m", input="hi", stream=True)
        begin = time.monotonic()
        server.close()
        assert time.monotonic() - begin < 20
        assert server.requests[1].done.is_set()
        stream.close()
    assert set(threading.enumerate()) <= before


def test_many_clients_are_served_at_the_same_time() -> None:
    slow = Turn(text="x" * 100, chunk=10, delay_s=0.05)
    with ReplayServer(Recording((slow,))) as server, client_of(server) as client:
        answers: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: answers.append(
                    "".join(
                        c.choices[0].delta.content or ""
                        for c in client.chat.completions.create(
                            model="m", messages=[{"role": "user", "content": "x"}], stream=True
                        )
                    )
                )
            )
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == ["x" * 100] * 8


def test_only_loopback_hears_the_server_and_unknown_paths_are_404() -> None:
    with ReplayServer(["x"]) as server:
        assert server.base_url.startswith("http://127.0.0.1:")
        for path in ("/nothing", "/v1/other"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(server.base_url[:-3] + path, timeout=20)
            assert caught.value.code == 404
            caught.value.close()
