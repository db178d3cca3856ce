"""Clients as people have them: the OpenAI SDK, LiteLLM and curl; and what of a conversation stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd import display_events
from fake_openai import Answer, FakeOpenAI
from served import Served

ASK: Any = [{"role": "user", "content": "How many?"}]
COUNT = "I count.\n\n```bash:execute\necho $((6 * 7)); pwd\n```\n"
KEEP = "```bash:execute\necho one >> kept; cat kept; x=5\n```\n"
SHELL = "```bash:execute\ncat kept; echo [$x]\n```\n"
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


def outputs(answer: Any) -> list[str]:
    return [done["output"] for done in answer.agentd["executions"]]


def test_a_chat_answer_acts_and_comes_back_as_the_sdk_has_it(tmp_path: Path) -> None:
    with FakeOpenAI(COUNT, "There are 42.") as fake, Served(fake, tmp_path) as served:
        answer = served.client().chat.completions.create(
            model="m1", messages=ASK, temperature=0.5, max_tokens=9
        )
        assert answer.choices[0].message.content == "There are 42."
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == 200
        (output,) = outputs(answer)
        assert output.startswith("42\n")
    assert [(r["temperature"], r["max_tokens"]) for r in fake.requests] == [(0.5, 9)] * 2


def test_a_streamed_chat_answer_is_one_stream_that_an_unpatched_client_can_show(tmp_path: Path) -> None:
    with FakeOpenAI(COUNT, "There are 42.") as fake, Served(fake, tmp_path) as served:
        stream = served.client().chat.completions.create(
            model="m1", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    assert len({chunk.id for chunk in chunks}) == 1
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "".join(text.split()) == "".join(f"{COUNT}There are 42.".split())
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 20
    shown = list(display_events(iter(chunks)))
    (done,) = [event for event in shown if event.type == "code_execution"]
    assert done.output.startswith("42\n")


def test_a_response_is_continued_with_what_was_said_and_with_its_sandbox(tmp_path: Path) -> None:
    with FakeOpenAI(KEEP, "Kept.", SHELL, "Seen.") as fake, Served(fake, tmp_path) as served:
        client = served.client()
        first = client.responses.create(model="m1", input="Keep it.", instructions="Be short.")
        assert first.output_text == "Kept."
        second = client.responses.create(model="m1", input="Still there?", previous_response_id=first.id)
        assert second.previous_response_id == first.id != second.id
        assert [item.type for item in second.output] == ["code_interpreter_call", "message"]
        (output,) = outputs(second)
        assert output == "one\n[5]\n"
    told = [message["content"] for message in fake.requests[-2]["messages"] if message["role"] == "user"]
    assert told[0] == "Keep it."
    assert told[-1] == "Still there?"
    assert "Be short." not in str(
        fake.requests[-1]["messages"]
    )  # as OpenAI has it: they hold for one request


def test_a_streamed_response_has_one_id_by_which_it_is_continued(tmp_path: Path) -> None:
    with FakeOpenAI(KEEP, "Kept.", SHELL, "Seen.") as fake, Served(fake, tmp_path) as served:
        client = served.client()
        ends = []
        for text in ("Keep it.", "Still there?"):
            previous = {"previous_response_id": ends[-1].id} if ends else {}
            events = list(client.responses.create(model="m1", input=text, stream=True, **previous))  # type: ignore[call-overload]
            ids = {event.response.id for event in events if hasattr(event, "response")}
            assert [event.sequence_number for event in events] == list(range(len(events)))
            assert events[-1].type == "response.completed"
            ends.append(events[-1].response)
            assert ids == {ends[-1].id}
    assert outputs(ends[-1]) == ["one\n[5]\n"]


def test_a_response_may_branch_and_each_branch_has_what_was_said_before(tmp_path: Path) -> None:
    with FakeOpenAI("One.", "Two.", "Three.") as fake, Served(fake, tmp_path) as served:
        client = served.client()
        first = client.responses.create(model="m1", input="a")
        for text in ("b", "c"):
            client.responses.create(model="m1", input=text, previous_response_id=first.id)
    said = [[m["content"] for m in r["messages"] if m["role"] != "system"] for r in fake.requests]
    assert said == [["a"], ["a", "One.", "b"], ["a", "One.", "c"]]


@pytest.mark.parametrize("previous", ["resp_unknown", ""], ids=["unknown", "not-stored"])
def test_a_response_that_is_not_there_cannot_be_continued(tmp_path: Path, previous: str) -> None:
    with FakeOpenAI("One.", "Two.") as fake, Served(fake, tmp_path) as served:
        client = served.client()
        known = client.responses.create(model="m1", input="a", store=False).id
        with pytest.raises(openai.BadRequestError) as caught:
            client.responses.create(model="m1", input="b", previous_response_id=previous or known)
    assert caught.value.code == "previous_response_not_found"
    assert len(fake.requests) == 1


@pytest.mark.parametrize("asked", ["chat", "responses"])
@STREAMED
def test_the_models_server_may_speak_the_other_api(tmp_path: Path, asked: str, streamed: bool) -> None:
    upstream = "responses" if asked == "chat" else "chat"
    with FakeOpenAI(COUNT, "There are 42.") as fake, Served(fake, tmp_path, api=upstream) as served:
        client: Any = served.client()
        if asked == "chat":
            answer = client.chat.completions.create(
                model="m1", messages=ASK, stream=streamed, max_tokens=7, reasoning_effort="low"
            )
        else:
            answer = client.responses.create(
                model="m1",
                input="How many?",
                stream=streamed,
                max_output_tokens=7,
                reasoning={"effort": "low"},
            )
        texts = (
            [e.text for e in display_events(answer) if e.type == "text_delta"] if streamed else [str(answer)]
        )
    assert "There are 42." in "".join(texts)
    sent = fake.requests[0]
    assert fake.paths[0].endswith("/responses" if upstream == "responses" else "/chat/completions")
    limit = sent["max_output_tokens"] if upstream == "responses" else sent["max_tokens"]
    effort = sent["reasoning"]["effort"] if upstream == "responses" else sent["reasoning_effort"]
    assert (limit, effort) == (7, "low")


def test_a_session_that_a_client_names_keeps_its_sandbox_and_others_get_a_new_one(tmp_path: Path) -> None:
    with (
        FakeOpenAI(KEEP, "1", SHELL, "2", SHELL, "3", repeat=False) as fake,
        Served(fake, tmp_path) as served,
    ):
        chat = served.client().chat.completions
        named = {"X-Agentd-Session": "work"}
        chat.create(model="m1", messages=ASK, extra_headers=named)
        again = chat.with_raw_response.create(model="m1", messages=ASK, extra_headers=named)
        assert again.headers["x-agentd-session"] == "work"
        assert outputs(again.parse()) == ["one\n[5]\n"]
        (other,) = outputs(chat.create(model="m1", messages=ASK))
        assert "[]\n" in other
        assert "one" not in other
        assert (tmp_path / "sessions" / "anyone" / "work" / "kept").read_text() == "one\n"
    assert not (tmp_path / "requests").exists()


def test_a_session_can_be_ended_and_its_files_stay(tmp_path: Path) -> None:
    with FakeOpenAI(KEEP, "1", SHELL, "2") as fake, Served(fake, tmp_path) as served:
        create = served.client().chat.completions.create
        named = {"X-Agentd-Session": "work"}
        create(model="m1", messages=ASK, extra_headers=named)
        assert served.send(b"", "/agentd/sessions/work", method="DELETE")[0] == 204
        assert served.send(b"", "/agentd/sessions/work", method="DELETE")[0] == 404
        assert outputs(create(model="m1", messages=ASK, extra_headers=named)) == ["one\n[]\n"]


def test_a_sandbox_in_which_nothing_ran_serves_the_next_request_and_one_that_was_used_does_not(
    tmp_path: Path,
) -> None:
    where = "```bash:execute\npwd; ls; touch mine\n```\n"
    with FakeOpenAI("Hello.", where, "1", where, "2", "Hello.") as fake, Served(fake, tmp_path) as served:
        create = served.client().chat.completions.create
        create(model="m1", messages=ASK)
        (waiting,) = (tmp_path / "requests").glob("*/*")
        first, second = [outputs(create(model="m1", messages=ASK))[0] for _ in range(2)]
        assert first == f"{waiting}\n"
        assert second != first
        assert "mine" not in second
        create(model="m1", messages=ASK)
        assert waiting not in (tmp_path / "requests").glob("*/*")


def test_an_answer_that_is_parsed_has_its_form(tmp_path: Path) -> None:
    from pydantic import BaseModel

    class Count(BaseModel):
        files: int

    with FakeOpenAI(COUNT, '{"files": 42}', COUNT, '{"files": 43}') as fake, Served(fake, tmp_path) as served:
        client = served.client()
        chat = client.chat.completions.parse(model="m1", messages=ASK, response_format=Count)
        assert chat.choices[0].message.parsed == Count(files=42)
        response = client.responses.parse(model="m1", input="How many?", text_format=Count)
        assert response.output_parsed == Count(files=43)


def test_a_native_call_of_a_tool_that_the_client_has_itself_goes_to_the_client(tmp_path: Path) -> None:
    tool: Any = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object", "properties": {}}},
    }
    script = [Answer(calls=[("call_1", "look", "{}")]), "Thanks."]
    with FakeOpenAI(*script) as fake, Served(fake, tmp_path) as served:
        create = served.client().chat.completions.create
        answer = create(model="m1", messages=ASK, tools=[tool])
        calls = answer.choices[0].message.tool_calls
        assert calls is not None
        assert [call.id for call in calls] == ["call_1"]
        said = answer.choices[0].message.to_dict()
        result = {"role": "tool", "tool_call_id": "call_1", "content": "seen"}
        last = create(model="m1", messages=[*ASK, said, result], tools=[tool])
        assert last.choices[0].message.content == "Thanks."


def test_models_and_health_are_told(tmp_path: Path) -> None:
    with FakeOpenAI("x") as fake, Served(fake, tmp_path, models=("m1", "org/m2")) as served:
        client = served.client()
        assert [model.id for model in client.models.list()] == ["m1", "org/m2"]
        assert client.models.retrieve("org/m2").id == "org/m2"
        assert served.send(b"", "/health", method="GET")[2] == {"status": "ok"}
        with pytest.raises(openai.NotFoundError, match="'m1', 'org/m2'"):
            client.chat.completions.create(model="m3", messages=ASK)
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve("m3")


def test_arguments_that_the_sdk_does_not_know_reach_the_models_server(tmp_path: Path) -> None:
    with FakeOpenAI("Hello.") as fake, Served(fake, tmp_path, defaults={"top_k": 3, "seed": 1}) as served:
        create = served.client().chat.completions.create
        create(model="m1", messages=ASK, seed=2, extra_body={"min_p": 0.1, "temperature": None})
    (sent,) = fake.requests
    assert (sent["top_k"], sent["seed"], sent["min_p"]) == (3, 2, 0.1)
    assert "temperature" not in sent


LITELLM = """
import litellm, sys
url, streamed = sys.argv[1], sys.argv[2] == "True"
asked = [{"role": "user", "content": "How many?"}]
answer = litellm.completion(model="openai/m1", messages=asked, api_base=url, api_key="none", stream=streamed)
if streamed:
    print("".join(chunk.choices[0].delta.content or "" for chunk in answer))
