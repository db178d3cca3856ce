"""`images=` of patched clients: what code shows and tools return is in the next request, in all ways of calling; what
comes back is text."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd import Images
from agentd.errors import ConfigError, ModelError
from agentd.types import Blob
from agentd_history import History
from agentd_history.pictures import PICTURE
from agentd_openai import patch_openai_with_mcp, patch_openai_with_ptc
from fake_openai import Answer, FakeOpenAI
from pictures import png
from ways import WAYS, call, text_of

SHOW = '```python:execute\nimport agentd\nagentd.show("a.png")\nprint("done")\n```\n'
MADE = (
    "```python:execute\nimport agentd\nfrom PIL import Image\n"
    'agentd.show(Image.new("L", (9, 9), NUMBER))\n```\n'
)
REFUSED = Answer(status=400, error={"message": "image input is not supported", "type": "x"})

every_way = pytest.mark.parametrize("way", WAYS)
Patch = Callable[..., Any]


def items_of(request: dict[str, Any]) -> list[Any]:
    found: list[Any] = request["messages"] if "messages" in request else request["input"]
    return found


def told(request: dict[str, Any]) -> tuple[str, list[bytes]]:
    """Return the text and the pictures of a request's last message, each part in the form of its API."""
    content = items_of(request)[-1]["content"]
    if isinstance(content, str):
        return content, []
    kinds = ("text", "image_url") if "messages" in request else ("input_text", "input_image")
    assert {part["type"] for part in content} <= set(kinds)
    urls = [part["image_url"] for part in content if part["type"] == kinds[1]]
    texts = "\n".join(part["text"] for part in content if part["type"] == kinds[0])
    plain = [url["url"] if kinds[1] == "image_url" else url for url in urls]
    return texts, [base64.b64decode(url.partition(";base64,")[2]) for url in plain]


def counts(server: FakeOpenAI) -> list[int]:
    return [json.dumps(request).count("data:image/png") for request in server.requests]


@pytest.fixture
def shown(patched: Patch, tmp_path: Path) -> Patch:
    """Patch a client whose workspace has a picture."""

    def patch(server: FakeOpenAI, way: str = "sync", **settings: Any) -> Any:
        work = settings.setdefault("cwd", tmp_path / "work")
        work.mkdir(exist_ok=True)
        (work / "a.png").write_bytes(png())
        settings.setdefault("images", Images(sees=True))
        return patched(server, asynchronous=way.startswith("async"), **settings)

    return patch


@every_way
def test_what_code_shows_is_in_the_next_request_and_comes_back_as_text(way: str, shown: Patch) -> None:
    with FakeOpenAI(SHOW, "A square.") as server:
        outcome = call(way, shown(server, way, images=True))  # nobody knows the model `m`: it is taken to see
    text, pictures = told(server.requests[1])
    assert pictures == [png()]
    assert text.startswith("[result 1 of 1: python:execute, completed, exit code 0]\ndone\n")
    assert "[note: picture 1: a.png, image/png, 8 x 8 pixels" in text
    assert text_of(way, outcome) == "A square."
    if outcome.whole is not None:
        record = outcome.whole.agentd
        [results] = [m for m in record["messages"] if m["role"] == "user"]
        assert results == {"role": "user", "content": text}
        assert "base64" not in outcome.whole.to_json()
    else:
        assert "base64" not in "".join(item.to_json() for item in outcome.items)


@every_way
def test_without_images_nothing_is_shown(way: str, shown: Patch) -> None:
    with FakeOpenAI(SHOW, "No.") as server:
        call(way, shown(server, way, images=None))
    text, pictures = told(server.requests[1])
    assert pictures == []
    assert "no tool 'agentd_show'" in text


@every_way
def test_a_model_that_cannot_see_is_told_the_line_and_where_the_file_is(
    way: str, shown: Patch, tmp_path: Path
) -> None:
    with FakeOpenAI(SHOW, "A file.") as server:
        call(way, shown(server, way, images=Images(sees=False)))
    text, pictures = told(server.requests[1])
    assert pictures == []
    [(_, _, file)] = PICTURE.findall(text)
    assert (tmp_path / "work/.agentd/pictures" / file).read_bytes() == png()
    assert text.endswith("[note: you are not shown pictures; code can open their files]")


@every_way
def test_a_refusal_is_tried_once_without_and_later_calls_of_the_client_begin_with_text(
    way: str, shown: Patch
) -> None:
    with FakeOpenAI(SHOW, REFUSED, "Text, then.", SHOW, "Text again.") as server:
        client = shown(server, "sync" if way.startswith("sync") else way, images=True)
        outcome = call(way, client)
        assert text_of(way, outcome) == "Text, then."
        if way.startswith("sync"):  # an async client is closed with its call
            assert text_of(way, call(way, client)) == "Text again."
    expected = [0, 1, 0, 0, 0] if way.startswith("sync") else [0, 1, 0]
    assert counts(server) == expected
    assert "not shown pictures" in told(server.requests[2])[0]


