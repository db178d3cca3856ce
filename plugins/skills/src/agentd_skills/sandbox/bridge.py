"""Calls the host's tools from code in the sandbox. Standard library only; made for Python 3.8 and later.

The fast way is a private channel for each thread: one end of a socket pair, sent over the inherited broker
socket (`AGENTD_TOOLS_FD`). Where that descriptor is gone (a child started with closed descriptors), calls
go over HTTP (`AGENTD_TOOLS_URL`, `AGENTD_TOOLS_TOKEN`, and `AGENTD_TOOLS_SOCKET` for a Unix socket).
Written by agentd; changes are overwritten.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import threading

from ._channel import MAX_MESSAGE_BYTES, NO_SIGNAL, CallChannel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Blob",
    "ToolDeniedError",
    "ToolError",
    "ToolInputError",
    "ToolTimeoutError",
    "UnknownToolError",
    "call",
    "call_given",
]

_PARTS = 500  # the kernel takes no more than 1,024 at once
_LONG = 1024  # characters, from which on a text is escaped as bytes
_ESCAPES = ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\r", b"\\r"), (b"\t", b"\\t"))
_CONTROLS = [code for code in range(32) if code not in (9, 10, 13)]


class ToolError(Exception):
    """A tool call failed; the message says why, and `data` is what the tool says beside it, if anything."""

    data: Any = None


class ToolInputError(ToolError, TypeError):
    """The arguments do not fit the tool's parameters; the tool was not called."""


class ToolDeniedError(ToolError, PermissionError):
    """The session's policy does not allow the call; the tool was not called."""


class ToolTimeoutError(ToolError, TimeoutError):
    """The tool did not answer in time."""


class UnknownToolError(ToolError, LookupError):
    """No tool has this name."""


_ERRORS = {
    c.__name__: c for c in (ToolDeniedError, ToolError, ToolInputError, ToolTimeoutError, UnknownToolError)
}


class Blob(bytes):
    """Binary data in a tool's result: bytes that know their `mime_type` and, if they have one, `uri`."""

    mime_type = "application/octet-stream"
    uri = ""

    def save(self, path: Any) -> str:
        """Write the bytes to a file and return its path."""
        with open(path, "wb") as file:
            file.write(self)
        return str(os.fspath(path))

    def __repr__(self) -> str:
        return f"<Blob {self.mime_type}, {len(self)} bytes>"

    __str__ = __repr__  # bytes' own would warn, and print megabytes


def call(name: str, arguments: dict[str, Any]) -> Any:
    """Call a tool with a dictionary of arguments; return its result or raise ToolError."""
    channel: _Channel | _Http | None = _state.__dict__.get("channel")
    if channel is None or channel.pid != os.getpid() or (channel.block and channel.block != _block()):
        channel = _open_channel()
    return channel.call(name, _encoded(name, arguments))


def call_given(name: str, arguments: dict[str, Any]) -> Any:
    """The same without the arguments that are `...`."""
    return call(name, {k: v for k, v in arguments.items() if v is not ...})


