"""Responses by their ids: read, deleted and cancelled, as the SDK does it, by the key whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from agentd_serve.keys import read_keys
from fake_openai import Answer, FakeOpenAI
from served import Served, is_gone, until

RUN = "```bash:execute\necho 3 > count; cat count\n```\n"
SLEEP = "```bash:execute\necho $$ > {pid}; sleep 300\n```\n"
KEYS = {"ada": "ada-ada-ada-ada-ada", "bob": "bob-bob-bob-bob-bob"}


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    lines = ["keys:"]
    for name, key in KEYS.items():
        monkeypatch.setenv(f"KEY_{name}", key)
        lines.append(f"  - {{name: {name}, env: KEY_{name}}}")
    (tmp_path / "keys.yaml").write_text("\n".join(lines))
    return read_keys(tmp_path / "keys.yaml", ("m1",))


@pytest.fixture
def served(tmp_path: Path, ring: Any) -> Iterator[Served]:
    with (
        FakeOpenAI(RUN, "There are 3.", "Then 4.") as fake,
        Served(fake, tmp_path / "root", ring=ring) as served,
    ):
        yield served


def test_a_response_is_read_again_as_it_was_given(served: Served) -> None:
    client = served.client(KEYS["ada"])
    made = client.responses.create(model="m1", input="How many?")
    again = client.responses.retrieve(made.id)
    assert again.to_dict() == made.to_dict()
    assert again.output_text.endswith("There are 3.")
    assert again.status == "completed"


def test_a_response_that_was_streamed_is_read_again(served: Served) -> None:
    client = served.client(KEYS["ada"])
    *_, last = client.responses.create(model="m1", input="How many?", stream=True)
    assert last.type == "response.completed"
    assert client.responses.retrieve(last.response.id).to_dict() == last.response.to_dict()
    with pytest.raises(openai.BadRequestError, match="a response is given whole"):
        client.responses.retrieve(last.response.id, stream=True)


def test_a_response_that_was_deleted_is_gone_and_the_one_before_it_can_be_continued(served: Served) -> None:
    client = served.client(KEYS["ada"])
    first = client.responses.create(model="m1", input="How many?")
    second = client.responses.create(model="m1", input="And then?", previous_response_id=first.id)
    status, _, told = served.send(
        b"", f"/v1/responses/{second.id}", method="DELETE", Authorization=f"Bearer {KEYS['ada']}"
    )
    assert (status, told) == (200, {"id": second.id, "object": "response", "deleted": True})
    with pytest.raises(openai.NotFoundError, match="was deleted"):
        client.responses.retrieve(second.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.delete(second.id)
    with pytest.raises(openai.BadRequestError, match="there is no response"):
        client.responses.create(model="m1", input="?", previous_response_id=second.id)
    assert client.responses.retrieve(first.id).output_text.endswith("There are 3.")


def test_the_folder_of_a_conversation_goes_with_its_last_response(served: Served, tmp_path: Path) -> None:
    client = served.client(KEYS["ada"])
    made = client.responses.create(model="m1", input="How many?")
    (folder,) = (tmp_path / "root" / "requests").glob("*/*")
    assert (folder / "count").read_text() == "3\n"
    client.responses.delete(made.id)
    until(lambda: not folder.exists())


def test_what_another_key_has_made_is_as_what_there_is_not(served: Served) -> None:
    ada, bob = (served.client(KEYS[name]).responses for name in ("ada", "bob"))
    made = ada.create(model="m1", input="How many?")
    for ask in (bob.retrieve, bob.delete, bob.cancel):
        with pytest.raises(openai.NotFoundError) as caught:
            ask(made.id)
        with pytest.raises(openai.NotFoundError) as none:
            ask("resp_none")
        assert str(caught.value).replace(made.id, "resp_none") == str(none.value)
    assert ada.retrieve(made.id).id == made.id


def test_what_was_not_to_be_stored_is_not_kept(served: Served) -> None:
    client = served.client(KEYS["ada"])
    made = client.responses.create(model="m1", input="How many?", store=False)
    with pytest.raises(openai.NotFoundError, match="it was not stored"):
        client.responses.retrieve(made.id)


def test_a_response_under_way_is_seen_and_cancelled_with_its_code(tmp_path: Path, ring: Any) -> None:
    pid = tmp_path / "pid"
    with (
        FakeOpenAI(SLEEP.format(pid=pid), "Fine.") as fake,
        Served(fake, tmp_path / "root", ring=ring) as served,
    ):
        client = served.client(KEYS["ada"])
        stream = client.responses.create(model="m1", input="Wait.", stream=True)
        id = next(iter(stream)).response.id  # type: ignore[union-attr]
        code = int(until(lambda: pid.exists() and pid.read_text()))
        assert client.responses.retrieve(id).status == "in_progress"
        with pytest.raises(openai.ConflictError, match="cancel it first"):
            client.responses.delete(id)
        with pytest.raises(openai.NotFoundError):
            served.client(KEYS["bob"]).responses.cancel(id)
        cancelled = client.responses.cancel(id)
        assert (cancelled.id, cancelled.status) == (id, "cancelled")
        assert is_gone(code)
        with pytest.raises(openai.APIError, match="the response was cancelled"):
            list(stream)
        with pytest.raises(openai.NotFoundError, match="cancelled"):
            client.responses.retrieve(id)
        until(lambda: not any((tmp_path / "root" / "requests").glob("*/*")))
        assert client.responses.create(model="m1", input="And now?").output_text == "Fine."


def test_a_response_that_has_ended_cannot_be_cancelled(served: Served) -> None:
    client = served.client(KEYS["ada"])
    made = client.responses.create(model="m1", input="How many?")
    with pytest.raises(openai.BadRequestError, match="only one under way"):
        client.responses.cancel(made.id)
    assert client.responses.retrieve(made.id).id == made.id


@pytest.mark.anyio
async def test_a_response_that_ends_as_it_is_cancelled_has_ended() -> None:
    from agentd_serve.keys import ServedKey
    from agentd_serve.responses import ResponsesUnderWay, ResponseUnderWay
    from openai.types.responses import Response

    key = ServedKey(name="a")
    under_way, response = ResponsesUnderWay(), ResponseUnderWay(key, "")
    with under_way.entered(response):
        response.put(Response.construct(id="", status="completed"))
        response.scope.cancel()
    assert b'"status":"completed"' in await response.cancel()
    assert under_way.find(key, response.id) is None


def test_a_slow_answer_is_not_read_by_an_id_that_its_client_cannot_have(tmp_path: Path) -> None:
    slow = Answer(text="It takes time.", wait_after=4)
    with (
        FakeOpenAI(slow) as fake,
        Served(fake, tmp_path) as served,
        served.begin({"model": "m1", "input": "x"}, "/v1/responses"),
    ):
        until(lambda: fake.requests)
        status, _, told = served.send(b"", "/v1/responses/resp_1", method="GET")
        assert (status, told["error"]["code"]) == (404, "response_not_found")
        slow.gate.set()
