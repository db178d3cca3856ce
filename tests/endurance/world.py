"""What the processes of a run share: folders, addresses, what can run here; and what each process counts."""

from __future__ import annotations

import json
import os
import random
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from endurance.programs import Program
    from endurance.triggers import TriggerLedger

__all__ = ["Place", "Tally", "World"]

FOLDERS = ("state", "cache", "tmp", "home", "work", "logs")
MOST_WRONG = 100


@attrs.frozen
class World:
    """:param executors: (name, options) of those that run here."""

    folder: Path
    base_url: str
    seed: int
    executors: tuple[tuple[str, dict[str, Any]], ...]

    @classmethod
    def read(cls, text: str) -> World:
        """Read what `text` has written."""
        data = json.loads(text)
        executors = tuple((name, options) for name, options in data.pop("executors"))
        return cls(folder=Path(data.pop("folder")), executors=executors, **data)

    def text(self) -> str:
        """Write it down for another process."""
        return json.dumps({**attrs.asdict(self), "folder": str(self.folder)})

    def make(self) -> None:
        """Make the folders."""
        for name in FOLDERS:
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def env(self) -> dict[str, str]:
        """The environment of what is started: nothing of the person's, all that is left behind below the folder."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
        places = {"HOME": "home", "TMPDIR": "tmp", "XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}
        return {
            **kept,
            **{name: str(self.folder / place) for name, place in places.items()},
            "OPENAI_BASE_URL": self.base_url,
            "OPENAI_API_KEY": "none",
            "OPENAI_MODEL": "scripted",
            "AGENTD_EXECUTOR": "subprocess",  # where nothing else is said
            # Of glibc, as whose further ones fill for an hour, by chance, which would hide what agentd itself keeps.
            "MALLOC_ARENA_MAX": "1",
        }


class Tally:
    """Counts what was done, and keeps what came out wrong; for many threads."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.errors: list[str] = []
        self._lock = threading.Lock()

    def add(self, **counts: int) -> None:
        """Count."""
        with self._lock:
            self.counts.update(counts)

    def wrong(self, what: str) -> None:
        """Keep what came out wrong; beyond a hundred, count it alone."""
        with self._lock:
            self.counts["wrong"] += 1
            if len(self.errors) < MOST_WRONG:
                self.errors.append(what)

    def take(self) -> dict[str, Any]:
        """Return what is new since the last time."""
        with self._lock:
            new = {"counts": dict(self.counts), "errors": self.errors}
            self.counts, self.errors = Counter(), []
        return new

    def put(self, new: dict[str, Any]) -> None:
        """Take over what another process has counted."""
        with self._lock:
            self.counts.update(new["counts"])
            self.errors += new["errors"]


@attrs.define
class Place:
    """Where work is done: in the measured host, or here, where the long-living programs are known as well."""

    world: World
    tally: Tally
    dice: random.Random
    stop: threading.Event = attrs.field(factory=threading.Event)
    programs: dict[str, Program] = attrs.field(factory=dict)
    ledgers: dict[str, TriggerLedger] = attrs.field(factory=dict)
    ports: dict[str, str] = attrs.field(factory=dict)
    """Of each daemon, the address of its webhook."""

    def folder(self, name: str) -> Path:
        """A folder to work in."""
        made = self.world.folder / "work" / name
        made.mkdir(parents=True, exist_ok=True)
        return made