def _plain(value: Any) -> Any:
    """Make JSON of what json itself refuses: dates, paths, bytes, sets, enums, dataclasses and the like."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "__dataclass_fields__"):
        return {n: getattr(value, n) for n in value.__dataclass_fields__}
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        import base64

        return base64.b64encode(value).decode("ascii")
    if isinstance(value, (set, frozenset)) or hasattr(value, "__next__"):
        return list(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    if type(value).__module__ in ("uuid", "decimal", "_decimal"):
        return str(value)
    if hasattr(value, "_value_"):
        return value._value_
    raise TypeError(type(value).__name__)


def _text(value: str) -> bytes | None:
    """Escape a long text for JSON; None if that takes more. Searching bytes is many times faster than looking at each
    character."""
    try:
        data = value.encode("utf-8")
    except UnicodeEncodeError:  # lone surrogates: only an escape can carry them
        return None
    for plain, escaped in _ESCAPES:
        if plain in data:
            data = data.replace(plain, escaped)
    return None if any(map(data.__contains__, _CONTROLS)) else data


def _in_parts(arguments: dict[str, Any]) -> list[bytes]:
    parts = []
    for name, value in arguments.items():
        text = _text(value) if type(value) is str and len(value) >= _LONG else None
        parts += [b",", _encode(name).encode("ascii"), b":"]
        parts += [_encode(value).encode("ascii")] if text is None else [b'"', text, b'"']
    parts = [b"{", *parts[1:], b"}"]
    return parts if len(parts) < _PARTS else [b"".join(parts)]


_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":"), default=_plain).encode


def _quick_encoder() -> Any:
    """Return what `_encode` makes anew for each value, which takes longer than the writing of a small one.

    It has no memory of what it is in the middle of, as threads share it: a value that contains itself ends in a
    RecursionError here.
    """
    make: Any = getattr(json.encoder, "c_make_encoder", None)
    try:
        write = make(None, _plain, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False)
        if "".join(write({"a": [1, "b"]}, 0)) == '{"a":[1,"b"]}':
            return lambda value: "".join(write(value, 0))
    except TypeError:  # another Python's json
        pass
    return _encode


_encode_quickly = _quick_encoder()
_read = json.JSONDecoder().raw_decode


def _encoded(name: str, arguments: dict[str, Any]) -> bytes | list[bytes]:
    """Return the arguments as JSON; in parts if they hold a long text, for joining would copy that once more."""
    try:
        for value in arguments.values():
            if type(value) is str and len(value) >= _LONG:
                parts = _in_parts(arguments)
                break
        else:
            try:
                parts = [_encode_quickly(arguments).encode("ascii")]
            except RecursionError:  # this one tells a value that contains itself from one that is deep
                parts = [_encode(arguments).encode("ascii")]
    except TypeError as error:
        raise ToolInputError(f"{name}(): an argument is of a type that JSON cannot hold: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ToolInputError(f"{name}(): an argument cannot be written as JSON: {error}") from None
    size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
    if size > MAX_MESSAGE_BYTES - 1024:
        raise ToolInputError(
            f"{name}(): the arguments are {size} bytes of JSON; at most {MAX_MESSAGE_BYTES - 1024} fit; "
            "write them to a file and pass its path, or call several times"
        )
    return parts if len(parts) > 1 else parts[0]


def _failure(reply: dict[str, Any]) -> ToolError:
    kind = _ERRORS.get(str(reply.get("type")), ToolError)
    failure = kind(str(reply.get("message", "the tool failed without a message")))
    failure.data = reply.get("data")
    return failure


def _decoded(data: bytes | bytearray) -> Any:
    """Read a result. Binary data is the object {"$blob": BASE64, "mime_type": ..., "uri": ...}; a key that
    looks like that tag by chance has one more dollar sign."""
    if data[:1] == b'"' and data[-1:] == b'"' and b"\\" not in data:
        return str(memoryview(data)[1:-1], "utf-8")  # a text as it is
    if b"$" in data and b'blob":' in data:  # a single byte is found much faster
        return json.loads(data, object_hook=_untagged)
    try:
        text = str(data, "utf-8")
        value, end = _read(text)  # json.loads would look for the encoding, and for white space around
        if end == len(text):
            return value
    except ValueError:
        pass
    return json.loads(data)


def _untagged(value: dict[str, Any]) -> Any:
    if isinstance(value.get("$blob"), str):
        import base64

        blob = Blob(base64.b64decode(value["$blob"]))
        blob.mime_type, blob.uri = str(value.get("mime_type", Blob.mime_type)), str(value.get("uri", ""))
        return blob
    if any(key.endswith("$$blob") for key in value):
        return {k[1:] if k.endswith("$$blob") and not k[:-4].strip("$") else k: v for k, v in value.items()}
    return value


# --- the fast way --------------------------------------------------------------------------------


class _Channel(CallChannel):
    """A private connection to the host. One thread uses it; a fork makes a new one. With `block`, it ends with that."""

    def __init__(self, sock: socket.socket, block: str) -> None:
        super().__init__(sock)
        self.pid = os.getpid()
        self.block = block

    def call(self, name: str, data: bytes | list[bytes]) -> Any:
        try:
            failed, reply = self.ask(name.encode("utf-8", "surrogatepass"), data)
        except BaseException as error:
            # Half a message may be under way (Ctrl-C, too): nothing that follows would fit.
            _state.channel = None
            if not isinstance(error, (OSError, EOFError)):
                raise
            raise ToolError(f"{name}(): the connection to the host is lost: {error}") from None
        if failed:
            raise _failure(json.loads(reply))
        return _decoded(reply)


_state = threading.local()


def _open_channel() -> _Channel | _Http:
    """Make this thread's connection: a channel through the broker, or HTTP."""
    block = _block() if _runs_kept_block() else ""
    sock = _ask_broker(b"M" if block else b"C")
    channel: _Channel | _Http = _Http() if sock is None else _Channel(sock, block)
    _state.channel = channel
    return channel


