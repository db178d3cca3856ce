"""A store that is opened: its place, its key, its format."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from typing import Any, Final

import attrs
from agentd.errors import ConfigError

from agentd_store.errors import StoreError
from agentd_store.objects import NO_NOTE, ObjectSet
from agentd_store.place import ObjectPlace
from agentd_store.seal import ObjectSeal, key_of

__all__ = ["KEY_VARIABLE", "OpenedStore", "open_store", "try_store"]

FORMAT: Final = 1
KEY_VARIABLE: Final = "AGENTD_STORE_KEY"
_ABOUT: Final = "about.json"
_CHECK: Final = "key-check"
_MOST_BYTES: Final = 1 << 16


@attrs.frozen
class OpenedStore:
    """What reads and writes a store."""

    place: ObjectPlace
    seal: ObjectSeal
    objects: ObjectSet


def open_store(
    url: str,
    *,
    key: str | None = None,
    storage_options: Mapping[str, Any] | None = None,
    make: bool = True,
) -> OpenedStore:
    """Open a store, and make it if there is none at this URL.

    :param key: 32 bytes as base64 or hexadecimal digits: everything is encrypted with it. None for what the environment
        variable `AGENTD_STORE_KEY` says, else for no encryption.
    :param make: False: raise `StoreError` if there is none.
    :raises ConfigError: for a URL, a key or options that cannot be meant.
    :raises StoreError: if it cannot be reached, has a newer format, or cannot create an object only if there is none.
    """
    key = os.environ.get(KEY_VARIABLE) if key is None else key
    place = ObjectPlace(url, storage_options)
    seal = ObjectSeal(key_of(key) if key else None)
    about = place.read(_ABOUT, most=_MOST_BYTES)
    if about is None:
        if not make:
            raise StoreError(f"there is no store at {url!r}; a session that is kept there makes it")
        about = _make(place, seal)
    _check_about(about, url, seal)
    return OpenedStore(place, seal, ObjectSet(place, seal))


def try_store(url: str, *, key: str | None = None, storage_options: Mapping[str, Any] | None = None) -> bool:
    """Try a store as `open_store` opens it, without making one: an object is created, read and removed.

    :return: whether there is one at this URL already.
    :raises ConfigError: for a URL, a key or options that cannot be meant.
    :raises StoreError: if it cannot be reached, read or written.
    """
    key = os.environ.get(KEY_VARIABLE) if key is None else key
    place = ObjectPlace(url, storage_options)
    seal = ObjectSeal(key_of(key) if key else None)
    about = place.read(_ABOUT, most=_MOST_BYTES)
    if about is not None:
        _check_about(about, url, seal)
    with place.left_as_it_was():
        _probe(place)
    return about is not None


def _check_about(about: bytes, url: str, seal: ObjectSeal) -> None:
    """Raise if what a store says of itself does not go with this agentd and this key."""
    try:
        said = json.loads(about)
        found, check = said["format"], said["check"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"the store {url!r}: its {_ABOUT} cannot be read: {error!r:.200}") from error
    if found != FORMAT:
        raise StoreError(
            f"the store {url!r} has format {found!r:.40}, this agentd reads format {FORMAT}: update agentd"
        )
    if bool(check) != seal.is_encrypting:
        raise ConfigError(
            f"store {url!r}: is encrypted, and no key was given: set {KEY_VARIABLE}"
            if check
            else f"store {url!r}: is not encrypted, and a key was given: leave it out, or use another URL"
        )
    if check:
        try:
            seal.open(_CHECK, bytes.fromhex(check))
        except (StoreError, ValueError, TypeError):
            raise ConfigError(f"store {url!r}: is encrypted with another key than the given one") from None


def _make(place: ObjectPlace, seal: ObjectSeal) -> bytes:
    """Make a new store, if its place does what everything stands on."""
    _probe(place)
    check = seal.close(_CHECK, secrets.token_bytes(16)).hex() if seal.is_encrypting else ""
    place.create(NO_NOTE, b"none")  # a folder with something in it is listed by one request
    about = json.dumps({"format": FORMAT, "check": check, "made_by": "agentd-store"}).encode()
    if place.create(_ABOUT, about):
        return about
    return place.read(_ABOUT) or about


def _probe(place: ObjectPlace) -> None:
    """Raise if a place cannot be written, or does not do what everything stands on: create an object only if there is
    none."""
    probe = f"probe-{secrets.token_hex(8)}"
    try:
        created = place.create(probe, b"1"), place.create(probe, b"2")
        if created != (True, False) or place.read(probe) != b"1":
            raise ConfigError(
                f"store {place.url!r}: its server writes over an object that it was asked to create only if there is "
                "none (If-None-Match), so that two writers could not see each other; use another one"
            )
    except BaseException:
        with contextlib.suppress(StoreError):  # what was refused first is what is told
            place.remove(probe)
        raise
    place.remove(probe)
