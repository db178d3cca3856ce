"""A notation: how a model writes blocks, as a parser plugin teaches it, and what every notation has in common.

`read_header` is for parsers: it decides what counts as a block's header (`LANG:ACTION`, `PATH:create`), so that every
notation agrees on it; `Block.of` makes the block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

import attrs

from agentd.errors import ConfigError
from agentd.protocols import Parser
from agentd.types import LANGUAGES

__all__ = ["Notation", "read_header"]

_ACTIONS: Final = ("execute", "create")
_NEAR_ACTIONS: Final = re.compile(
    "run|exec|eval|start|launch|invoke|call|write|save|new|make|add|touch|append|edit|modify|update"
    "|overwrite|replace|patch|insert|delete|remove"
)
_HEADER: Final = re.compile(r"(.*):([Jj][Oo][Bb] +\S+|[A-Za-z][A-Za-z_-]*)", re.DOTALL)


@attrs.frozen(kw_only=True)
class Notation:
    """One way of writing blocks: what the model is told about it, and what reads it.

    The system prompt has `guide`, then `forms`, then the rules that hold for every notation, with `rules` among
    them. A block that cannot be run is answered with `forms`.

    :ivar guide: which text of an answer is a block and is carried out; a sentence or more, in front of the forms.
    :ivar forms: the forms of a block, as the model shall write them: bash, Python, and the content of a file.
    :ivar rules: what else holds for this notation, a sentence each.
    :ivar parser: makes a parser for one answer; called for each one, and again after each block that another parser
        found, so it must be cheap.
    :ivar starts_in_reasoning: the server puts the tag that opens the model's reasoning into the prompt, so that answers
        begin in it: what comes before the closing tag is not searched for blocks, nor shown until that has come.
    :ivar example: a task, the block that an answer to it has, and how it goes on; the guide ends with it.
    :ivar review: asked about the prose of an answer without blocks, which would end the run: it returns what the model
        is told instead of that, once in a run, or an empty string.
    :raises ConfigError: if `guide` or `forms` is empty: the model would not know how to act.
    """

    guide: str
    forms: str
    parser: Callable[[], Parser]
    rules: tuple[str, ...] = ()
    starts_in_reasoning: bool = False
    example: str = ""
    review: Callable[[str], str] | None = None

    def __attrs_post_init__(self) -> None:
        for name in ("guide", "forms"):
            text = getattr(self, name)
            if not isinstance(text, str) or not text.strip():
                raise ConfigError(f"Notation.{name}: must say how the model writes a block, got {text!r}")
        if not callable(self.parser):
            raise ConfigError(f"Notation.parser: must make a parser when it is called, got {self.parser!r}")


@lru_cache(maxsize=256)  # a model writes the same few headers all the time
def read_header(header: str) -> tuple[str, str] | None:
    """Split `TARGET:ACTION` at its last colon, or return None if this is no header of a block.

    It is one if the action, in any case, is `execute` or `create`; if it is a near miss (`run`, `exec`,
    `write`, `excute`, ...), which the loop answers with what is allowed; or if the target is a language
    that runs and the action any plain word, or `job NAME`. So `js:src/main.js`, `yaml:compose` and `python:3.12` are
    not. The action is returned in lower case, the target as written.
    """
    match = _HEADER.fullmatch(header)
    if match is None:
        return None
    target, action = match[1], match[2].lower()
    meant = (
        action in _ACTIONS
        or target.lower() in LANGUAGES
        or _NEAR_ACTIONS.fullmatch(action) is not None
        or bool(get_close_matches(action, _ACTIONS, n=1, cutoff=0.8))
    )
    return (target, action) if meant else None
