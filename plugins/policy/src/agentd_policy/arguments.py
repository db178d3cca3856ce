"""The arguments of a call as rules look at them, and the patterns that these have."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import translate
from functools import lru_cache
from operator import methodcaller
from typing import Final

import msgspec
from agentd.types import ToolSpec

__all__ = [
    "DECODE",
    "EXACT",
    "MAGIC",
    "PLAIN",
    "Match",
    "climbs",
    "fits",
    "is_like",
    "is_like_qualified",
    "matcher",
    "plain_kinds",
    "read_arguments",
    "texts_in",
    "type_test",
]

MAGIC: Final = frozenset("*?[")
EXACT: Final = 10**15  # below it, a whole number has no spelling but with and without `.0`
DECODE: Final = msgspec.json.Decoder().decode


PLAIN: Final[frozenset[type]] = frozenset({str, int, type(None)})
"""What most arguments are. Whether one has the type that a schema names depends on its kind alone."""
Match = Callable[[str], object]
"""Tells whether a text matches: what is true does."""


@lru_cache(maxsize=1000)
def matcher(patterns: tuple[str, ...]) -> Match:
    """Return what matches the texts that one of these patterns of file names matches.

    Plain texts, and what a text begins or ends with, are compared as texts: a regular expression takes several
    times as long.
    """
    if not MAGIC.intersection(chars := "".join(patterns)):
        return frozenset(patterns).__contains__
    if not MAGIC.intersection(chars) - {"*"}:
        if all(
            pattern and pattern.find("*") == len(pattern) - 1 for pattern in patterns
        ):  # "" has none at -1
            return methodcaller("startswith", tuple(pattern[:-1] for pattern in patterns))
        if all(pattern.rfind("*") == 0 for pattern in patterns):
            return methodcaller("endswith", tuple(pattern[1:] for pattern in patterns))
    return re.compile("|".join(map(translate, patterns))).match


def is_like(patterns: Sequence[str], text: str) -> bool:
    """Tell whether one of the patterns matches the text."""
    return bool(matcher(tuple(patterns))(text))


def is_like_qualified(patterns: Sequence[str], source: str, names: Sequence[str]) -> bool:
    """Tell whether one of the patterns is `SOURCE:NAME` or `SOURCE.NAME`, and matches both; no `*` goes from the one to
    the other. Either may have `.` and `:` itself, so each is tried as the one between."""
    for pattern in patterns:
        for place, character in enumerate(pattern):
            if character in ".:" and pattern.rfind("[", 0, place) <= pattern.rfind("]", 0, place):
                before, behind = (pattern[:place],), (pattern[place + 1 :],)
                if is_like(before, source) and any(is_like(behind, name) for name in names):
                    return True
    return False


def climbs(text: str) -> bool:
    """Tell whether a path goes up (`..`)."""
    return ".." in text and ".." in text.replace("\\", "/").split("/")


def read_arguments(content: bytes) -> dict[str, object] | None:
    """Return the arguments of a call, from JSON that nobody has checked; None if they cannot be read as an object: a
    tool may have another reader, or more room on its stack."""
    try:
        given = DECODE(content)
    except (ValueError, RecursionError):  # json takes more: NaN, half of a pair of surrogates
        try:
            given = json.loads(content)
        except (ValueError, RecursionError):
            return None
    return given if type(given) is dict else None


def type_test(name: str, spec: ToolSpec | None) -> Callable[[object], bool] | None:
    """Return what tells whether an argument, or each of them (`*`), has a type that the tool's schema names: a lenient
    server makes `true` of `"yes"`, which no pattern foresees. None if the schema names none."""
    properties = None if spec is None else spec.input_schema.get("properties")
    if not isinstance(properties, Mapping):
        return None
    if name != "*":
        schema = properties.get(name)
        if not isinstance(schema, Mapping):
            return None
        named = schema.get("type")
        if isinstance(named, str) and named in _TYPE_TESTS and not {"anyOf", "oneOf"} & schema.keys():
            test = _TYPE_TESTS[named]  # as most are: it is looked up once
            return lambda value: value is None or test(value)
        return lambda value: value is None or fits(value, schema)

    def each(given: object) -> bool:
        return not isinstance(given, dict) or all(
            value is None or fits(value, properties.get(part)) for part, value in given.items()
        )

    return each


def plain_kinds(spec: ToolSpec | None) -> dict[str, frozenset[type]]:
    """Return, for the arguments that a tool's schema describes, which of the plain kinds fit."""
    properties = None if spec is None else spec.input_schema.get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {
        name: frozenset(kind for kind in PLAIN if kind is type(None) or fits(kind(), schema))
        for name, schema in properties.items()
    }


def fits(value: object, schema: object) -> bool:
    """Tell whether a value has one of the types that its schema names. What names none takes anything."""
    if not isinstance(schema, Mapping):
        return True
    for word in ("anyOf", "oneOf"):
        if isinstance(parts := schema.get(word), list) and parts:
            return any(fits(value, part) for part in parts)
    named = schema.get("type")
    types = [named] if isinstance(named, str) else named if isinstance(named, list) else []
    return not types or any(_TYPE_TESTS.get(each, _anything)(value) for each in types)


def _anything(value: object) -> bool:
    return True


def _is_whole(value: object) -> bool:
    return type(value) is int or (
        isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    )


_TYPE_TESTS: Final[Mapping[object, Callable[[object], bool]]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_whole,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def texts_in(value: object) -> list[tuple[str, ...]]:
    """Return the texts in an argument, however deep: a number and the like is its JSON, and its other spellings."""
    texts: list[tuple[str, ...]] = []
    waiting: list[object] = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            texts.append((part,))
        elif type(part) is int and -EXACT < part < EXACT:
            texts.append((text := str(part), f"{text}.0"))
        elif isinstance(part, dict):
            waiting += (*part, *part.values())
        elif isinstance(part, list):
            waiting += part
        elif part is not None:
            texts.append((json.dumps(part), *_spellings(part)))
    return texts


def _spellings(value: object) -> list[str]:
    """Return how else a whole number may be written: `100` as `100.0`, and the other way round."""
    if not _is_whole(value):
        return []
    whole = int(value)  # type: ignore[call-overload]  # it is a number
    return [str(whole), f"{whole}.0", *([repr(float(whole))] if abs(whole) < 1e300 else [])]
