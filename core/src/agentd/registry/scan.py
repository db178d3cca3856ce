"""Reads what installed distributions say of themselves. Imports no plugin and survives broken metadata.

The folders on `sys.path` are listed by ourselves: to import importlib.metadata takes as long as all the rest. It is
asked only where distributions may lie elsewhere: in an archive, or in what an import system of its own finds.
"""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from functools import lru_cache, reduce
from typing import Any, Final, Protocol

import attrs

from agentd.registry.official import normalize

__all__ = ["Found", "InstalledDistribution", "import_object", "scan", "scan_distributions"]

_CACHE_SIZE: Final = 16
_cache: dict[tuple[tuple[str, ...], str], tuple[Found, ...]] = {}
_lock = threading.Lock()
_METADATA_FOLDERS: Final = (".dist-info", ".egg-info", "EGG-INFO")
_PATH_FINDERS: Final = ("_frozen_importlib_external", "importlib_metadata")  # find what we find


class InstalledDistribution(Protocol):
    """What is asked of a distribution: a part of `importlib.metadata.Distribution`."""

    def read_text(self, filename: str, /) -> str | None: ...


class DistributionFolder:
    """The metadata of one distribution: a folder `NAME-VERSION.dist-info` or the like."""

    def __init__(self, path: str) -> None:
        self._path = path
        folder = os.path.basename(path.removesuffix("/EGG-INFO"))  # which lies in `NAME-VERSION.egg`
        self.project = normalize(os.path.splitext(folder)[0].partition("-")[0])

    def read_text(self, filename: str, /) -> str:
        with open(f"{self._path}/{filename}", encoding="utf-8") as file:
            return file.read()


@attrs.frozen
class Found:
    """An entry point of a group that starts with `agentd.`; `problem` says why it cannot be loaded."""

    group: str
    name: str
    value: str
    distribution: str
    version: str
    problem: str = ""


def import_object(value: str) -> Any:
    """Return what an entry point names: `MODULE` or `MODULE:NAME`. Whatever happens is raised as it comes."""
    module, _, name = value.partition("[")[0].partition(":")  # extras may follow, for historical reasons
    return reduce(getattr, filter(None, name.strip().split(".")), importlib.import_module(module.strip()))


def scan(*, only: str = "", refresh: bool = False) -> tuple[Found, ...]:
    """Return the entry points of all distributions on `sys.path`, or of one.

    A process scans each `sys.path` once; `refresh` scans again, for what was installed since.

    :param only: the distribution's normalized name.
    """
    key = (tuple(sys.path), only)
    with _lock:
        if refresh:
            _cache.clear()
            _folders.cache_clear()
            importlib.invalidate_caches()
        found = _cache.get(key)
        if found is None:
            if len(_cache) >= _CACHE_SIZE:
                _cache.clear()
            found = _cache[key] = scan_distributions(_installed(key[0], only))
        return found


def _installed(path: tuple[str, ...], only: str) -> Iterable[InstalledDistribution]:
    folders = None if any(map(_finds_others, sys.meta_path)) else _folders(path)
    if folders is not None:
        return [folder for folder in folders if only in ("", folder.project)]
    from importlib.metadata import distributions

    return distributions(name=only or None)


def _finds_others(finder: object) -> bool:
    return hasattr(finder, "find_distributions") and getattr(finder, "__module__", "") not in _PATH_FINDERS


@lru_cache(maxsize=4)
def _folders(path: tuple[str, ...]) -> list[DistributionFolder] | None:
    """Return the distributions in these folders; None if one of them is an archive."""
    found = []
    for place in path:
        try:
            names = os.listdir(place or ".")
        except NotADirectoryError:
            return None
        except OSError:  # it is not there, or not ours to read
            continue
        found += [DistributionFolder(f"{place or '.'}/{n}") for n in names if n.endswith(_METADATA_FOLDERS)]
    return found


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
    folder = str(getattr(distribution, "_path", ""))
    last = os.path.basename(folder)
    stem_name, _, stem_version = os.path.splitext(last)[0].partition("-")
    text = _read(distribution, "METADATA") or _read(distribution, "PKG-INFO")
    name, version = _header(text, "name"), _header(text, "version")
    if name and version and not last.startswith("~"):
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