def test_a_refusal_for_another_reason_comes_out_and_the_next_call_has_pictures(shown: Patch) -> None:
    first = Answer(status=400, error={"message": "bad parameter", "type": "x"})
    again = Answer(status=400, error={"message": "bad parameter again", "type": "x"})
    with FakeOpenAI(SHOW, first, again, SHOW, "Fine.") as server:
        client = shown(server, images=True)
        with pytest.raises(ModelError, match=r"bad parameter(?! again)") as caught:
            call("sync-chat-whole", client)
        assert caught.value.__cause__ is not None
        call("sync-chat-whole", client)
    assert counts(server) == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_caller_that_sends_the_messages_again_has_the_pictures_shown_again_at_the_same_place(
    api: str, shown: Patch
) -> None:
    with FakeOpenAI(SHOW, "A square.", "Still.", "Gone.") as server:
        client = shown(server)
        done = call(f"sync-{api}-whole", client).whole
        given = [{"role": "user", "content": "go"}, *done.agentd["messages"]]
        given.append({"role": "user", "content": "sure?"})
        before = json.dumps(given)
        name = "messages" if api == "chat" else "input"
        call(f"sync-{api}-whole", client, **{name: given})
        assert json.dumps(given) == before
        first, second = server.requests[1], server.requests[2]
        sent = items_of(first)
        if api == "responses":
            sent = [{"role": "user", "content": "go"}, *sent[1:]]
        assert items_of(second)[: len(sent)] == sent  # the provider's cache holds
        for kept in (client._agentd.state.resources.workspace / ".agentd/pictures").iterdir():
            kept.write_bytes(png(5))  # code has changed it: not what the conversation says
        client._agentd.state.resources.pictures._store._held.clear()
        call(f"sync-{api}-whole", client, **{name: given})
    assert counts(server) == [0, 1, 1, 0]
    said = [json.dumps(request).count("no longer there, so not shown: ") for request in server.requests]
    assert said == [0, 0, 0, 1]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_more_pictures_than_are_remembered_become_text_at_the_same_place_when_sent_again(
    api: str, shown: Patch
) -> None:
    script = [MADE.replace("NUMBER", str(n)) for n in range(7)]
    with FakeOpenAI(*script, "Enough.", "Yes.") as server:
        client = shown(server, images=Images(sees=True, max_remembered=4))
        done = call(f"sync-{api}-whole", client).whole
        given = [{"role": "user", "content": "go"}, *done.agentd["messages"]]
        given.append({"role": "user", "content": "sure?"})
        call(f"sync-{api}-whole", client, **{"messages" if api == "chat" else "input": given})
    assert counts(server) == [0, 1, 2, 3, 4, 2, 3, 4, 4]
    assert "[note: old picture 1: " in json.dumps(server.requests[5])
    assert len(PICTURE.findall("\n".join(str(m["content"]) for m in done.agentd["messages"]))) == 7
    last, again = (items_of(request) for request in server.requests[-2:])
    assert again[2 : len(last)] == last[2:]


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("mode", ["whole", "stream"])
def test_the_json_loop_shows_what_tools_return_behind_their_results(
    api: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def chart(number: int) -> object:
        """Draw a chart."""
        return ["a chart", Blob(png(number), "image/png", "chart.png")]

    calls = Answer(calls=[("call_1", "chart", '{"number": 4}'), ("call_2", "chart", '{"number": 5}')])
    with FakeOpenAI(calls, "Seen.", "Again.") as server:
        client = patch_openai_with_mcp(server.client(), tools=[chart], images=True)
        outcome = call(f"sync-{api}-{mode}", client)
        assert text_of(f"sync-{api}-{mode}", outcome) == "Seen."
        if mode == "whole":
            record = outcome.whole.agentd if api == "responses" else outcome.whole.choices[0].message.agentd
            assert "base64" not in json.dumps(record["messages"])
            assert "The pictures of these results" not in json.dumps(record["messages"])
            given = [{"role": "user", "content": "go"}, *record["messages"]]
            given.append({"role": "user", "content": "sure?"})
            call(f"sync-{api}-whole", client, **{"messages" if api == "chat" else "input": given})
            assert items_of(server.requests[2])[:-2] == [given[0], *items_of(server.requests[1])[1:]]
        client.cleanup_mcp()
        client.close()
    assert told(server.requests[1]) == ("The pictures of these results:", [png(4), png(5)])
    sent = server.requests[0]["tools"]
    assert [t.get("name") or t["function"]["name"] for t in sent] == ["chart"]


def test_with_a_history_old_pictures_become_text_and_what_is_sent_stays_short(shown: Patch) -> None:
    script = [MADE.replace("(9, 9)", "(1000, 750)").replace("NUMBER", str(n)) for n in range(6)]
    with FakeOpenAI(*script, "Enough.") as server:
        client = shown(server, history=History(rule="shorten", max_tokens=4_500))
        done = call("sync-chat-whole", client).whole
    found = counts(server)
    assert found[:4] == [0, 1, 2, 3]
    assert max(found) <= 4
    assert found[-1] < 6
    assert len(PICTURE.findall("\n".join(str(m["content"]) for m in done.agentd["messages"]))) == 6


@pytest.mark.parametrize("streamed", [True, False])
def test_calls_that_run_at_once_are_each_shown_their_own_pictures(streamed: bool, shown: Patch) -> None:
    both = threading.Barrier(2, timeout=60)

    def meet() -> None:
        """Wait for the other call."""
        both.wait()

    def decide(request: dict[str, Any]) -> Answer:
        said = items_of(request)
        if len(said) > 2:
            return Answer(text="Seen.")
        number = str(said[-1]["content"])
        shows = MADE.replace("NUMBER", f"{number}").removesuffix("```\n")
        meets = "from lib.tools import meet\nmeet()\n"
        return Answer(text=shows.replace("import agentd\n", f"{meets}import agentd\n") + f"{meets}```\n")

    with FakeOpenAI() as server:
        server.decide = decide
        client = shown(server, tools=[meet])
        way = f"sync-chat-{'stream' if streamed else 'whole'}"
        threads = [
            threading.Thread(
                target=call,
                args=(way, client),
                kwargs={"messages": [{"role": "user", "content": str(number)}]},
            )
            for number in (10, 200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(counts(server)) == [0, 0, 1, 1]
    seen = {}
    for request in server.requests:
        if len(request["messages"]) > 2:
            [picture] = told(request)[1]
            seen[request["messages"][1]["content"]] = picture
    assert len(set(seen.values())) == 2
    from agentd_images.reading import read_picture  # what Pillow makes of the two

    assert {n: read_picture(p, "", Images()).data == p for n, p in seen.items()} == {"10": True, "200": True}
    from io import BytesIO

    from PIL import Image

    assert {n: Image.open(BytesIO(p)).convert("L").getpixel((0, 0)) for n, p in seen.items()} == {
        "10": 10,
        "200": 200,
    }


def test_what_a_call_has_shown_that_was_cut_short_no_other_call_is_told(shown: Patch) -> None:
    failing = SHOW.replace('print("done")', "from lib.tools import stuck\nstuck()")
    begun, go = threading.Event(), threading.Event()

    def stuck() -> None:
        """Wait."""
        begun.set()
        go.wait(60)

    with FakeOpenAI(failing, "```bash:execute\necho hi\n```", "Hi.") as server:
        client = shown(server, tools=[stuck])
        stream = client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "go"}], stream=True
        )
        for _ in stream:
            if begun.is_set() or begun.wait(60):
                break
        stream.close()
        go.set()
        call("sync-chat-whole", client)
    assert "picture" not in told(server.requests[-1])[0]
    assert sum(counts(server)) == 0


