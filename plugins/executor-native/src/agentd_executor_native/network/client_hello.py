"""The server's name in the first message of a TLS connection (RFC 8446, 4.1.2 and 5.1; RFC 6066, 3)."""

from __future__ import annotations

__all__ = ["MAX_HELLO_BYTES", "MAX_RECORD_BYTES", "RECORD_HEADER_BYTES", "TlsSyntaxError", "hello_length"]
__all__ += ["record_length", "server_name"]

RECORD_HEADER_BYTES = 5
MAX_RECORD_BYTES = 1 << 14
MAX_HELLO_BYTES = 1 << 16
"""Of all the records together; those of browsers with post-quantum keys have some 2,000 bytes."""

_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0


class TlsSyntaxError(ValueError):
    """What should have been a ClientHello is not one."""


class _ByteCursor:
    """Reads vectors, each with its length before it."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise TlsSyntaxError("a length that goes beyond the end")
        taken, self._at = self._data[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))


def record_length(header: bytes) -> int:
    """Return how many bytes follow the header of a handshake record. :raises TlsSyntaxError: if it is not one."""
    length = int.from_bytes(header[3:5], "big")
    if header[0] != _HANDSHAKE or header[1] != 3 or not 0 < length <= MAX_RECORD_BYTES:
        raise TlsSyntaxError("not a TLS handshake")
    return length


def hello_length(start: bytes) -> int:
    """Return how many bytes a ClientHello has, from the first four of it. :raises TlsSyntaxError: if it is not one."""
    length = 4 + int.from_bytes(start[1:4], "big")
    if start[0] != _CLIENT_HELLO or length > MAX_HELLO_BYTES:
        raise TlsSyntaxError("not a ClientHello")
    return length


def server_name(hello: bytes) -> str | None:
    """Return the name that a ClientHello (with its four bytes of header) asks for, or None if it names none.

    Of a hello with encrypted parts (ECH), it is the outer one: the server that the connection goes to. Whatever
    could be read in two ways is refused: two lists of names, two names, bytes left over.

    :raises TlsSyntaxError: if it is not well-formed.
    """
    message = _ByteCursor(hello)
    message.take(1)  # its type
    cursor = _ByteCursor(message.vector(3))
    if not message.at_end:
        raise TlsSyntaxError("bytes behind the message")
    cursor.take(2 + 32)  # version, random
    for size in (1, 2, 1):  # session id, cipher suites, compression methods
        cursor.vector(size)
    if cursor.at_end:
        return None
    extensions = _ByteCursor(cursor.vector(2))
    if not cursor.at_end:
        raise TlsSyntaxError("bytes behind the extensions")
    names: list[str] = []
    while not extensions.at_end:
        kind, data = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            names.append(_only_name(data))
    if len(names) > 1:
        raise TlsSyntaxError("two lists of server names")
    return names[0] if names else None


def _only_name(data: bytes) -> str:
    outer = _ByteCursor(data)
    entries = _ByteCursor(outer.vector(2))
    kind, name = entries.number(1), entries.vector(2)
    if kind != _HOST_NAME or not entries.at_end or not outer.at_end or not name.isascii():
        raise TlsSyntaxError("not exactly one server name")
    return name.decode("ascii")
