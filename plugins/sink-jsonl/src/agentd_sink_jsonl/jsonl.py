"""The jsonl sink and `ConversationLog`: a run as JSON lines, one file per run, only where asked for.

A file holds whole lines only: a line that did not fit on the disk is taken back, and what a killed process left
half written is ended before the next line. Several sinks may append to one file: none touches another's lines. The
first failure is logged once, and then no more is written; a full disk never ends a run.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from agentd.errors import ConfigError
from agentd.events import Event, RunEnd, RunStart, TurnEnd, as_dict

from agentd_sink_jsonl.strict_json import strict_json

__all__ = ["ConversationLog", "JsonlSink"]

_log = logging.getLogger("agentd.sinks.jsonl")


@lru_cache(4)
def _second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _now() -> str:
    seconds, thousandths = divmod(time.time_ns() // 1_000_000, 1000)
    return f"{_second(seconds)}.{thousandths:03}+00:00"


_NESTED: Final = (TurnEnd, RunEnd)
"""The events that hold an object of more fields."""


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], Callable[[Event], tuple[object, ...]]]:
    """Return the names of a line's fields for a kind of event, and what reads all but `ts` and `run` at once."""
    names = [name for name in kind.__slots__ if name not in ("type", "__weakref__")]
    return ("type", "ts", "run", *names), attrgetter("type", *names)


def _record(event: Event, run: str) -> dict[str, object]:
    """Return `as_dict(event)` with the time and the run as its next fields. `as_dict` takes most of its time to look
    for objects in the fields, of which most events have none."""
    if isinstance(event, _NESTED):
        data = as_dict(event)
        return {"type": data.pop("type"), "ts": _now(), "run": run, **data}
    kind: Any = type(event)
    names, read = _fields(kind)
    type_, *values = read(event)
    return dict(zip(names, (type_, _now(), run, *values), strict=True))


def _random_digits() -> str:
    return os.urandom(6).hex()


def _unique_path(directory: Path) -> Path:
    """A name that sorts by time and that no other run, thread or process makes."""
    return directory / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{_random_digits()}.jsonl"


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return  # reported when the file is opened, which fails the same way
        raise ConfigError(
            f"cannot log into {str(directory)!r}: {error.strerror}; name a directory that can be written"
        ) from error


def _ends_within_a_line(path: Path, info: os.stat_result) -> bool:
    """Tell whether a regular file ends in half a line, as of a process that was killed while it wrote."""
    if not (stat.S_ISREG(info.st_mode) and info.st_size):
        return False
    try:
        # A descriptor of its own: the writer's stays for writing alone, so that opening a FIFO waits for its reader.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # a file that may only be written
        return False
    try:
        return os.pread(fd, 1, info.st_size - 1) not in (b"\n", b"")
    finally:
        os.close(fd)


class _LineFile:
    """A file of whole lines of strict JSON. Thread-safe; the first failure is logged and ends the writing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._fd = -1
        try:
            # 0600: a transcript holds whatever the person and the code said.
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if _ends_within_a_line(path, os.fstat(self._fd)):
                os.write(self._fd, b"\n")
        except OSError as error:
            self._give_up(error)

    def write(self, record: dict[str, object]) -> None:
        line = strict_json(record).encode() + b"\n"
        with self._lock:
            if self._fd < 0:
                return
            try:
                self._write_all(line)
            except OSError as error:
                self._give_up(error)

    def _write_all(self, line: bytes) -> None:
        written = os.write(self._fd, line)
        if written < len(line):
            self._write_rest(line, written)

    def _write_rest(self, line: bytes, written: int) -> None:
        start = self._end() - written
        try:
            while written < len(line):
                written += os.write(self._fd, memoryview(line)[written:])
        except OSError:
            # Nobody has written between the pieces or behind them: another's lines stay, whatever becomes of ours.
            if os.fstat(self._fd).st_size == self._end() == start + written:
                with suppress(OSError):  # a device
                    os.ftruncate(self._fd, start)
            raise

    def _end(self) -> int:
        """Return where the last piece that this writer has written ends; -1 if it is not in a file (a FIFO)."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_CUR)
        except OSError:
            return -1

    def _give_up(self, error: OSError) -> None:
        _log.error("the log %s ends here, the run goes on: %s", self.path, error.strerror or error)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class JsonlSink:
    """Write each event as a line: the fields of `agentd.events.as_dict`, `ts` (UTC, ISO 8601), and `run`, 12 digits by
    which the lines of one run are known where several sinks append to one file.

    `path` is a directory (made if missing), and every run gets a file with a unique name in it, or a file
    name that ends in `.jsonl`, to which all runs are appended. `paths` lists the files written so far.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        target = Path(path)
        single = target.suffix == ".jsonl" and not target.is_dir()
        self._directory = None if single else target
        self._run = _random_digits()
        _make_directory(target.parent if single else target)
        self._file = _LineFile(target) if single else None
        self.paths: list[Path] = [target] if single else []

    def emit(self, event: Event) -> None:
        """Write one event; never raises for what the disk does."""
        if isinstance(event, RunStart):
            self._run = _random_digits()
        if self._directory is not None and (self._file is None or isinstance(event, RunStart)):
            self._next_file(self._directory)
        if self._file is not None:
            self._file.write(_record(event, self._run))
        if isinstance(event, RunEnd) and self._directory is not None:
            self.close()

    def _next_file(self, directory: Path) -> None:
        self.close()
        path = _unique_path(directory)
        self._file = _LineFile(path)
        self.paths.append(path)

    def close(self) -> None:
        """Close the file. A later event of another run opens the next one."""
        if self._file is not None:
            self._file.close()
            if self._directory is not None:
                self._file = None


class ConversationLog:
    """The record of one conversation, one JSON line for each thing that is said or done.

    `patch_type` says what made it (`ptc`, `mcp`), `model` is the model's name, and `log_dir` the directory
    (made if missing) that gets a file with a unique name. Every line has `event` (`session_start`,
    `message`, `tool_call`, `tool_result`, `session_end`) and `ts` (UTC, ISO 8601). Thread-safe.
    """

    def __init__(self, patch_type: str, model: str, log_dir: str | os.PathLike[str]) -> None:
        directory = Path(log_dir)
        _make_directory(directory)
        self._file = _LineFile(_unique_path(directory))
        self._write("session_start", patch_type=patch_type, model=model)

    @property
    def path(self) -> Path:
        """The file that is written."""
        return self._file.path

    def _write(self, event: str, **fields: object) -> None:
        self._file.write({"event": event, "ts": _now(), **fields})

    def message(self, role: str, content: object) -> None:
        """Record a message of the system, the user or the assistant."""
        self._write("message", role=role, content=content)

    def tool_call(self, tool_type: str, name: str, input_data: object) -> None:
        """Record that a tool or a block is started with `input_data`."""
        self._write("tool_call", tool_type=tool_type, name=name, input=input_data)

    def tool_result(self, tool_type: str, name: str, output: object, duration_ms: int | None = None) -> None:
        """Record what it gave, and after how many milliseconds."""
        timed = {} if duration_ms is None else {"duration_ms": duration_ms}
        self._write("tool_result", tool_type=tool_type, name=name, output=output, **timed)

    def end(self, turns: int) -> None:
        """Record the end after `turns` turns and close the file."""
        self._write("session_end", turns=turns)
        self._file.close()
