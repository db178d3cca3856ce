"""References in texts: `${ENV}`, `${ENV:-default}`, `${file:path}`, and `$$` for a dollar."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.text import valid_text

__all__ = ["BadReferenceError", "ConfigReferences", "Substituted", "revealed"]

MAX_FILE_BYTES: Final = 1024 * 1024
MOST_SHOWN: Final = 200  # characters of a reference that a message repeats

_REFERENCE: Final = re.compile(r"\$\$|\$\{([^}\n]*)(\}?)")
_VARIABLE: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)


class BadReferenceError(ValueError):
    """A reference cannot be resolved."""


class Substituted(str):
    """A text that came from references. Its repr shows `reference`, what was written, and never the value.

    `whole` says that the text is one reference and nothing else; `files` are those that it was read from.
    """

    reference: str
    whole: bool
    files: tuple[Path, ...]

    def __repr__(self) -> str:
        return repr(self.reference)


def revealed(value: Any) -> Any:
    """Return a value as plain data: texts, also inside lists and mappings, are nothing but `str`."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list):
        return [revealed(item) for item in value]
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    return value


@attrs.frozen
class ConfigReferences:
    """Resolves references.

    :param environ: the environment variables.
    :param folder: what relative paths of files are relative to.
    """

    environ: Mapping[str, str] = attrs.field(repr=False)
    folder: Path

    def resolve(self, text: str) -> str:
        """Return the text with its references replaced; a `Substituted` if there was one.

        :raises BadReferenceError: for a reference that is none, an unset variable, an unreadable file.
        """
        files: list[Path] = []
        count = 0

        def replace(match: re.Match[str]) -> str:
            nonlocal count
            if match[0] == "$$":
                return "$"
            count += 1
            return self._value(match, files)

        resolved = _REFERENCE.sub(replace, text)
        if not count:
            return resolved
        substituted = Substituted(resolved)
        substituted.reference = text
        substituted.whole = _REFERENCE.fullmatch(text) is not None
        substituted.files = tuple(files)
        return substituted

    def _value(self, match: re.Match[str], files: list[Path]) -> str:
        written, inside, closed = match[0], match[1], match[2]
        if len(written) > MOST_SHOWN:
            written = f"{written[: MOST_SHOWN - 3]}..."
        if not closed:
            raise BadReferenceError(f"{written!r} has no closing brace; write $$ for a dollar")
        if inside.startswith("file:"):
            path = self.folder / os.path.expanduser(inside.removeprefix("file:").strip())
            files.append(path)
            return _read(path, written)
        variable = _VARIABLE.fullmatch(inside)
        if variable is None:
            raise BadReferenceError(
                f"{written!r} is no reference; there are ${{NAME}}, ${{NAME:-default}} and ${{file:path}}; "
                "write $$ for a dollar"
            )
        name, default = variable[1], variable[2]
        value = self.environ.get(name)
        if default is not None and not value:
            return default
        if value is None:
            raise BadReferenceError(
                f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-default}}"
            )
        if valid_text(value) != value:
            raise BadReferenceError(f"the environment variable {name} is no text in UTF-8")
        return value


def _read(path: Path, written: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise BadReferenceError(f"{written!r}: cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadReferenceError(f"{written!r}: {path} is no text in UTF-8") from None
    except ValueError:  # a NUL in the name
        raise BadReferenceError(f"{written!r}: there is no such path") from None
    if len(content) > MAX_FILE_BYTES:
        raise BadReferenceError(f"{written!r}: {path} is larger than {MAX_FILE_BYTES // 1024} KiB")
    return text.rstrip("\r\n")


def is_open(path: Path) -> bool:
    """Tell whether others than the owner may read a file."""
    try:
        return bool(stat.S_IMODE(os.stat(path).st_mode) & 0o077)
    except OSError:
        return False
