"""Reads what installed distributions say of themselves. Imports no plugin and survives broken metadata."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Protocol

import attrs

from agentd.registry.config import normalize

__all__ = ["Found", "InstalledDistribution", "scan", "scan_distributions"]

_CACHE_SIZE = 8
_cache: dict[tuple[str, ...], tuple[Found, ...]] = {}
_lock = threading.Lock()


class InstalledDistribution(Protocol):
    """What is asked of a distribution: a part of `importlib_metadata.Distribution`."""

    def read_text(self, filename: str, /) -> str | None: ...


@attrs.frozen
class Found:
    """An entry point of a group that starts with `agentd.`; `problem` says why it cannot be loaded."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    problem: str = ""


def scan(*, refresh: bool = False) -> tuple[Found, ...]:
    """Return the entry points of all distributions on `sys.path`.

    A process scans each `sys.path` once; `refresh` scans again, for what was installed since.
    """
    key = tuple(sys.path)
    with _lock:
        if refresh:
            _forget()
        found = _cache.get(key)
        if found is None:
            from agentd.registry.metadata import distributions

            if len(_cache) >= _CACHE_SIZE:
                _cache.clear()
            found = _cache[key] = scan_distributions(distributions())
        return found


def _forget() -> None:
    from agentd.registry.metadata import MetadataPathFinder

    _cache.clear()
    importlib.invalidate_caches()
    MetadataPathFinder().invalidate_caches()  # an instance: it is no class method in importlib-metadata 7.0


def scan_distributions(distributions: Iterable[InstalledDistribution]) -> tuple[Found, ...]:
    """Return the entry points of these distributions, sorted by distribution and group."""
    found: list[Found] = []
    seen: set[tuple[str, str]] = set()
    for distribution in distributions:
        # Most distributions have no entry point of ours: look at the text before parsing anything.
        text = _read(distribution, "entry_points.txt")
        if "[agentd." not in text:
            continue
        name, version, problem = _identity(distribution)
        # The import system takes the first of a name on sys.path, and so do we; leftovers stay listed.
        if (normalize(name), problem) not in seen:
            seen.add((normalize(name), problem))
            found += _parse(text, name, version, problem)
    return tuple(sorted(found, key=lambda f: (f.distribution, f.group)))


def _read(distribution: InstalledDistribution, filename: str) -> str:
    try:
        return distribution.read_text(filename) or ""
    except Exception:  # an unreadable or non-UTF-8 file of some distribution must not hide the others
        return ""


def _identity(distribution: InstalledDistribution) -> tuple[str, str, str]:
    """Return name, version and problem. (`.name` of a half-removed distribution raises or is None.)"""
    folder = PurePath(str(getattr(distribution, "_path", "")))
    stem_name, _, stem_version = folder.stem.partition("-")
    text = _read(distribution, "METADATA") or _read(distribution, "PKG-INFO")
    name, version = _header(text, "name"), _header(text, "version")
    if name and version and not folder.name.startswith("~"):
        return name, version, ""
    # pip leaves `~gentd_foo-1.0.dist-info` behind when it is stopped while it uninstalls.
    problem = (
        f"its distribution is half removed ({folder} has no valid METADATA); install it again or delete that"
    )
    return normalize(stem_name) or "unknown", version or stem_version, problem


def _header(text: str, wanted: str) -> str:
    # `.metadata` would do, but loads the e-mail parser: 15 ms for two lines of text
    for line in text.splitlines():
        if not line.strip():
            break
        name, _, value = line.partition(":")
        if name.lower() == wanted:
            return value.strip()
    return ""


def _parse(text: str, distribution: str, version: str, problem: str) -> Iterator[Found]:
    """Read `entry_points.txt` line by line, so that one bad line costs one entry point only."""
    group = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group.startswith("agentd.") and line and line[0] not in "#;":
            name, equals, value = (part.strip() for part in line.partition("="))
            bad = "" if equals and name and value else f"its entry point {line!r} is not `NAME = MODULE`"
            yield Found(group, name, value, distribution, version, problem or bad)
