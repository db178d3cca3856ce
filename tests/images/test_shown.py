"""Pictures that code shows and that tools return are in the next request, where the model can see."""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from agentd import Images, SyncSession, tool
from agentd.errors import ConfigError, ModelError
from agentd.turn.transcript import Transcript
from agentd.types import Blob
from agentd_history.pictures import PICTURE
from fake_openai import Answer, FakeOpenAI
from pictures import made, png
from PIL import Image

FENCE = "```"


def block(code: str, language: str = "python") -> str:
    return f"{FENCE}{language}:execute\n{code}\n{FENCE}\n"


def session(server: FakeOpenAI, cwd: Path, model: str = "gpt-4.1", **settings: Any) -> SyncSession:
    settings = {"tools": [], "images": True, "executor": "subprocess", **settings}
    return SyncSession(model, base_url=server.base_url, api_key="none", cwd=cwd, **settings)


def told(request: dict[str, Any]) -> tuple[str, list[bytes]]:
    """Return the text and the pictures of a request's last message, in either API."""
    content = (request.get("messages") or request["input"])[-1]["content"]
    if isinstance(content, str):
        return content, []
    texts = [part["text"] for part in content if part["type"] in ("text", "input_text")]
    urls = [
        part["image_url"]["url"] if part["type"] == "image_url" else part["image_url"]
        for part in content
        if part["type"] in ("image_url", "input_image")
    ]
    return "\n".join(texts), [base64.b64decode(url.partition(";base64,")[2]) for url in urls]


@pytest.mark.parametrize("api", ["chat", "responses"])
def test_a_picture_of_a_path_is_in_the_next_request_and_its_line_in_the_text(
    api: str, tmp_path: Path
) -> None:
    (tmp_path / "plot.png").write_bytes(made())
    answer = block('import agentd\nagentd.show("plot.png")\nprint("done")')
    with FakeOpenAI(answer, "A gradient.") as server, session(server, tmp_path, api=api) as agent:
        events = list(agent.run("look"))
    text, pictures = told(server.requests[1])
    assert pictures == [made()]
    assert "[result 1 of 1: python:execute, completed, exit code 0]\ndone\n" in text
    [(width, height, file)] = PICTURE.findall(text)
    assert (width, height) == ("60", "40")
    assert "[note: picture 1: plot.png, image/png, 60 x 40 pixels, 1 KiB; file .agentd/pictures/" in text
    assert (tmp_path / ".agentd/pictures" / file).read_bytes() == made()
    [event] = [e for e in events if e.type == "picture"]
    assert (event.name, event.width, event.height, event.size_bytes) == ("plot.png", 60, 40, len(made()))
    assert Path(event.path).read_bytes() == made()
    assert event.code_id == next(e.id for e in events if e.type == "code_start")
    assert [e.type for e in events].index("picture") < [e.type for e in events].index("run_end")


def test_it_works_in_every_form_and_kind_of_python(tmp_path: Path) -> None:
    code = """
import io, agentd, matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
from PIL import Image
agentd.show(open("a.png", "rb").read(), name="bytes")
agentd.show(Image.new("CMYK", (3000, 10)), "pillow")
figure, axes = plt.subplots(figsize=(2, 1), dpi=100)
axes.plot([1, 2])
agentd.show(figure, "figure")
plt.title("now")
agentd.show(plt, "pyplot")
plt.title("later")
agentd.show(axes, "axes")
try:
    agentd.show({"a": 1})
except TypeError as error:
    print(error)
"""
    (tmp_path / "a.png").write_bytes(png())
    for state in ("fresh", "kept"):
        with (
            FakeOpenAI(block(code), "Seen.") as server,
            session(server, tmp_path, executor_options={"state": state}) as agent,
        ):
            agent.ask("look")
        text, pictures = told(server.requests[1])
        assert len(pictures) == 5
        assert [Image.open(io.BytesIO(p)).size for p in pictures][:3] == [(8, 8), (1568, 5), (200, 100)]
        for number, name in enumerate(["bytes", "pillow", "figure", "pyplot", "axes"], 1):
            assert f"[note: picture {number}: {name}, " in text
        assert "show(): dict is no picture: give a path" in text


def test_bash_shows_pictures_and_each_result_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(1))
    (tmp_path / "b.png").write_bytes(png(2))
    answer = block("skills show a.png no.png; echo $?", "bash") + block('import agentd; agentd.show("b.png")')
    with FakeOpenAI(answer, "Seen.") as server, session(server, tmp_path) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert sorted(pictures) == sorted([png(1), png(2)])
    assert "skills: no.png: " in text
    assert "of result 1: a.png, " in text
    assert "of result 2: b.png, " in text


