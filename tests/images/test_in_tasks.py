"""Pictures that belong to a task, in the forms that people know."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from agentd import Image, Images, SyncSession, task_parts
from agentd.errors import ConfigError
from agentd_history.pictures import PICTURE
from fake_openai import Answer, FakeOpenAI
from pictures import made, png
from PIL import Image as Pillow

URL = f"data:image/png;base64,{base64.b64encode(png()).decode()}"
FENCE = "```"


def session(server: FakeOpenAI, cwd: Path, model: str = "gpt-4.1", **settings: Any) -> SyncSession:
    settings = {"tools": [], "executor": "subprocess", **settings}
    return SyncSession(model, base_url=server.base_url, api_key="none", cwd=cwd, **settings)


def data(part: dict[str, Any]) -> bytes:
    url = part["image_url"]["url"] if isinstance(part["image_url"], dict) else part["image_url"]
    return base64.b64decode(url.partition(",")[2])


def test_every_form_becomes_the_part_of_chat_completions(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    forms = [
        tmp_path / "a.png",
        Image(tmp_path / "a.png"),
        Image(str(tmp_path / "a.png"), name="other"),
        Image(png()),
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "input_image", "image_url": URL},
    ]
    for form in forms:
        assert task_parts([form]) == [{"type": "image_url", "image_url": {"url": URL}}]
    [detailed] = task_parts([{"type": "input_image", "image_url": URL, "detail": "low"}])
    assert detailed["image_url"] == {"url": URL, "detail": "low"}
    texts = ["a", {"type": "input_text", "text": "b"}, {"type": "text", "text": "c"}]
    assert [part["text"] for part in task_parts(texts)] == ["a", "b", "c"]
    [drawn] = task_parts([Pillow.new("RGB", (3000, 30))])
    assert Pillow.open(io.BytesIO(data(drawn))).size == (1568, 16)


@pytest.mark.parametrize("api", ["chat", "responses"])
@pytest.mark.parametrize("images", [False, True])
def test_a_task_with_a_picture_is_sent_so_and_told_again(api: str, images: bool, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(made("JPEG", (4000, 3000)))
    with (
        FakeOpenAI("A gradient.", "Still.") as server,
        session(server, tmp_path, api=api, images=images) as agent,
    ):
        assert agent.ask(["What is this?", tmp_path / "photo.jpg"]).text == "A gradient."
        agent.ask("Sure?")
    key = "messages" if api == "chat" else "input"
    first = next(m for m in server.requests[0][key] if m["role"] == "user")
    assert first in server.requests[1][key]
    texts = [part["text"] for part in first["content"] if "text" in part["type"]]
    [picture] = [data(part) for part in first["content"] if "image" in part["type"]]
    assert texts[0].startswith("What is this?")
    assert Pillow.open(io.BytesIO(picture)).size == (1568, 1176)
    transcript = json.dumps(agent.transcript.as_dict())
    assert (
        "base64" in transcript
    ) is not images  # shown pictures are files; without that, the part stays as it was


def test_a_picture_of_a_task_is_a_file_that_the_code_can_open(tmp_path: Path) -> None:
    code = f"{FENCE}python:execute\nprint(open(FILE, 'rb').read(4))\n{FENCE}\n"
    with FakeOpenAI() as server, session(server, tmp_path, images=True) as agent:

        def answer(request: dict[str, Any]) -> Answer:
            if len(server.requests) > 1:
                return Answer(text="Done.")
            [(_, _, file)] = PICTURE.findall(request["messages"][-1]["content"][0]["text"])
            return Answer(text=code.replace("FILE", repr(f".agentd/pictures/{file}")))

        server.decide = answer
        agent.ask(["Crop it.", Image(png())])
        assert "b'\\x89PNG'" in agent.transcript.executions[0].output
        assert agent.transcript.messages[0].parts == ()


@pytest.mark.parametrize("mode", ["ptc", "tools"])
def test_a_model_that_cannot_see_is_told_of_the_file(mode: Any, tmp_path: Path) -> None:
    address = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    (tmp_path / "photo.png").write_bytes(png())
    with (
        FakeOpenAI("A file.", "An address.") as server,
        session(server, tmp_path, mode=mode, images=Images(sees=False)) as agent,
    ):
        agent.ask(["What is this?", Image(png(), name="pic"), tmp_path / "photo.png"])
        agent.ask(["And this?", address])
    told, later = (request["messages"][-1]["content"] for request in server.requests)
    assert told.startswith(
        "What is this?\n[picture 1 of the task: pic, image/png, 8 x 8 pixels, 1 KiB; file "
    )
    assert "\n[picture 2 of the task: photo.png, image/png, 8 x 8 pixels, 1 KiB; file " in told
    assert told.endswith("[note: you are not shown pictures; code can open their files]")
    [(_, _, file), _] = PICTURE.findall(told)
    assert (tmp_path / ".agentd/pictures" / file).read_bytes() == png()
    assert later == "And this?\n[image_url: not shown to this model]"


def test_pictures_by_address_are_left_to_the_provider(tmp_path: Path) -> None:
    parts = [
        {"type": "text", "text": "x"},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
    ]
    with FakeOpenAI("Ok.") as server, session(server, tmp_path, images=True) as agent:
        agent.ask(parts)
    assert server.requests[0]["messages"][-1]["content"] == parts


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("absent.png", r"absent\.png: there is no such file"),
        (b"GIF", "picture: not a picture that can be shown, it begins with b'GIF'"),
        (made()[:-40], "a broken png picture"),
        (object(), "object is no picture: give a path, bytes, a Pillow image or a matplotlib figure"),
    ],
)
def test_what_is_no_picture_ends_before_anything_is_sent(source: Any, why: str, tmp_path: Path) -> None:
    with FakeOpenAI("Never.") as server, session(server, tmp_path) as agent:
        with pytest.raises(ConfigError, match=f"task: a picture cannot be shown: .*{why}"):
            agent.ask(["What is this?", Image(source)])
        assert agent.transcript.messages == []
    assert server.requests == []


def test_a_file_of_200_mb_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(200 * 1024 * 1024)
    with pytest.raises(ConfigError, match=r"huge\.png: 209,715,200 bytes; a picture may have 20,971,520"):
        task_parts([tmp_path / "huge.png"])


def test_a_refused_picture_leaves_a_session_that_goes_on(tmp_path: Path) -> None:
    refused = Answer(status=400, error={"message": "this model takes no images", "type": "x"})
    with (
        FakeOpenAI(refused, "A file, then.", "Fine.") as server,
        session(server, tmp_path, model="unknown", images=True) as agent,
    ):
        assert agent.ask(["What is this?", Image(png())]).text == "A file, then."
        assert agent.ask("Go on.").text == "Fine."
    assert ["image_url" in json.dumps(request) for request in server.requests] == [True, False, False]
