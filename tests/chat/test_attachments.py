"""Files that a person puts into a message."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import pytest
from agentd_chat.attachments import (
    MAX_IMAGE_BYTES,
    MAX_TEXT_BYTES,
    named_files,
    read_attachment,
    task_of,
    unnamed,
    unquoted,
)
from agentd_chat.typed import ChatCompleter
from agentd_cli.prompt.lines import LineError
from agentd_demo.replay import ReplayFault
from hypothesis import given, strategies as st
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

Agentd = Talk = Any  # the fixtures' classes

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def test_only_what_is_a_file_is_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b c.txt", "x,y"):
        (tmp_path / name).write_text("1")
    (tmp_path / "folder").mkdir()
    said = 'see @a.txt, @"b c.txt" and (@a.txt) @folder @missing.txt me@a.txt @a.txt @x,y. @'
    assert named_files(said, tmp_path) == ["a.txt", "b c.txt", "x,y"]
    assert named_files(f"@{tmp_path}/a.txt?", tmp_path) == [f"{tmp_path}/a.txt"]


def test_what_looks_like_a_path_and_is_no_file_is_told_and_a_name_alone_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("1")
    said = 'see @a.txt, @b.txt, @src/c @"d e" @nobody @a.b.c. me@x.y @. @b.txt'
    assert unnamed(said, tmp_path) == ["b.txt", "src/c", "d e", "a.b.c"]


@given(st.text())
def test_any_text_can_be_said(text: str) -> None:
    named_files(text, Path("/nowhere"))
    unnamed(text, Path("/nowhere"))
    unquoted(text)
    assert task_of(text, []) == text


def test_a_files_text_stands_below_the_message_in_a_fence_that_it_cannot_end(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("````\ncode\n````")
    told = task_of("look", [read_attachment("a.md", tmp_path)])
    assert told == "look\n\nThe file a.md:\n\n`````\n````\ncode\n````\n`````"


def test_a_long_file_is_cut_and_the_model_is_told(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("x" * (MAX_TEXT_BYTES + 1234))
    text = read_attachment("long", tmp_path).text
    assert text.startswith("x" * MAX_TEXT_BYTES)
    assert text.endswith("\n[... 1,234 more bytes of this file are left out ...]")


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (PNG, "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"GIF89a", "image/gif"),
        (b"RIFF1234WEBP", "image/webp"),
    ],
)
def test_an_image_is_a_part_by_what_is_in_it(tmp_path: Path, data: bytes, mime: str) -> None:
    (tmp_path / "picture").write_bytes(data)
    told = task_of("look", [read_attachment("picture", tmp_path)])
    url = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    assert told == [
        {"type": "text", "text": "look\n\n[the image picture is attached]"},
        {"type": "image_url", "image_url": {"url": url}},
    ]


def test_what_cannot_be_attached_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(b"\x7fELF\0\0")
    with open(tmp_path / "huge.png", "wb") as file:
        file.write(PNG)
        file.truncate(MAX_IMAGE_BYTES + 1)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "notes.txt").write_text("")
    for name, why in (
        ("program", "is neither text nor an image"),
        ("huge.png", "is larger than the 8 MiB"),
        ("pipe", "is no file that can be attached"),
        ("note.txt", "No such file or directory; did you mean 'notes.txt'?"),
        ("\0", "cannot be attached"),
        (".", "cannot be attached"),
    ):
        with pytest.raises(LineError, match=r"'") as refused:
            read_attachment(name, tmp_path)
        assert why in str(refused.value) or name == ".", name


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("see @pl", "see @plain.txt"),
        ("see @with", 'see @"with blank.txt"'),
        ('see @"with b', 'see @"with blank.txt"'),
        ('see @"pl', 'see @"plain.txt"'),
        ("see @my", 'see @"my folder/'),
        ('see @"my folder/', 'see @"my folder/in.txt"'),
        ("/attach with", "/attach with blank.txt"),
        ("mail me@pl", None),
        ('see @"with blank.txt" pl', None),
    ],
)
def test_a_completed_path_is_one_that_is_attached(tmp_path: Path, typed: str, written: str | None) -> None:
    (tmp_path / "my folder").mkdir()
    for name in ("plain.txt", "with blank.txt", "my folder/in.txt"):
        (tmp_path / name).write_text("1")
    completer = ChatCompleter(tmp_path, list)
    found = list(completer.get_completions(Document(typed, len(typed)), CompleteEvent()))
    made = [typed[: len(typed) + one.start_position] + one.text for one in found]
    assert made == ([] if written is None else [written])
    if written is not None and written.startswith("see") and not written.endswith("/"):
        assert len(named_files(written, tmp_path)) == 1


@pytest.mark.slow
def test_a_person_is_told_what_goes_along_and_a_message_that_cannot_go_is_in_the_input_again(
    agentd: Agentd, talk: Talk
) -> None:
    server = agentd.replay("Seen.", "Both.")
    server.order = "request"
    (agentd.cwd / "a b.txt").write_text("forty-two\n")
    (agentd.cwd / "program").write_bytes(b"\x7fELF\0\0")
    person = talk("chat")
    person.say("see @program")
    person.told("'program' is neither text nor an image")
    person.see(lambda: person.prompt().rstrip() == "› see @program")
    person.type("\x7f" * 8 + '@"a b.txt" and @missing.txt\r')
    person.told("with a b.txt (10 characters)")
    person.told("no file, so it is text alone: @missing.txt")
    person.told("Seen.")
    for written in ('/attach "a b.txt"', "/attach @a b.txt"):
        person.say(written)
    person.see(lambda: sum("a b.txt (10 characters) goes with" in row for row in person.everything()) == 2)
    person.say("both")
    person.told("Both.")
    assert person.leave() == 0
    assert [request.last.count("forty-two") for request in server.requests] == [1, 2]


@pytest.mark.slow
def test_what_was_attached_to_a_message_that_nobody_has_answered_goes_with_the_next_one(
    agentd: Agentd, talk: Talk
) -> None:
    server = agentd.replay("Seen.", "On.", faults={0: ReplayFault("status", status=401)})
    server.order = "request"
    (agentd.cwd / "a.txt").write_text("forty-two\n")
    person = talk("chat")
    person.say("/attach a.txt")
    person.say("look")
    person.told("401")
    person.say("look again")
    person.told("Seen.")
    person.say("and on")
    person.told("On.")
    assert person.leave() == 0
    assert [request.last.count("forty-two") for request in server.requests] == [1, 1, 0]


@pytest.mark.slow
def test_files_and_images_reach_the_model_and_a_path_is_completed(agentd: Agentd, talk: Talk) -> None:
    server = agentd.replay("Seen.", "Both.")
    server.order = "request"
    (agentd.cwd / "unlikely.txt").write_text("forty-two\n")
    (agentd.cwd / "dot.png").write_bytes(PNG)
    (agentd.cwd / "AGENTS.md").write_text("Always say please.")
    person = talk("chat")
    person.at_prompt()
    person.type("what is in @unl\t")
    person.see("› what is in @unlikely.txt")
    person.type("\r")
    person.told("Seen.")
    assert "forty-two" in server.requests[0].last
    assert "Always say please." in server.requests[0].messages[0][1]
    person.say("/attach dot.png")
    person.told("dot.png (an image) goes with the next message")
    person.say("and this?")
    person.told("Both.")
    content = server.requests[1].body["messages"][-1]["content"]
    assert [part["type"] for part in content] == ["text", "image_url"]
    assert "The file" not in json.dumps(content)
    assert person.leave() == 0
