"""The keys of a configuration file and the types of their values: the long options of `agentd run` and `chat`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs
import click

from agentd_cli.session_options import session_options

__all__ = ["NO_KEYS", "PRESETS", "SettingsKey", "settings_keys"]

PRESETS: Final = ("read-only", "ask-writes", "yolo")
NO_KEYS: Final = frozenset(
    {"cwd", "config", "image", "schema", "rewind", "store", "conversation", "list", "forget"}
    | {"json", "quiet", "continue", "resume", "debug"}
)
"""Long options that are no keys: they are for one start, or for one of the two commands."""
_ONLY_TYPED: Final = frozenset({"cwd", "config", "image"})
_PYTHON: Final = "python:"
_PATHS: Final = ("mcp-config", "skills", "log")


@attrs.frozen
class SettingsKey:
    """A key, and the option whose value it is.

    :ivar name: as in the file: the long option without its dashes.
    :ivar option: click's.
    """

    name: str
    option: click.Option

    @property
    def parameter(self) -> str:
        """The name of the command's parameter."""
        return str(self.option.name)

    @property
    def form(self) -> str:
        """What its value must be, in words."""
        if self.option.multiple:
            return "an array of texts"
        kind = self.option.type
        if self.option.is_flag:
            return "true or false"
        if isinstance(kind, click.Choice):
            return " or ".join(f'"{choice}"' for choice in kind.choices)
        if isinstance(kind, click.IntRange):
            return "a whole number"
        return "a number" if isinstance(kind, click.FloatRange) else "a text"

    def read(self, value: object, folder: Path) -> Any:
        """Return the value as the option has it: paths are relative to the file's folder. Raises `ValueError`."""
        if not self._has_form(value):
            raise ValueError(f"must be {self.form}, got {_shown(value)}")
        texts = value if isinstance(value, list) else [value]
        placed = [self._placed(text, folder) if isinstance(text, str) else text for text in texts]
        try:
            for one in placed:
                self.option.type.convert(one, self.option, None)
        except click.BadParameter as error:
            raise ValueError(error.message.rstrip(".")) from None
        return tuple(placed) if self.option.multiple else placed[0]

    def _has_form(self, value: object) -> bool:
        if self.option.multiple:
            return isinstance(value, list) and all(isinstance(one, str) for one in value)
        if self.option.is_flag:
            return isinstance(value, bool)
        if isinstance(self.option.type, click.IntRange):
            return type(value) is int
        if isinstance(self.option.type, click.FloatRange):
            return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        return isinstance(value, str)

    def _placed(self, text: str, folder: Path) -> str:
        """Return a path of a file as one that holds from everywhere."""
        if self.name in _PATHS:
            return str(folder / Path(text).expanduser())
        scheme = _PYTHON if self.name == "tool" and text.startswith(_PYTHON) else ""
        is_file = bool(scheme) or (self.name == "policy" and text not in PRESETS)
        # What has no colon is a file, or wrong: never one of the same name in the folder that is worked in.
        is_file = is_file or (self.name == "tool" and (":" not in text or (folder / text).is_file()))
        if not is_file:
            return text
        return scheme + os.path.join(folder, os.path.expanduser(text.removeprefix(scheme)))

    def files(self, value: Any) -> list[str]:
        """Return the files and folders that a value names."""
        texts = value if isinstance(value, tuple) else (value,)
        if self.name in ("mcp-config", "skills"):
            return list(texts)
        if self.name == "policy":
            return [text for text in texts if text not in PRESETS]
        paths = [text.removeprefix(_PYTHON) for text in texts] if self.name == "tool" else []
        return [path for path in paths if os.path.isabs(path)]


def _shown(value: object) -> str:
    text = f"{value!r}" if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:59]}…"


@cache
def settings_keys() -> Mapping[str, SettingsKey]:
    """Return the keys by name."""

    @click.command()
    @session_options
    @click.option("--checkpoints", is_flag=True)
    @click.option("--max-chats", type=click.IntRange(min=1))
    def known(**_: object) -> None:
        """Has the options; is never run."""

    keys = {}
    for option in known.params:
        assert isinstance(option, click.Option)
        name = next(text for text in option.opts if text.startswith("--")).removeprefix("--")
        if name not in _ONLY_TYPED and option.name != "config":
            keys[name] = SettingsKey(name, option)
    return keys
