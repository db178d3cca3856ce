"""The sink `html`: a page for each run, written when it ends."""

from __future__ import annotations

import logging
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from agentd.errors import ConfigError
from agentd.events import CodeOutput, Event, Picture, RunEnd, as_dict

from agentd_sink_html.page_file import write_page
from agentd_sink_html.trace import RunTrace, Traces

__all__ = ["HtmlSink"]

_log = logging.getLogger("agentd.sinks.html")
_RUNS: Final = 50  # the newest that one file holds
_WAITING: Final = 1_000  # events of a run that are kept as they came, or
_WAITING_CHARACTERS: Final = 1 << 20  # so much text in them
_AFTER_S: Final = 0.05
"""How long the writer waits after a run: whoever waits for the run's end would wait for the page, too, as one thread of
Python runs at a time."""


class HtmlSink:
    """Write a page for each run.

    `path` is a directory (made if missing), and every run gets a file with a unique name in it, or a file name that
    ends in `.html`, which holds the newest 50 runs of this sink. `paths` lists the files written so far, all of them
    after `close()`. A failure to write is logged and never ends a run.

    What is shown is kept in memory until the run ends, and written a moment later, or by `close()`; what a killed
    process did is in no page. The sink `jsonl` keeps each event at once, and `agentd trace` makes the same page of its
    files.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        target = Path(path)
        self._file = target if target.suffix == ".html" and not target.is_dir() else None
        self._directory = target.parent if self._file else target
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"cannot write pages into {str(self._directory)!r}: {error.strerror}; "
                "name a directory that can be written"
            ) from error
        self._recording = _Recording()
        self._runs: list[RunTrace] = []  # of a file; the writer's alone
        self._writer: ThreadPoolExecutor | None = None
        self._is_closing = threading.Event()
        self.paths: list[Path] = []

    def emit(self, event: Event) -> None:
        """Take one event, and have the page written if it ends the run; never raises for what the disk does."""
        self._recording.add(event, time.time())
        if isinstance(event, RunEnd):
            self._write()

    def _write(self) -> None:
        """Write in a thread: a page takes tens of milliseconds, and others run in this loop."""
        path = self._file or self._directory / f"{_stamp()}-{os.urandom(6).hex()}.html"
        recording, self._recording = self._recording, _Recording()
        if self._writer is None:
            self._is_closing.clear()
            self._writer = ThreadPoolExecutor(1, "agentd-html")  # one: the pages of a file come in order
        self._writer.submit(self._write_now, path, recording)

    def _write_now(self, path: Path, recording: _Recording) -> None:
        if not recording.has_pictures:  # whose files go with the session
            self._is_closing.wait(_AFTER_S)
        try:
            runs = (self._runs + recording.runs())[-_RUNS:]
            self._runs = runs if self._file else []
            write_page(path, runs)
        except OSError as error:
            _log.error("no page %s, the run goes on: %s", path, error.strerror or error)
        except Exception:
            _log.exception("no page %s, the run goes on", path)
        else:
            if path not in self.paths:
                self.paths.append(path)

    def close(self) -> None:
        """Write the page of a run that has not ended, and wait for those that are being written."""
        self._is_closing.set()
        if not self._recording.is_empty:
            self._write()
        if self._writer is not None:
            self._is_closing.set()
            self._writer.shutdown()
            self._writer = None


class _Recording:
    """The events of a run. They are made into a trace when it has ended, or when they are many: to do so for each as it
    comes would keep the run waiting."""

    def __init__(self) -> None:
        self._traces = Traces()
        self._waiting: list[tuple[Event, float]] = []
        self._characters = 0
        self.is_empty = True
        self.has_pictures = False

    def add(self, event: Event, at: float) -> None:
        """Take an event that came at this time."""
        self.is_empty = False
        self._waiting.append((event, at))
        if isinstance(event, CodeOutput):
            self._characters += len(event.text)
        elif isinstance(event, Picture):
            self.has_pictures = True
        if len(self._waiting) >= _WAITING or self._characters >= _WAITING_CHARACTERS:
            self._read()

    def _read(self) -> None:
        waiting, self._waiting, self._characters = self._waiting, [], 0
        for event, at in waiting:
            self._traces.add(as_dict(event), at)

    def runs(self) -> list[RunTrace]:
        """Return the run; more than one only if a run's end was not told."""
        self._read()
        return self._traces.runs


def _stamp() -> str:
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime())
