"""The trigger `file`, over real folders that the operating system tells of."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd_daemon.journal import Journal
from agentd_daemon.waking import TriggerWatch
from agentd_trigger_file.listing import FolderFiles, FolderListing, TooManyFilesError
from triggering import IdleWorker, settle, watch
from watchfiles._rust_notify import WatchfilesRustInternalError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """The daemon is asyncio's."""
    return "asyncio"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path / "state" / "journal.db") as made:
        yield made


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether an absent folder is there again is looked at more often than a person would want."""
    monkeypatch.setattr("agentd_trigger_file.hints.ABSENT_S", 0.1)


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    made = tmp_path / "inbox"
    made.mkdir()
    return made


def made(folder: Path, **options: Any) -> Any:
    # `poll_s` is long: what is seen here was told of
    return Registry().create_trigger(
        "file", {"path": str(folder), "debounce_s": 0.05, "poll_s": 3600, **options}
    )


class Seen:
    """A watch that has looked once, and what it has told."""

    def __init__(self, journal: Journal, worker: IdleWorker, watched: TriggerWatch) -> None:
        self.journal, self.worker, self.watch = journal, worker, watched

    async def told(self, *lines: str) -> None:
        """Wait until all these lines were told, in whichever events."""
        with anyio.fail_after(60):
            while not set(lines) <= set(self.lines):
                await self.worker.until_woken(self.worker.woken + 1)

    @property
    def lines(self) -> list[str]:
        return [line for task in reversed(self.journal.recent("a")) for line in task.content.splitlines()[1:]]


@asynccontextmanager
async def watching(journal: Journal, folder: Path, waiting: int = 100, **options: Any) -> AsyncIterator[Seen]:
    worker = IdleWorker()
    watched = watch(made(folder, **options), journal, worker=worker, max_waiting=waiting)
    async with anyio.create_task_group() as group:
        group.start_soon(watched.run)
        with anyio.fail_after(60):
            while watched.cursor() is None:
                await anyio.sleep(0.01)
        yield Seen(journal, worker, watched)
        group.cancel_scope.cancel()


async def test_files_that_come_change_and_go_are_told_and_those_that_are_there_are_not(
    journal: Journal, inbox: Path
) -> None:
    (inbox / "old").write_text("0")
    async with watching(journal, inbox) as seen:
        (inbox / "new").write_text("1")
        await seen.told('created: "new"')
        (inbox / "old").write_text("00")
        await seen.told('changed: "old"')
        (inbox / "old").unlink()
        await seen.told('deleted: "old"')
    assert 'created: "old"' not in seen.lines
    first = journal.recent("a")[-1]
    assert first.content.splitlines()[0] == f"Files have changed in {json.dumps(str(inbox))}:"


async def test_many_changes_at_once_are_one_event_or_a_few_and_each_is_told_once(
    journal: Journal, inbox: Path
) -> None:
    wanted = [f'created: "{number:03}"' for number in range(150)]
    async with watching(journal, inbox) as seen:
        for number in range(150):
            (inbox / f"{number:03}").touch()
        await seen.told(*wanted)
    assert sorted(line for line in seen.lines if line.startswith("created")) == wanted
    assert len(journal.recent("a", 1000)) < 50


async def test_what_has_changed_while_nobody_watched_is_told_at_the_next_start(
    journal: Journal, inbox: Path
) -> None:
    for name in ("kept", "changed", "deleted"):
        (inbox / name).write_text("0")
    async with watching(journal, inbox):
        pass
    (inbox / "changed").write_text("11")
    (inbox / "deleted").unlink()
    (inbox / "below").mkdir()
    (inbox / "below" / "created").touch()
    async with watching(journal, inbox) as seen:
        await seen.told('created: "below/created"', 'changed: "changed"', 'deleted: "deleted"')
    assert len(seen.lines) == 3
    async with watching(journal, inbox) as seen:
        (inbox / "last").touch()
        await seen.told('created: "last"')
    assert len(seen.lines) == 4, "nothing is told twice"


async def test_a_folder_that_vanishes_and_comes_again_is_watched_on(journal: Journal, inbox: Path) -> None:
    (inbox / "file").write_text("0")
    async with watching(journal, inbox) as seen:
        shutil.rmtree(inbox)
        await seen.told('deleted: "file"')
        assert "(the folder itself is gone)" in seen.lines
        inbox.mkdir()
        (inbox / "again").touch()
        await seen.told('created: "again"')
        (inbox / "later").touch()
        await seen.told('created: "later"')
        inbox.rename(inbox.with_name("elsewhere"))
        await seen.told('deleted: "later"')


async def test_a_folder_may_come_after_the_start(journal: Journal, tmp_path: Path) -> None:
    async with watching(journal, tmp_path / "a" / "b") as seen:
        (tmp_path / "a" / "b").mkdir(parents=True)
        (tmp_path / "a" / "b" / "file").touch()
        await seen.told('created: "file"')


async def test_folders_that_come_go_and_are_renamed_are_heard_and_what_links_lead_to_is_not_watched(
    journal: Journal, inbox: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    for number in range(30):
        (outside / str(number)).mkdir(parents=True)
    (inbox / "out").symlink_to(outside)
    (inbox / "loop").symlink_to(inbox)
    (inbox / "first").mkdir()
    before = inotify_watches()
    async with watching(journal, inbox) as seen:
        (inbox / "first" / "1").touch()
        await seen.told('created: "first/1"')
        assert inotify_watches() - before <= 2
        (inbox / "a" / "b").mkdir(parents=True)
        (inbox / "a" / "b" / "2").touch()
        await seen.told('created: "a/b/2"')
        (inbox / "a" / "b").rename(inbox / "c")
        await seen.told('deleted: "a/b/2"', 'created: "c/2"')
        (inbox / "c" / "3").touch()
        await seen.told('created: "c/3"')
        shutil.rmtree(inbox / "c")
        (inbox / "c").mkdir()
        (inbox / "c" / "4").touch()
        await seen.told('created: "c/4"')
        (inbox / "c" / "5").touch()
        await seen.told('created: "c/5"')
    assert not any("out/" in line or "loop/" in line for line in seen.lines)


def inotify_watches() -> int:
    found = [path.read_text() for path in Path("/proc/self/fdinfo").iterdir() if path.exists()]
    return sum(text.count("inotify wd:") for text in found)


async def test_more_folders_than_are_watched_are_looked_at_and_that_is_said(
    journal: Journal, inbox: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agentd_trigger_file.hints.MOST_FOLDERS", 3)
    for number in range(4):
        (inbox / str(number)).mkdir()
    async with watching(journal, inbox, poll_s=1) as seen:
        (inbox / "0" / "file").touch()
        await seen.told('created: "0/file"')
    assert "(it has more than 3 folders): they are found by looking" in caplog.text


async def test_globs_say_which_files_count(journal: Journal, inbox: Path) -> None:
    (inbox / "sub").mkdir()
    (inbox / "reports" / "own").mkdir(parents=True)
    async with watching(journal, inbox, globs=["*.md", "!draft*", "!/reports/**"]) as seen:
        for name in ("a.txt", "draft.md", "reports/a.md", "reports/own/b.md", "sub/deep.md", "z.md"):
            (inbox / name).touch()
        await seen.told('created: "sub/deep.md"', 'created: "z.md"')
    assert len(seen.lines) == 2


async def test_other_globs_under_the_same_name_begin_anew_and_tell_nothing_of_it(
    journal: Journal, inbox: Path
) -> None:
    (inbox / "a.md").touch()
    (inbox / "b.txt").touch()
    async with watching(journal, inbox, globs=["*.md"]):
        pass
    before = watch(made(inbox), journal).cursor()
    async with watching(journal, inbox, globs=["*.txt"]) as seen:
        with anyio.fail_after(60):
            while seen.watch.cursor() == before:
                await anyio.sleep(0.01)
        (inbox / "c.txt").touch()
        await seen.told('created: "c.txt"')
    assert seen.lines == ['created: "c.txt"']


async def test_an_agent_that_is_behind_is_told_of_all_that_came_meanwhile_in_one_event(
    journal: Journal, inbox: Path
) -> None:
    async with watching(journal, inbox, waiting=1) as seen:
        (inbox / "1").touch()
        await seen.told('created: "1"')
        for number in range(2, 6):
            (inbox / str(number)).touch()
            await anyio.lowlevel.checkpoint()
        settle(journal, seen.worker)
        for number in range(2, 6):
            while f'created: "{number}"' not in seen.lines:
                if journal.pending("a"):
                    settle(journal, seen.worker)
                await seen.worker.until_woken(seen.worker.woken + 1)
    assert sorted(seen.lines) == [f'created: "{number}"' for number in range(1, 6)]
    assert len(journal.recent("a")) <= 3


async def test_with_once_the_first_look_counts_and_the_second_finds_nothing(
    journal: Journal, inbox: Path
) -> None:
    (inbox / "file").touch()
    for _ in range(2):
        await watch(made(inbox), journal, once=True).once()
    (task,) = journal.pending("a")
    assert 'created: "file"' in task.content


async def test_too_many_files_are_told_in_the_status_and_work_again_when_they_are_fewer(
    journal: Journal, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentd_trigger_file.trigger.RETRY_S", 0.01)
    async with watching(journal, inbox, max_files=3) as seen:
        for number in range(4):
            (inbox / str(number)).touch()
        with anyio.fail_after(60):
            while not seen.watch.error:
                await anyio.sleep(0.01)
        assert "has more than 3 files that fit; name a smaller folder" in seen.watch.error
        (inbox / "0").unlink()
        await seen.told('created: "3"')
        assert seen.watch.error == ""


async def test_a_name_with_line_breaks_cannot_pass_for_another_line(journal: Journal, inbox: Path) -> None:
    (inbox / 'x\ndeleted: "all"').touch()
    os.close(os.open(os.fsencode(inbox) + b"/\xff\xfe", os.O_CREAT))
    await watch(made(inbox), journal, once=True).once()
    (task,) = journal.pending("a")
    assert task.content.splitlines()[1:] == [
        r'created: "\\xff\\xfe"',
        r'created: "x\ndeleted: \"all\""',
    ]


async def test_hundreds_of_changes_are_counted_where_they_are_not_named(
    journal: Journal, inbox: Path
) -> None:
    for number in range(300):
        (inbox / f"{number:03}").touch()
    await watch(made(inbox), journal, once=True).once()
    (task,) = journal.pending("a")
    assert task.content.splitlines()[-1] == "created: 100 more"
    assert len(task.content.splitlines()) == 202


# --- a look ------------------------------------------------------------------------------------------


def test_links_are_not_followed_and_deep_folders_are_bounded(inbox: Path) -> None:
    (inbox / "loop").symlink_to(inbox)
    deep = inbox
    for _ in range(300):
        deep /= "d"
        deep.mkdir()
    (deep / "file").touch()
    found = FolderFiles.read(inbox, ["*"], max_files=100).look().files
    assert found is not None
    assert set(found) == {"loop", "d/" * 300 + "file"}
    with pytest.raises(TooManyFilesError, match="entries"):
        FolderFiles.read(inbox, ["*"], max_files=10).look()


def test_pipes_and_sockets_are_no_files_and_what_lies_too_deep_or_is_not_ours_is_passed_by(
    inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(inbox / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(inbox)  # a socket's path is short
        listening.bind("socket")
    (inbox / "file").touch()
    (inbox / "link").symlink_to("/nowhere")
    below = os.open(inbox, os.O_RDONLY)
    for _ in range(25):  # 5,000 characters
        os.mkdir("d" * 200, dir_fd=below)
        deeper = os.open("d" * 200, os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(os.open("deep", os.O_CREAT, dir_fd=below))
    os.close(below)
    files = FolderFiles.read(inbox, ["*"], max_files=10)
    assert set(files.look().files or ()) == {"file", "link"}
    real = os.scandir

    def scandir(path: Path) -> Any:
        if path == inbox / ("d" * 200):
            raise OSError(refused, os.strerror(refused), str(path))
        return real(path)

    monkeypatch.setattr("agentd_trigger_file.listing.os.scandir", scandir)
    refused = errno.EACCES
    assert set(files.look().files or ()) == {"file", "link"}
    refused = errno.ENOTCONN  # a mount whose server is gone: its files are not deleted
    with pytest.raises(OSError, match="not connected"):
        files.look()


@pytest.mark.parametrize(
    "error",
    [
        OSError("OS file watch limit reached."),
        WatchfilesRustInternalError("Error creating recommended watcher: Too many open files (os error 24)"),
    ],
)
async def test_without_watches_of_the_system_changes_are_found_by_looking_and_that_is_said_once(
    journal: Journal,
    inbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """What watchfiles raises with fs.inotify.max_user_watches and max_user_instances used up."""

    def none_left(*args: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr("watchfiles.awatch", none_left)
    async with watching(journal, inbox, poll_s=1) as seen:
        (inbox / "file").touch()
        await seen.told('created: "file"')
        assert seen.watch.error == ""
    assert caplog.text.count(f"does not tell of changes in {inbox} ({error})") == 1


def test_a_file_in_the_folders_place_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "inbox").touch()
    with pytest.raises(NotADirectoryError, match="must be a folder"):
        FolderFiles.read(tmp_path / "inbox", ["*"], max_files=10).look()


@pytest.mark.parametrize(
    "cursor", [None, "", "x", "[]", "[1,2]", '[1,"w",0,{"a":1}]', '[2,"w",0,{}]', "{}", "[1,1,1,1]"]
)
def test_a_cursor_that_is_none_is_no_listing(cursor: str | None) -> None:
    assert FolderListing.load(cursor) is None


def test_a_listing_comes_back_from_its_cursor(inbox: Path) -> None:
    (inbox / "é").write_text("x")
    listing = FolderFiles.read(inbox, ["*"], max_files=10).look()
    assert FolderListing.load(listing.dump()) == listing
    assert not listing.since(listing)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "option 'path' of the trigger 'file' is missing"),
        ({"path": "x", "globs": []}, "must be a list of texts"),
        ({"path": "x", "globs": [1]}, "must be a list of texts"),
        ({"path": "x", "globs": "*.md"}, "globs"),
        ({"path": "x", "globs": ["!"]}, "globs"),
        ({"path": "x", "debounce_s": 0}, "must be from 0.05 to 60, got 0"),
        ({"path": "x", "max_files": 10**7}, "max_files"),
        ({"path": "x", "recursive": True}, "unknown option 'recursive'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Registry().create_trigger("file", options)
