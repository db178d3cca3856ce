"""The log on standard error: whole lines of ours and of libraries, and nobody waits for its reader."""

from __future__ import annotations

import logging
import os
import threading

import pytest
from agentd_daemon.commands.log import log_written
from agentd_daemon.commands.outlet import MAX_WAITING, Outlet, write_whole

ours = logging.getLogger("agentd.daemon")
theirs = logging.getLogger("library.of.others")


def test_our_records_are_lines_with_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    with log_written(logging.INFO):
        ours.info("news: %s", "done\x1b[2J\nERROR forged")
        ours.debug("not told")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(" INFO news: done ERROR forged")


def test_a_librarys_exception_is_one_line_without_the_way_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    with log_written(logging.INFO):
        try:
            raise ValueError("two\nlines")
        except ValueError:
            theirs.warning("failed to validate %s", "it", exc_info=True)
        theirs.info("not told")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("WARNING library.of.others: failed to validate it: ValueError: two lines")


def test_what_a_library_says_again_and_again_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with log_written(logging.INFO):
        for number in range(1000):
            theirs.warning("line %d is no message", number)
        theirs.warning("another thing")
    assert [line.partition(": ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "line 0 is no message",
        "another thing",
    ]


def test_the_handlers_of_before_are_back_afterwards(capsys: pytest.CaptureFixture[str]) -> None:
    before = list(logging.getLogger("agentd").handlers), list(logging.getLogger().handlers)
    with log_written(logging.INFO):
        pass
    assert (logging.getLogger("agentd").handlers, logging.getLogger().handlers) == before


def test_lines_that_nobody_reads_are_dropped_and_counted_and_nobody_waits() -> None:
    reader, writer = os.pipe()
    with Outlet(
        lambda data: write_whole(writer, data), dropped=lambda count: b"dropped %d" % count
    ) as outlet:
        for _ in range(3 * MAX_WAITING):  # far more than the pipe and the queue hold
            outlet.put(b"x" * 100)
        outlet_count = 3 * MAX_WAITING
        chunks: list[bytes] = []

        def read() -> None:
            while chunk := os.read(reader, 65_536):
                chunks.append(chunk)

        thread = threading.Thread(target=read)
        thread.start()
    os.close(writer)
    thread.join(20)
    os.close(reader)
    lines = b"".join(chunks).splitlines()
    dropped = sum(int(line.split()[1]) for line in lines if line.startswith(b"dropped"))
    assert dropped > 0
    assert dropped + sum(line.startswith(b"x") for line in lines) == outlet_count
