"""Files of pictures: how many are kept, what is never cleared away, and what a fork and a later session find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from agentd import Images, Session, SyncSession
from agentd.turn.transcript import Message, NativeCall, Transcript
from agentd.types import Blob
from agentd_history.pictures import PICTURE, files_of
from agentd_images.folder import PictureFolder
from agentd_images.picture import file_name
from agentd_images.reading import read_picture
from fake_openai import Answer, FakeOpenAI
from pictures import png

FENCE = "```"
FEW = Images(max_kept=1)


def show(*numbers: int) -> str:
    """An answer that shows pictures, each another one."""
    shows = "".join(f'agentd.show(Image.new("RGB", (8, 8), ({n}, 1, 7)))\n' for n in numbers)
    return f"{FENCE}python:execute\nimport agentd\nfrom PIL import Image\n{shows}{FENCE}\n"


def settings(server: FakeOpenAI, folder: Path, **more: Any) -> dict[str, Any]:
    given = {"base_url": server.base_url, "api_key": "none", "cwd": folder}
    return {**given, "tools": [], "images": True, "executor": "subprocess", **more}


def session(server: FakeOpenAI, folder: Path, **more: Any) -> SyncSession:
    return SyncSession("gpt-4.1", **settings(server, folder, **more))


def files(workspace: Path) -> list[str]:
    return sorted(path.name for path in (workspace / ".agentd/pictures").glob("*"))


def counts(server: FakeOpenAI) -> list[int]:
    return [json.dumps(request).count("data:image/png") for request in server.requests]


def kept(folder: PictureFolder, *numbers: int) -> list[str]:
    """Write pictures, each used later than the one before."""
    names = []
    for age, number in enumerate(numbers):
        names.append(name := file_name(png(number), "image/png"))
        folder.write(name, png(number))
        [path] = folder._base.glob(f"{folder._inside}/{name}")
        os.utime(path, (age, age))
    return names


def test_the_pictures_that_were_used_last_stay_and_whatever_else_lies_there(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    a, b, _c, d = kept(folder, 1, 2, 3, 4)
    (tmp_path / ".agentd/pictures/notes.txt").write_text("code's own")
    (tmp_path / f".agentd/pictures/{a}.0badcafe.part").write_bytes(b"of a process that was killed")
    assert folder.clear(max_files=4, max_bytes=1 << 20, needed=list) == 0
    assert folder.read(a) == png(1)  # it is used now
    assert next(iter(folder.files())) == a
    assert folder.clear(max_files=3, max_bytes=1 << 20, needed=lambda: [b]) == 1
    assert files(tmp_path) == sorted([a, b, d, "notes.txt"])
    assert folder.clear(max_files=9, max_bytes=2 * len(png(1)), needed=list) == 1
    assert files(tmp_path) == sorted([a, d, "notes.txt"])
    assert folder.clear(max_files=1, max_bytes=1, needed=lambda: [a, d]) == 0
    assert PictureFolder(tmp_path / "nowhere").clear(max_files=1, max_bytes=1, needed=list) == 0


def test_a_link_in_place_of_the_folder_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "work/.agentd").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    kept(PictureFolder(tmp_path / "other", "pictures"), 1, 2)
    (tmp_path / "work/.agentd/pictures").symlink_to(tmp_path / "other/pictures")
    folder = PictureFolder(tmp_path / "work")
    folder.hold()
    assert folder.clear(max_files=1, max_bytes=1, needed=list) == 0
    assert len(list((tmp_path / "other/pictures").iterdir())) == 2


def test_nobody_clears_what_another_process_holds_and_its_end_lets_go(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    kept(folder, 1, 2, 3)
    program = (
        "import sys; from pathlib import Path; from agentd_images.folder import PictureFolder\n"
        "folder = PictureFolder(Path(sys.argv[1])); folder.hold(); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert folder.clear(max_files=1, max_bytes=1 << 20, needed=list) == 0
        other.kill()
        other.wait()
    assert folder.clear(max_files=1, max_bytes=1 << 20, needed=list) == 2


@pytest.mark.anyio
async def test_a_session_clears_at_its_end_and_not_while_another_one_lives_in_the_workspace(
    tmp_path: Path,
) -> None:
    with FakeOpenAI(show(1, 2), "A.", show(3, 4), "B.", "Still A.") as server:
        async with Session("gpt-4.1", **settings(server, tmp_path, images=FEW)) as first:
            await first.ask("look")
            async with Session("gpt-4.1", **settings(server, tmp_path, images=FEW)) as second:
                await second.ask("look")
            assert len(files(tmp_path)) == 4
            first.resources.pictures._store._held.clear()  # what it shows comes from the files
            await first.continue_from(Transcript(messages=list(first.transcript.messages)))
            await first.ask("and now?")
        assert len(files(tmp_path)) == 1
    assert counts(server) == [0, 2, 0, 2, 2]


@pytest.mark.parametrize("mode", ["ptc", "tools"])
def test_a_session_that_ends_leaves_no_more_than_is_kept_however_its_model_acts(
    mode: Any, tmp_path: Path
) -> None:
    def chart(number: int) -> list[Blob]:
        """Draw it."""
        return [Blob(png(number), "image/png"), Blob(png(number + 1), "image/png")]

    tool = Answer(calls=[("1", "chart", '{"number": 3}')])
    answer = show(1, 2) if mode == "ptc" else tool
    with (
        FakeOpenAI(answer, "Seen.") as server,
        session(server, tmp_path, images=FEW, tools=[chart], mode=mode) as agent,
    ):
        agent.ask("look")
        assert len(files(tmp_path)) == 2
    assert len(files(tmp_path)) == 1


def test_what_a_checkpoint_refers_to_stays(tmp_path: Path) -> None:
    work = tmp_path / "work"
    with FakeOpenAI(show(1, 2), "A.", show(3, 4, 5), "B.", "C.") as server:
        with session(server, work, images=FEW) as first:
            first.ask("look")
            first.checkpoint("seen")
        with session(server, work, images=FEW) as second:
            second.ask("look")
        assert len(files(work)) == 2
        with session(server, work, images=FEW) as third:
            third.rewind("seen")
            third.ask("what was it?")
    assert counts(server) == [0, 2, 0, 3, 2]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_fork_has_the_pictures_of_its_conversation_and_is_told_which_are_gone(tmp_path: Path) -> None:
    work, other = tmp_path / "work", tmp_path / "other"
    with FakeOpenAI(show(1, 2), "A.", show(3), "B.", "In the fork.") as server:
        async with Session("gpt-4.1", **settings(server, work)) as first:
            await first.ask("look")
            await first.checkpoint("two")
            [gone, stays] = files_of(first.transcript)
            await first.ask("look again")
            (work / ".agentd/pictures" / gone).write_bytes(b"code has changed it")
            first.resources.pictures._store._held.clear()
            async with await first.fork("two", cwd=other) as fork:
                assert files(other) == [stays]
                await fork.ask("and now?")
    assert counts(server) == [0, 2, 2, 3, 1]
    [results] = [m for m in server.requests[4]["messages"] if isinstance(m["content"], list)]
    assert f"[note: no longer there, so not shown: {gone}]" in results["content"][0]["text"]
    assert "no longer there" not in "".join(m.content for m in fork.transcript.messages)


def test_a_session_that_goes_on_without_the_files_is_told_so_in_tasks_results_and_native_calls(
    tmp_path: Path,
) -> None:
    picture = read_picture(png(1), "a.png", Images())
    line = f"[note: {picture.line('picture 1')}]"
    call = NativeCall(id="1", name="chart", arguments="{}", output=line)
    before = Transcript(
        messages=[
            Message("task", line),
            Message("answer", "x"),
            Message("results", line),
            Message("answer", "", (NativeCall(id="1", name="chart", arguments="{}"),)),
            Message("results", "", (call,)),
            Message("answer", "Seen."),
        ]
    )

    def chart() -> int:
        """Draw it."""
        return 1

    with FakeOpenAI("Well.", "Well.") as server:
        for _ in range(2):
            with session(
                server,
                tmp_path,
                mode="tools",
                tools=[chart],
                transcript=Transcript(messages=list(before.messages)),
            ) as agent:
                agent.ask("and now?")
            PictureFolder(tmp_path).write(picture.file, picture.data)
    gone, there = (json.dumps(request["messages"]) for request in server.requests)
    assert gone.count(f"no longer there, so not shown: {picture.file}") == 3
    assert "no longer there" not in there
    assert counts(server) == [0, 3]
    assert len(PICTURE.findall(line)) == 1


def test_what_code_makes_of_a_name_holds_up_no_other_file(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    kept(folder, 0, 1, 2)
    path = tmp_path / ".agentd/pictures"
    half = file_name(png(3), "image/png") + ".00000000"
    (path / f"{half}.part").mkdir()
    (path / f"{half[:-1]}1.part").write_bytes(b"half")
    assert folder.clear(max_files=1, max_bytes=1 << 20, needed=list) == 2
    assert len(folder.files()) == 1
    assert not (path / f"{half[:-1]}1.part").exists()


def test_a_pipe_in_the_place_of_a_picture_is_none(tmp_path: Path) -> None:
    folder = PictureFolder(tmp_path)
    [name] = kept(folder, 0)
    path = tmp_path / ".agentd/pictures" / name
    path.unlink()
    os.mkfifo(path)
    writing = os.open(path, os.O_RDWR)
    try:
        assert folder.read(name) is None
    finally:
        os.close(writing)
