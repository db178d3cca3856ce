"""Long request bodies past the SDK's transformation, which walks all of a conversation for every request.

The `openai` SDK checks each message against every kind of message that its types know, to rename keys and
encode values; in a conversation of 20 rounds that is more work than everything else it does. A body that is plain
JSON already needs none of it. Such a body goes through `extra_body`, which the SDK takes as it is, but only if
`create` is the SDK's own method: a wrapper around it (tracing, say) wants to see the messages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any, Final

__all__ = ["is_plain", "is_sdk_function", "is_sdk_method", "past_transformation"]

_LONG: Final = ("messages", "input")
"""The parameters that grow with the conversation."""
_TEXT: Final = frozenset({str})
_LEAVES: Final = frozenset({str, bool, int, float, type(None)})


def is_sdk_method(create: Callable[..., Any]) -> bool:
    """Tell whether `create` is a method of the `openai` SDK that nobody has wrapped."""
    return isinstance(create, MethodType) and is_sdk_function(create.__func__)


@lru_cache(maxsize=64)
def is_sdk_function(function: Any) -> bool:
    """Tell whether a function is the SDK's, and nobody has wrapped it."""
    openai = sys.modules.get("openai")
    if openai is None or openai.__file__ is None:
        return False
    home = str(Path(openai.__file__).parent)
    while type(function) is FunctionType and function.__code__.co_filename.startswith(home):
        inner = getattr(function, "__wrapped__", None)  # the SDK wraps some of its methods itself
        if inner is None:
            return True
        function = inner
    return False


def past_transformation(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a `create` of the SDK's own with the conversation moved to `extra_body`.

    What is not plain JSON (SDK objects, iterators, files) stays where it is.
    """
    moved = {
        name: arguments[name]
        for name in _LONG
        if type(arguments.get(name)) is list and is_plain(arguments[name])
    }
    if not moved:
        return dict(arguments)
    extra = {**moved, **(arguments.get("extra_body") or {})}
    return {**arguments, **{name: [] for name in moved}, "extra_body": extra}


def is_plain(value: Any) -> bool:
    """Tell whether a value is JSON as it is: of Python's own types, all of it."""
    kind = type(value)
    if kind is dict:
        if not _TEXT.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return kind in _LEAVES
    # Most are full of texts. A call for each of them, in each round, would take longer than all the rest.
    if _LEAVES.issuperset(map(type, value)):
        return True
    return all(type(item) in _LEAVES or is_plain(item) for item in value)