def test_an_agentd_that_is_there_has_the_tools_own_show_and_all_else(tmp_path: Path) -> None:
    code = "import agentd\nfrom agentd.types import Limits\nprint(agentd.show.__module__, Limits.__module__)"
    with FakeOpenAI(block(code), "Ok.") as server, session(server, tmp_path) as agent:
        agent.ask("look")
    assert "lib._show agentd.types" in told(server.requests[1])[0]


def test_where_the_interpreter_has_no_agentd_something_stands_in_for_it(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    (tmp_path / "other.py").write_text("import agentd\nagentd.show('a.png', 'from a script')\n")
    # The finder of an editable installation is what finds agentd here.
    code = """
import sys
def hide(name):
    sys.path[:] = [p for p in sys.path if "core/src" not in p]
    sys.meta_path[:] = [f for f in sys.meta_path if "ditable" not in repr(f)]
hide("agentd")
import agentd
print([n for n in dir(agentd) if not n.startswith("_")])
agentd.show("a.png", "stand-in")
"""
    with FakeOpenAI(block(code), "Seen.") as server, session(server, tmp_path) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert "['import_module', 'show']" in text
    assert pictures == [png()]


def test_a_tool_that_returns_a_picture_shows_it_from_code_and_natively(tmp_path: Path) -> None:
    @tool
    def chart(number: int) -> object:
        """Draw a chart."""
        return ["a chart", Blob(png(number), "image/png", "file:///charts/x.png"), Blob(b"RIFF", "audio/wav")]

    answer = block("from lib.tools import chart\nprint(type(chart(3)[1]).__name__)")
    with FakeOpenAI(answer, "Seen.") as server, session(server, tmp_path, tools=[chart]) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert pictures == [png(3)]
    assert "Blob\n" in text  # the code has it, too
    calls = Answer(calls=[("call_1", "chart", '{"number": 4}'), ("call_2", "chart", '{"number": 5}')])
    for api in ("chat", "responses"):
        with (
            FakeOpenAI(calls, "Seen.") as server,
            session(server, tmp_path, tools=[chart], mode="tools", api=api) as agent,
        ):
            agent.ask("look")
        text, pictures = told(server.requests[1])
        assert (text, pictures) == ("The pictures of these results:", [png(4), png(5)])
        sent = server.requests[0]["tools"]
        assert [t.get("name") or t["function"]["name"] for t in sent] == [
            "chart"
        ]  # no code, so nothing to show by
        results = json.dumps(server.requests[1])
        assert "picture 1 of result 1: file:///charts/x.png, image/png, 8 x 8 pixels" in results
        assert '\\"a chart\\", \\"[image/png, ' in results.replace("\\\\", "\\")


def test_the_transcript_holds_text_alone_and_a_later_session_shows_the_file_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(made(size=(300, 200)))
    with (
        FakeOpenAI(block('import agentd; agentd.show("a.png")'), "Seen.", "Still.", "Gone.") as server,
        session(server, tmp_path) as agent,
    ):
        agent.ask("look")
        agent.transcript.save(tmp_path / "t.json")
        saved = (tmp_path / "t.json").read_text()
        assert "base64" not in saved
        assert len(saved) < 3_000
        [(_, _, file)] = PICTURE.findall(agent.transcript.messages[2].content)
        with session(server, tmp_path, transcript=Transcript.load(tmp_path / "t.json")) as later:
            later.ask("again")
        assert (
            server.requests[2]["messages"][:4] == server.requests[1]["messages"]
        )  # the provider's cache holds
        kept = tmp_path / ".agentd/pictures" / file
        kept.write_bytes(png())  # code has changed it: not what the conversation says
        with session(server, tmp_path, transcript=Transcript.load(tmp_path / "t.json")) as later:
            later.ask("again")
        assert "image_url" not in json.dumps(server.requests[3])


@pytest.mark.parametrize("plant", ["link", "folder link", "pipe", "nothing"])
def test_what_code_puts_in_the_place_of_a_kept_picture_is_not_read(plant: str, tmp_path: Path) -> None:
    from agentd_images.store import PictureStore

    outside = tmp_path / "outside"
    workspace = tmp_path / "workspace"
    outside.mkdir()
    (workspace / ".agentd").mkdir(parents=True)
    from agentd_images.picture import file_name

    name = file_name(png(), "image/png")
    (outside / name).write_bytes(png())
    folder = workspace / ".agentd/pictures"
    if plant == "folder link":
        folder.symlink_to(outside)
    else:
        folder.mkdir()
    if plant == "link":
        (folder / name).symlink_to(outside / name)
    if plant == "pipe":
        os.mkfifo(folder / name)
    assert PictureStore(workspace).find(name) is None
    if plant == "nothing":
        (folder / name).write_bytes(png())
        assert PictureStore(workspace).find(name) == (png(), "image/png")


# --- bad input --------------------------------------------------------------------------------------------


def test_a_file_of_200_mb_ends_clearly_in_the_code_and_nothing_of_it_is_sent(tmp_path: Path) -> None:
    with open(tmp_path / "huge.png", "wb") as file:
        file.truncate(200 * 1024 * 1024)  # takes no room
    code = """
import agentd
try:
    agentd.show("huge.png")
except ValueError as error:
    print(error)
"""
    with FakeOpenAI(block(code), "Too large.") as server, session(server, tmp_path) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert (
        "show(): huge.png has 209,715,200 bytes; scale it down first: at most 41,943,040 can be sent" in text
    )
    assert pictures == []


def test_what_is_no_picture_is_an_error_in_the_code_that_says_why(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(made()[:-30])
    (tmp_path / "a.bmp").write_bytes(made("BMP"))
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(21 * 1024 * 1024)
    code = """
import agentd
from lib.tools import ToolError
for thing in ("broken.png", "a.bmp", "large.png", b"", "absent.png"):
    try:
        agentd.show(thing)
    except (ToolError, OSError) as error:
        print(type(error).__name__, error)
"""
    with FakeOpenAI(block(code), "No.") as server, session(server, tmp_path) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert pictures == []
    for why in (
        "ToolError the picture cannot be shown: broken.png: a broken png picture",
        "ToolError the picture cannot be shown: a.bmp: not a picture that can be shown, it begins with b'BM",
        "ToolError the picture cannot be shown: large.png: 22,020,096 bytes; a picture may have 20 MiB",
        "ToolError the picture cannot be shown: picture: not a picture that can be shown, it begins with b''",
        "FileNotFoundError",
    ):
        assert why in text


def test_of_a_hundred_pictures_in_one_block_the_first_are_shown_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    code = """
import agentd, io
from PIL import Image
for number in range(100):
    agentd.show(Image.new("RGB", (8, 8), (number, 0, 0)))
"""
    with FakeOpenAI(block(code), "Many.") as server, session(server, tmp_path) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert [Image.open(io.BytesIO(p)).getpixel((0, 0)) for p in pictures] == [(n, 0, 0) for n in range(8)]
    assert (
        "[note: 92 more pictures were left out: at most 8 after one answer; show the ones that matter again]"
        in text
    )
    assert len(list((tmp_path / ".agentd/pictures").iterdir())) == 8


def test_pictures_of_a_tool_that_cannot_be_shown_are_told_and_end_nothing(tmp_path: Path) -> None:
    @tool
    def bad() -> list[Blob]:
        """Return what is no picture, often."""
        return [Blob(b"<svg/>", "image/svg+xml"), *[Blob(png(n), "image/png") for n in range(20)]]

    answer = block("from lib.tools import bad\nprint(len(bad()))")
    with FakeOpenAI(answer, "Well.") as server, session(server, tmp_path, tools=[bad]) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert len(pictures) == 7
    assert "[note: not shown: picture: not a picture that can be shown, it begins with b'<svg/>'" in text
    assert "13 more pictures were left out" in text


# --- who can see --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"model": "gpt-3.5-turbo"}, {"images": Images(sees=False)}])
def test_a_model_that_cannot_see_is_told_the_line_and_where_the_file_is(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    with (
        FakeOpenAI(block('import agentd; agentd.show("a.png")'), "A file.") as server,
        session(server, tmp_path, **settings) as agent,
    ):
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert pictures == []
    [(_, _, file)] = PICTURE.findall(text)
    assert (tmp_path / ".agentd/pictures" / file).read_bytes() == png()
    assert text.endswith("[note: you are not shown pictures; code can open their files]")


def test_a_provider_that_refuses_pictures_is_asked_once_without_and_told_text_from_then_on(
    tmp_path: Path,
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    show = block('import agentd; agentd.show("a.png")')
    refused = Answer(status=400, error={"message": "image input is not supported", "type": "x"})
    with (
        FakeOpenAI(show, refused, show, "Text, then.", "Fine.") as server,
        session(server, tmp_path, model="unknown-model") as agent,
    ):
        assert agent.ask("look").text == "Text, then."
        agent.ask("go on")
    has_pictures = ["image_url" in json.dumps(request) for request in server.requests]
    assert has_pictures == [False, True, False, False, False]
    assert "not shown pictures" in told(server.requests[2])[0]
    assert (
        server.requests[4]["messages"][: len(server.requests[3]["messages"])]
        == server.requests[3]["messages"]
    )


def test_a_refusal_for_another_reason_comes_out_and_the_pictures_stay(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    show = block('import agentd; agentd.show("a.png")')
    first = Answer(status=400, error={"message": "bad parameter", "type": "x"})
    again = Answer(status=400, error={"message": "bad parameter again", "type": "x"})
    with FakeOpenAI(show, first, again, "Fine.") as server, session(server, tmp_path) as agent:
        with pytest.raises(ModelError, match=r"bad parameter(?! again)"):
            agent.ask("look")
        agent.ask("go on")
    assert ["image_url" in json.dumps(request) for request in server.requests] == [False, True, False, True]


def test_a_failure_that_is_no_refusal_is_not_asked_again_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    failing = Answer(status=401, error={"message": "no such key", "type": "x"})
    with (
        FakeOpenAI(block('import agentd; agentd.show("a.png")'), failing, "Never.") as server,
        session(server, tmp_path) as agent,
        pytest.raises(ModelError, match="no such key"),
    ):
        agent.ask("look")
    assert len(server.requests) == 2


def test_more_pictures_than_are_remembered_become_text_the_older_half_at_once(tmp_path: Path) -> None:
    show = [
        block(f'import agentd\nfrom PIL import Image\nagentd.show(Image.new("L", (9, 9), {n}))')
        for n in range(9)
    ]
    with (
        FakeOpenAI(*show, "Enough.") as server,
        session(server, tmp_path, images=Images(max_remembered=4)) as agent,
    ):
        agent.ask("look")
        assert (
            sum(len(PICTURE.findall(m.content)) for m in agent.transcript.messages) == 9
        )  # it keeps everything
    counts = [json.dumps(request).count("data:image/png") for request in server.requests]
    assert counts == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3]
    assert "[note: old picture 1: " in json.dumps(server.requests[5])
    newest = told(server.requests[5])[1]
    assert Image.open(io.BytesIO(newest[0])).getpixel((0, 0)) == 4


@pytest.mark.parametrize(
    ("model", "sees"),
    [
        ("gpt-4o-mini", True), ("gpt-4.1", True), ("gpt-5-nano", True), ("o3", True), ("claude-sonnet-4-5", True),
        ("anthropic/claude-3-haiku-20240307", True), ("gemini/gemini-2.5-flash", True), ("qwen2.5-vl-7b", True),
        ("llama-3.2-11b-vision", True), ("what-nobody-knows", True),
        ("gpt-3.5-turbo", False), ("gpt-4-0613", False), ("deepseek/deepseek-chat", False), ("gpt-oss-20b", False),
        ("qwen2.5-coder-7b", False), ("llama-3.1-8b-instruct", False), ("o3-mini", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("table", [True, False])
def test_which_models_can_see(model: str, sees: bool, table: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentd_images import sight

    if not table:
        monkeypatch.setattr(sight, "_litellm_table", dict)
    assert sight.can_see(model) is sees


# --- what else holds --------------------------------------------------------------------------------------------


def test_without_images_show_says_so_and_nothing_else_changes(tmp_path: Path) -> None:
    @tool
    def picture() -> Blob:
        """Return a picture."""
        return Blob(png(), "image/png")

    code = """
from lib.tools import ToolError, picture
import agentd
picture()
try:
    agentd.show(b"")
except ToolError as error:
    print(error)
"""
    with (
        FakeOpenAI(block(code), "Ok.") as server,
        session(server, tmp_path, tools=[picture], images=False) as agent,
    ):
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert "show(): the model of this session is not shown pictures" in text
    assert (pictures, "[note" in text) == ([], False)


@pytest.mark.parametrize(("policy", "shown"), [("read-only", 1), ([], 0)])
def test_a_policy_decides_about_showing_as_about_any_tool(policy: Any, shown: int, tmp_path: Path) -> None:
    from agentd_policy import Rule

    if not isinstance(policy, str):
        policy = [Rule("deny", name="agentd_show"), Rule("allow")]
    (tmp_path / "a.png").write_bytes(png())
    code = 'import agentd\ntry:\n    agentd.show("a.png")\nexcept PermissionError as error:\n    print(error)'
    with FakeOpenAI(block(code), "Ok.") as server, session(server, tmp_path, policy=policy) as agent:
        agent.ask("look")
    text, pictures = told(server.requests[1])
    assert len(pictures) == shown
    assert ("agentd_show" in text) is (shown == 0)


def test_something_else_than_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"images: must be True, False or an agentd.Images, got 'yes'"):
        SyncSession("m", images="yes")