def test_both_patches_of_a_client_have_the_same_images(tmp_path: Path) -> None:
    with FakeOpenAI() as server:
        client = patch_openai_with_mcp(server.client(), tools=[], images=Images(max_pictures=2))
        patch_openai_with_ptc(client, cwd=tmp_path, tools=[])
        pictures = client._agentd.state.resources.pictures
        assert pictures.images == Images(max_pictures=2)
        assert pictures.keeps_runs_apart
        client.cleanup_ptc()
        client.close()
        client = patch_openai_with_ptc(server.client(), cwd=tmp_path, tools=[])
        with pytest.raises(ConfigError, match="images: holds for both patches of a client"):
            patch_openai_with_mcp(client, images=True)
        assert not hasattr(client, "cleanup_mcp")
        client.cleanup_ptc()
        client.close()


def test_what_is_no_images_is_refused_before_anything_changes(tmp_path: Path) -> None:
    with FakeOpenAI() as server:
        client = server.client()
        for patch in (patch_openai_with_mcp, patch_openai_with_ptc):
            with pytest.raises(
                ConfigError, match=r"images: must be True, False or an agentd\.Images, got 'yes'"
            ):
                patch(client, images="yes")
        assert not hasattr(client, "cleanup_mcp")
        assert not hasattr(client, "cleanup_ptc")
        client.close()
