"""Who may ask: the keys of a file, and what each may do. All mistakes of a file are told at once, with their places.

A file says what a key is by its SHA-256, or by the environment variable that has it: the key itself stands nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, suggest
from agentd.registry.options import shown
from agentd.turn.spending import Spending
from agentd.types import Budgets, Usage
from agentd_policy.document import InvalidPolicyError, Place, PolicyDocument, read_document
from agentd_policy.reading import policy_problems, read_policy

__all__ = ["KeyRing", "KeySpending", "ServedKey", "read_keys"]

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_HASH: Final = re.compile(r"[0-9a-f]{64}")
_LEAST: Final = 16
"""Characters of a key: a shorter one can be guessed."""
_MOST_KEYS: Final = 10_000
_MOST: Final = 1e12
"""What no budget is above, whatever it counts."""
_FIELDS: Final = (
    "name",
    "sha256",
    "env",
    "policy",
    "models",
    "max_cost_usd",
    "max_requests",
    "max_conversations",
    "budgets",
)


class KeySpending(Spending):
    """What all requests of a key have cost; runs count there, and take no more than is left. Keeps the sum alone: a
    server lives long."""

    def __init__(self, max_cost_usd: float | None = None) -> None:
        super().__init__(max_cost_usd, above=None)
        self._sum = Usage()
        self._lock = threading.Lock()

    def add(self, usage: Usage) -> None:
        """Count the usage of a request. From any thread."""
        with self._lock:
            self._sum = self._sum + usage

    def total(self, since: int = 0) -> Usage:
        """Return the sum."""
        return self._sum


@attrs.define(kw_only=True, eq=False)
class ServedKey:
    """A key, and what it has under way.

    :ivar name: what logs and folders call it.
    :ivar policy: what judges its code's acts; None for the server's.
    :ivar models: the models that it may ask; None for all.
    :ivar max_requests, max_conversations: how many at once; None for as many as the server has.
    :ivar budgets: limits of each run, by the names of `Budgets`.
    """

    name: str
    policy: object = None
    models: Sequence[str] | None = None
    max_requests: int | None = None
    max_conversations: int | None = None
    budgets: Mapping[str, Any] = attrs.field(factory=dict)
    spending: KeySpending = attrs.field(factory=KeySpending)
    under_way: int = 0

    @property
    def is_spent(self) -> bool:
        """True if its money is used up."""
        left = self.spending.left_usd()
        return left is not None and left <= 0


@attrs.frozen
class KeyRing:
    """All keys of a server, by their digests. Without any, everyone who reaches it may ask, as `anyone`."""

    keys: Sequence[tuple[bytes, ServedKey]] = ()
    anyone: ServedKey = attrs.field(factory=lambda: ServedKey(name="anyone"))

    @property
    def is_open(self) -> bool:
        """True if no key is needed."""
        return not self.keys

    def find(self, header: str) -> ServedKey | None:
        """Return the key that an `Authorization` header brings; None if there is none like it. Takes as long for a key
        that is nearly right as for any other."""
        if not self.keys:
            return self.anyone
        scheme, _, token = header.partition(" ")
        digest = hashlib.sha256(_bytes_of(token) if scheme.lower() == "bearer" else b"").digest()
        found = None
        for known, key in self.keys:
            if hmac.compare_digest(known, digest):
                found = key
        return found


def _bytes_of(token: str) -> bytes:
    """What a client has sent as a key: headers are read as Latin-1, whatever they are."""
    return token.strip(" \t").encode("latin-1", "replace")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def read_keys(file: Path, models: Sequence[str]) -> KeyRing:
    """Read a file of keys.

    :param models: those that the server has.
    :raises ConfigError: with a line for each fault.
    """
    document = read_document(file)
    found = _KeyFile(document, file.absolute().parent, models).keys() if not document.problems else []
    if document.problems:
        raise InvalidPolicyError(document.problems)
    return KeyRing(found)


class _KeyFile:
    """One file, as it is read."""

    def __init__(self, document: PolicyDocument, folder: Path, models: Sequence[str]) -> None:
        self._document = document
        self._note = document.note
        self._folder = folder
        self._models = models
        self._names: set[str] = set()
        self._digests: set[bytes] = set()

    def keys(self) -> list[tuple[bytes, ServedKey]]:
        data = self._document.data
        if not isinstance(data, Mapping) or not isinstance(data.get("keys"), list):
            self._note((), f"must be a mapping with the list `keys`, got {shown(data)}")
            return []
        for other in data:
            if other != "keys":
                self._note((str(other),), f"unknown key {other!r}; there is: keys{suggest(other, ('keys',))}")
        if not 0 < len(data["keys"]) <= _MOST_KEYS:
            self._note(("keys",), f"must have 1 to {_MOST_KEYS} keys, has {len(data['keys'])}")
            return []
        made = [self._key(one, ("keys", number)) for number, one in enumerate(data["keys"])]
        return [one for one in made if one is not None]

    def _key(self, given: object, place: Place) -> tuple[bytes, ServedKey] | None:
        if not isinstance(given, Mapping):
            self._note(place, f"must be a mapping with name, and sha256 or env; got {shown(given)}")
            return None
        for field in given:
            if field not in _FIELDS:
                known = ", ".join(_FIELDS)
                self._note(
                    (*place, str(field)),
                    f"unknown key {field!r}; there are: {known}{suggest(field, _FIELDS)}",
                )
        name = self._name(given.get("name"), (*place, "name"))
        digest = self._digest_of(given, place)
        read = {
            field: reader(given[field], (*place, field))
            for field, reader in self._readers.items()
            if given.get(field) is not None
        }
        cost = read.pop("max_cost_usd", None)
        return digest, ServedKey(name=name, spending=KeySpending(cost), **read)

    @property
    def _readers(self) -> Mapping[str, Callable[[Any, Place], Any]]:
        return {
            "policy": self._policy,
            "models": self._allowed_models,
            "max_cost_usd": self._money,
            "max_requests": self._count,
            "max_conversations": self._count,
            "budgets": self._budgets,
        }

    def _name(self, name: object, place: Place) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._note(place, f"must be letters, digits, _ and -, at most 64, got {shown(name)}")
            return ""
        if name.lower() in self._names:
            self._note(place, f"{name!r} is the name of another key")
        self._names.add(name.lower())  # folders have these names, on disks that do not tell A from a
        return name

    def _digest_of(self, given: Mapping[str, Any], place: Place) -> bytes:
        hashed, variable = given.get("sha256"), given.get("env")
        if (hashed is None) == (variable is None):
            self._note(
                place,
                'needs sha256 (64 hex digits: `printf %s "$KEY" | sha256sum`) or env (a variable), and not both',
            )
            return b""
        if hashed is not None:
            place = (*place, "sha256")
            if not isinstance(hashed, str) or not _HASH.fullmatch(hashed.lower()):
                self._note(place, f"must be the 64 hex digits of a SHA-256, in quotes; got {_told(hashed)}")
                return b""
            digest = bytes.fromhex(hashed)
            if digest == _digest(""):
                self._note(place, "is the SHA-256 of an empty text")
        else:
            place = (*place, "env")
            if not isinstance(variable, str) or not variable:
                self._note(place, f"must be the name of an environment variable, got {shown(variable)}")
                return b""
            key = os.environ.get(variable, "")
            if len(key) < _LEAST:
                what = "is not set, or is empty" if not key else f"has {len(key)} characters"
                self._note(place, f"the environment variable {variable} {what}; a key has {_LEAST} or more")
                return b""
            digest = _digest(key)
        if digest in self._digests:
            self._note(place, "another entry has the same key")
        self._digests.add(digest)
        return digest

    def _policy(self, given: object, place: Place) -> object:
        if isinstance(given, str) and (self._folder / given).is_file():
            given = str(self._folder / given)
        problems = policy_problems(given)
        for inner, said in problems:
            self._note((*place, *inner), said)
        return None if problems else read_policy(given)[0]  # once: each request has it

    def _allowed_models(self, given: object, place: Place) -> Sequence[str]:
        if not isinstance(given, list) or not given:
            self._note(place, f"must be a list of models, got {shown(given)}")
            return ()
        for number, name in enumerate(given):
            if name not in self._models:
                there = ", ".join(map(repr, self._models))
                hint = suggest(str(name), self._models)
                self._note(
                    (*place, number), f"{shown(name)} is no model of this server (--model): {there}{hint}"
                )
        return tuple(map(str, given))

    def _money(self, given: object, place: Place) -> float | None:
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given <= _MOST:
            self._note(place, f"must be a number of US dollars above 0, got {shown(given)}")
            return None
        return float(given)

    def _count(self, given: object, place: Place) -> int | None:
        if isinstance(given, bool) or not isinstance(given, int) or given < 1:
            self._note(place, f"must be a whole number above 0, got {shown(given)}")
            return None
        return given

    def _budgets(self, given: object, place: Place) -> Mapping[str, Any]:
        names = [field.name for field in attrs.fields(Budgets)]
        if not isinstance(given, Mapping):
            self._note(place, f"must be a mapping with some of {', '.join(names)}; got {shown(given)}")
            return {}
        for name, value in given.items():
            if name not in names:
                known = ", ".join(names)
                self._note((*place, name), f"unknown key {name!r}; there are: {known}{suggest(name, names)}")
                continue
            try:
                if isinstance(value, int) and value > _MOST:  # no sum with floats has room for more
                    raise ConfigError(f"must be {_MOST:g} at most")
                Budgets(**{name: value})
            except ConfigError as error:
                self._note((*place, name), str(error))
        return given


def _told(value: object) -> str:
    """A value that may be a key by mistake: of it, only what kind it is."""
    return f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
