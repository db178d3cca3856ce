"""A place of objects: named bytes below an fsspec URL, written whole, never seen in part."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ConfigError

from agentd_store.errors import StoreError
from agentd_store.file_systems import renewed_file_system, shared_file_system

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["ObjectPlace"]

EXCLUSIVE: Final = {
    "file": "a hard link",
    "local": "a hard link",
    "memory": "a lock of this process",
    "s3": "If-None-Match",
    "s3a": "If-None-Match",
    "gs": "ifGenerationMatch",
    "gcs": "ifGenerationMatch",
}
"""How an object is created only if there is none of its name, by protocol: what leases and the log stand on."""

MAX_BYTES: Final = (1 << 28) + (1 << 24)
"""Of an object: those of its content, and some for what is around it."""

_memory = threading.RLock()
"""fsspec keeps the objects of `memory://` in one dictionary of the process: to list it while a thread writes fails."""


class ObjectPlace:
    """The objects of a store, by names with slashes.

    :param url: such as `s3://bucket/agents`, `gs://bucket/agents`, `file:///srv/agents`, `memory://agents`.
    :param options: for the file system of fsspec (`storage_options`): key, secret, endpoint_url, ...
    :raises ConfigError: if the URL's protocol is unknown, or cannot create an object exclusively.
    """

    def __init__(self, url: str, options: Mapping[str, Any] | None = None) -> None:
        protocol, slashes, path = url.partition("://")
        if not slashes or not path.strip("/"):
            raise ConfigError(
                f"store {url!r}: must be a URL with a bucket or folder, such as 's3://bucket/agents' or 'file:///srv/agents'"
            )
        if protocol not in EXCLUSIVE:
            raise ConfigError(
                f"store {url!r}: {protocol!r} cannot be used, as it cannot create an object only if there is none; "
                f"use one of {', '.join(sorted(EXCLUSIVE))}"
            )
        if protocol in ("file", "local") and not path.startswith("/"):
            raise ConfigError(
                f"store {url!r}: its folder must be absolute, with three slashes: {f'{protocol}:///{path}'!r}"
            )
        self.url = url.rstrip("/")
        self._protocol = protocol
        self._options = dict(options or {})
        try:
            self._fs: AbstractFileSystem = shared_file_system(protocol, self._options)
        except ImportError as error:
            extra = "s3" if protocol.startswith("s3") else "gs"
            raise ConfigError(
                f"store {url!r}: {error}; install it: pip install 'agentd-store[{extra}]'"
            ) from error
        except (TypeError, ValueError) as error:
            raise ConfigError(f"store {url!r}: its options are refused: {error}") from error
        self._root: str = self._fs._strip_protocol(self.url)
        self._is_local = protocol in ("file", "local")

    def read(self, name: str, *, most: int = MAX_BYTES) -> bytes | None:
        """Return an object, or None if there is none.

        :raises StoreError: if it has more bytes than `most`, or is no object: a link, a pipe.
        """
        with self._told("read", name):
            try:
                path = self._path(name)
                if self._is_local:
                    data = _read_file(path, most + 1)
                else:
                    data = bytes(self._fs.cat_file(path, start=0, end=most + 1))
            except FileNotFoundError:
                return None
        if len(data) > most:
            raise StoreError(f"the object {name!r} is damaged: it has more than {most} bytes")
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write an object, in place of one that there is."""
        with self._told("write", name):
            if self._is_local:
                self._write_file(name, data, os.replace)
            else:
                self._fs.pipe_file(self._path(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object if there is none of that name; False if there is one, which stays as it is."""
        with self._told("create", name):
            if self._is_local:
                try:
                    self._write_file(name, data, os.link)
                    return True
                except FileExistsError:
                    return False
            try:
                self._fs.pipe_file(self._path(name), data, mode="create")
                return True
            except OSError as error:
                if not isinstance(error, FileExistsError) and not _is_failed_condition(error):
                    raise
                # The SDK may have sent it twice, and met its own first attempt: what is written has a nonce in it.
                return self.read(name) == data

    def has(self, name: str) -> bool:
        """Return whether there is an object of this name."""
        with self._told("look for", name):
            return bool(self._fs.exists(self._path(name)))

    def names(self, prefix: str) -> list[str]:
        """Return the names of all objects below a folder (`conversations/c1`), sorted."""
        with self._told("list", prefix):
            if self._is_local:
                found = _files_below(self._path(prefix))
            else:
                self._fs.invalidate_cache()
                found = self._fs.find(self._path(prefix))
            cut = len(self._root) + 1
            return sorted(path[cut:] for path in found if not path.endswith(_NEW))

    def remove(self, name: str) -> None:
        """Remove an object, if there is one."""
        with self._told("remove", name), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    @contextlib.contextmanager
    def left_as_it_was(self) -> Iterator[None]:
        """Remove the folders that objects meanwhile have brought, if these are gone again. (A bucket has none.)"""
        made: list[str] = []
        folder = self._root if self._is_local else ""
        while folder and not os.path.lexists(folder):
            made.append(folder)
            folder = os.path.dirname(folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # never made, or somebody else's by now
                for folder in made:
                    os.rmdir(folder)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _write_file(self, name: str, data: bytes, publish: Callable[[str, str], object]) -> None:
        path = self._path(name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        temporary = f"{path}.{secrets.token_hex(8)}{_NEW}"
        try:
            with open(temporary, "xb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            publish(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    @contextlib.contextmanager
    def _told(self, what: str, name: str) -> Iterator[None]:
        """Turn what a file system of fsspec raises into a `StoreError` that names the object and the next step."""
        try:
            with _memory if self._protocol == "memory" else contextlib.nullcontext():
                yield
        except (StoreError, ConfigError):
            raise
        except Exception as error:  # every provider's SDK has errors of its own
            if _is_of_access(error):  # whoever uses this place may go on when there are new ones
                with contextlib.suppress(Exception):  # what was refused is what is told
                    self._fs = renewed_file_system(self._fs, self._protocol, self._options)
            raise StoreError(
                f"the store {self.url!r} could not {what} {name!r}: {_reason(error)}; {_next_step(error)}",
                errno=getattr(error, "errno", None),
            ) from error


_NEW: Final = ".new"


def _read_file(path: str, most: int) -> bytes:
    """Return the beginning of a file. Whoever writes to the folder may have put anything there."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(path, "rb", opener=lambda path, _: os.open(path, flags)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        return file.read(most)


def _files_below(folder: str) -> list[str]:
    """Return the paths of all files below a folder.

    fsspec's `find` omits a folder that cannot be read (no permission, too many open files, an I/O error): to a
    collection, what is in it would be gone.
    """

    def told(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):  # there is none, or not any more
            raise error

    return [os.path.join(at, name) for at, _, names in os.walk(folder, onerror=told) for name in names]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _is_failed_condition(error: OSError) -> bool:
    """s3fs 2026.9 raises EINVAL for a condition that does not hold."""
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    code = str(response.get("Error", {}).get("Code"))
    # 409: two PUTs with the condition at the same moment, of which the other one won or is to be tried again
    return status in (409, 412) or code in ("PreconditionFailed", "412", "ConditionalRequestConflict")


def _begin_in_child() -> None:
    """A thread of the parent that a forked child comes from may have had the lock."""
    global _memory
    _memory = threading.RLock()


os.register_at_fork(after_in_child=_begin_in_child)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f"{text[:299]}…"


def _is_of_access(error: BaseException) -> bool:
    text = f"{type(error).__name__} {error}".lower()
    return isinstance(error, PermissionError) or any(w in text for w in ("credential", "token", "forbidden"))


_FULL: Final = ("quota", "no space", "entitytoolarge", "insufficientstorage", "insufficient storage")
_BUSY: Final = ("slowdown", "slow down", "reduce your request rate", "toomanyrequests", "throttl")


def _next_step(error: BaseException) -> str:
    text = f"{type(error).__name__} {error}".lower()
    if _is_of_access(error):
        return "check that the credentials are there, have not expired, and may read, write, remove and list below it"
    if isinstance(error, FileNotFoundError) or "nosuchbucket" in text or "bucket does not exist" in text:
        return "make the bucket or folder, or correct the URL"
    if any(word in text for word in _FULL) or "full" in re.findall("[a-z]+", text):
        return "make room in the store (agentd checkpoints --store URL --collect), or use another one"
    if any(word in text for word in _BUSY):
        return "its server has asked for fewer requests: try again later, or have fewer sessions at once"
    return "check that it can be reached from here; what is kept locally is not lost"
