"""A person's word for a project's file: remembered by what is in it, and in the files that it names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

from agentd.errors import ConfigError
from agentd.statedir import make_private, user_state_dir

__all__ = ["Word", "content_digest", "forget_word", "keep_word", "word_for"]

Word = Literal["yes", "no"]
MAX_BYTES: Final = 32 * 1024 * 1024
MAX_FILES: Final = 2_000


def content_digest(file: Path, content: bytes, named: Iterable[str]) -> str:
    """Return what a word is for: a file, where it lies, and what the files and folders that it names hold.

    :raises ConfigError: if those are too large to be looked at.
    """
    digest = hashlib.sha256()

    def add(data: bytes) -> None:
        digest.update(len(data).to_bytes(8, "big") + data)

    add(os.fsencode(file))
    add(content)
    left_files, left_bytes = MAX_FILES, MAX_BYTES
    for path in sorted(set(named)):
        for part in _files(Path(path)):
            data = _read(part, left_bytes)
            left_files, left_bytes = left_files - 1, left_bytes - len(data)
            if left_files < 0 or left_bytes < 0:
                raise ConfigError(
                    f"{file}: what it names ({path}) has more than {MAX_FILES:,} files or {MAX_BYTES >> 20} MiB, too "
                    "much to be trusted as it is now; name it on the command line"
                )
            add(os.fsencode(part))
            add(data)
    return digest.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    """Yield a file; of a folder, what is in it, and the links to folders in it, followed."""
    if not path.is_dir():
        yield path
        return
    seen = {path.resolve()}
    for folder, folders, names in os.walk(path, followlinks=True):
        folders.sort()
        for name in list(folders):
            inner = Path(folder, name)
            if inner.is_symlink():
                yield inner
            real = inner.resolve()
            if real in seen:  # a loop, say; where a link leads is in the digest, and what is there is once
                folders.remove(name)
            seen.add(real)
        for name in sorted(names):
            yield Path(folder, name)


def _read(path: Path, limit: int) -> bytes:
    """Return what is in a file: nothing in one that is not there, or that is none; of a link to a folder, its end."""
    try:
        if path.is_dir():  # by a link
            return os.fsencode(path.resolve())
        if not path.is_file():
            return b""
        with open(path, "rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        return f"{error.strerror}".encode()


def _record(file: Path) -> Path:
    return user_state_dir() / "trust" / f"{hashlib.sha256(os.fsencode(file)).hexdigest()[:32]}.json"


def word_for(file: Path, digest: str) -> Word | None:
    """Return what the person has said of the file as it is now; None if nothing."""
    try:
        kept = json.loads(_record(file).read_bytes())
        if kept["file"] == str(file) and kept["digest"] == digest and kept["word"] in ("yes", "no"):
            word: Word = kept["word"]
            return word
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never asked, or a record that is none: then the person is asked again
    return None


def keep_word(file: Path, digest: str, word: Word) -> None:
    """Remember a word. Raises `OSError`."""
    record = _record(file)
    make_private(record.parent)
    temporary = record.with_suffix(f".{os.getpid()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as out:
        json.dump({"file": str(file), "digest": digest, "word": word}, out)
    temporary.replace(record)


def forget_word(file: Path) -> None:
    """Forget what was said of a file."""
    _record(file).unlink(missing_ok=True)