def _block() -> str:
    """Return what tells this block from others of a kept interpreter."""
    return os.environ.get("AGENTD_TOOLS_URL", "")


def _runs_kept_block() -> bool:
    """Tell whether this is the thread in which a kept interpreter runs its blocks: it calls nothing between them."""
    is_main = threading.current_thread() is threading.main_thread()
    return is_main and os.environ.get("AGENTD_TOOLS_MAIN") == str(os.getpid())


def _ask_broker(message: bytes) -> socket.socket | None:
    """Return our end of a new channel, or None where the broker is out of reach."""
    try:
        number = int(os.environ["AGENTD_TOOLS_FD"])
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        broker = socket.socket(fileno=number)
    except (KeyError, ValueError, OSError):
        return None
    ours = None
    try:
        # A child that lost the descriptor may have opened something else under its number.
        if broker.family != socket.AF_UNIX or broker.type not in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM):
            return None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", theirs.fileno()))]
            broker.sendmsg([message], rights, NO_SIGNAL)
    except OSError as error:
        if ours is not None:
            ours.close()
        if "AGENTD_TOOLS_URL" in os.environ:
            return None
        raise ToolError(f"the tools cannot be reached: {error}; the session has ended") from None
    finally:
        broker.detach()  # the descriptor belongs to the whole process
    return ours


# --- HTTP ------------------------------------------------------------------------------------------


class _Http:
    """Calls over HTTP, a connection for each call."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.block = ""
        self.url = os.environ.get("AGENTD_TOOLS_URL", "")
        self.token = os.environ.get("AGENTD_TOOLS_TOKEN", "")
        self.path = os.environ.get("AGENTD_TOOLS_SOCKET", "")

    def call(self, name: str, data: bytes | list[bytes]) -> Any:
        import http.client
        from urllib.parse import quote, urlsplit

        if not self.url:
            _state.channel = None
            raise ToolError(
                f"{name}(): no tools can be reached from here: AGENTD_TOOLS_FD and AGENTD_TOOLS_URL are not set; "
                "run this inside an agentd session"
            )
        address = urlsplit(self.url)
        connection = http.client.HTTPConnection(address.hostname or "localhost", address.port)
        try:
            if self.path:
                connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.sock.connect(self.path)
            target = f"{address.path.rstrip('/')}/call/{quote(name, safe='', errors='surrogatepass')}"
            headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
            body = data if isinstance(data, bytes) else b"".join(data)
            connection.request("POST", target, body, headers)
            response = connection.getresponse()
            status, reply = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise ToolError(f"{name}(): the tools cannot be reached over HTTP: {error!r}") from None
        finally:
            connection.close()
        return _http_result(name, status, reply)


def _http_result(name: str, status: int, body: bytes) -> Any:
    try:
        data = _decoded(body)
    except ValueError:
        data = None
        if status == 200:
            raise ToolError(f"{name}(): the reply over HTTP is no JSON") from None
    if status == 200:
        return data
    error = data.get("error") if isinstance(data, dict) else None
    raise _failure(error if isinstance(error, dict) else {"message": f"{name}(): HTTP status {status}"})
