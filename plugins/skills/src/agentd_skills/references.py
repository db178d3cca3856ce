"""Where the references inside one schema document lead: pointers, anchors, `$id`s of all drafts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote

__all__ = ["References"]

_KEYS: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_KEY_SET: Final = frozenset(_KEYS)
_ANCHORS: Final = ("$anchor", "$dynamicAnchor", "$id", "id")
_MAX_STEPS: Final = 12


class References:
    """The references of one document. Nothing outside it is ever looked up.

    :param document: the schema that `#/...` means; anything else than a mapping has no targets.
    """

    def __init__(self, document: object) -> None:
        self.document = document
        self._anchors: dict[str, object] | None = None
        self._closures: dict[str, str] = {}

    @staticmethod
    def of(schema: object) -> str | None:
        """Return the reference that a schema consists of, or None."""
        if not isinstance(schema, Mapping) or _KEY_SET.isdisjoint(schema):
            return None
        return next((schema[k] for k in _KEYS if isinstance(schema.get(k), str)), None)

    def resolve(self, schema: object) -> Mapping[str, Any]:
        """Follow references to the schema that they end at; an empty one if they lead nowhere."""
        for _ in range(_MAX_STEPS):
            if not isinstance(schema, Mapping):
                return {}
            reference = self.of(schema)
            if reference is None:
                return schema
            schema = self.target(reference)
        return {}

    def target(self, reference: str) -> object:
        """Return what one reference points at, or an empty schema."""
        base, mark, pointer = reference.partition("#")
        if (base and not mark) or (mark and pointer and not pointer.startswith("/")):
            return self._anchored().get(unquote(pointer or base), {})
        if base:
            return {}  # another document
        node: Any = self.document
        for part in unquote(pointer).split("/")[1:]:
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, Mapping) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            else:
                return {}
        return node

    def meaning(self, reference: str) -> str:
        """Return a key for what a reference means: its target and all that the target refers to."""
        if reference in self._closures:
            return self._closures[reference]
        found: dict[str, object] = {}
        waiting = [reference]
        while waiting:
            current = waiting.pop()
            if current not in found:
                found[current] = self.target(current)
                waiting += [r for node in _mappings(found[current]) if (r := self.of(node)) is not None]
        try:
            text = json.dumps(found, sort_keys=True, default=repr)
        except (RecursionError, TypeError):  # nested deeper than anyone reads, or keys that are no text
            text = f"{reference} {id(self)}"
        key = self._closures[reference] = hashlib.sha256(text.encode()).hexdigest()
        return key

    def _anchored(self) -> dict[str, object]:
        """Return the schemas that have a name of their own, without its `#`."""
        if self._anchors is None:
            self._anchors = {}
            for node in _mappings(self.document):
                for key in _ANCHORS:
                    if isinstance(name := node.get(key), str) and node is not self.document:
                        self._anchors.setdefault(name.removeprefix("#"), node)
        return self._anchors


def _mappings(schema: object) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping inside a schema, in no order that matters."""
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Mapping):
            yield node
            waiting += node.values()
        elif isinstance(node, list):
            waiting += node