else:
    print(answer.choices[0].message.content)
"""


@pytest.mark.slow
@STREAMED
def test_litellm_asks_as_it_asks_any_server(tmp_path: Path, streamed: bool) -> None:
    with FakeOpenAI(COUNT, "There are 42.") as fake, Served(fake, tmp_path) as served:
        # In a process of its own: it leaves an event loop open.
        done = subprocess.run(
            [sys.executable, "-c", LITELLM, served.url, str(streamed)],
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            capture_output=True,
            text=True,
            timeout=100,
            check=True,
        )
    assert done.stdout.rstrip().endswith("There are 42.")
    assert len(fake.requests) == 2


@STREAMED
def test_curl_reads_what_the_documentation_says(tmp_path: Path, streamed: bool) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    with FakeOpenAI(COUNT, "There are 42.") as fake, Served(fake, tmp_path) as served:
        body = json.dumps({"model": "m1", "messages": ASK, "stream": streamed})
        command = ["curl", "-sS", "--no-buffer", f"{served.url}/chat/completions", "-d", body]
        done = subprocess.run(
            [*command, "-H", "Content-Type: application/json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    if not streamed:
        assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "There are 42."
        return
    lines = [line for line in done.stdout.splitlines() if line]
    assert lines[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in lines)
    deltas = [json.loads(line.removeprefix("data: "))["choices"][0]["delta"] for line in lines[:-1]]
    assert "".join(delta.get("content") or "" for delta in deltas).endswith("There are 42.")


def test_the_sdks_own_helper_for_streams_works(tmp_path: Path) -> None:
    with (
        FakeOpenAI(COUNT, "There are 42.") as fake,
        Served(fake, tmp_path) as served,
        served.client().responses.stream(model="m1", input="How many?") as stream,
    ):
        kinds = {event.type for event in stream}
        final = stream.get_final_response()
    assert "response.code_interpreter_call.completed" in kinds
    assert final.output_text.endswith("There are 42.")
