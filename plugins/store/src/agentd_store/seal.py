"""How an object is written: compressed, with a checksum, encrypted if there is a key.

    b"agentdR1" | flags, 1 byte | body          flags: 1 = encrypted

A body is zstd's frame of: BLAKE3 of the content, 32 bytes | content. Encrypted, it is a nonce of 12 bytes and that
frame by AES-256-GCM, with the object's name and the flags as associated data: no object can stand in another's place.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import Final

import blake3
from agentd.errors import ConfigError

from agentd_store.errors import StoreError

__all__ = ["ObjectSeal", "key_of"]

MAGIC: Final = b"agentdR1"
_DIGEST: Final = 32
_NONCE: Final = 12
_LEVEL: Final = 1
MAX_OBJECT: Final = 1 << 28  # bytes of a content: a damaged header cannot ask for more


def key_of(text: str) -> bytes:
    """Return the 32 bytes of a key that is given as base64 or as 64 hexadecimal digits.

    :raises ConfigError: if it is neither; the text is not shown.
    """
    given = text.strip()
    try:
        key = bytes.fromhex(given) if len(given) == 64 else base64.b64decode(given, validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != 32:
        raise ConfigError(
            "store key: must be 32 bytes as base64 or 64 hexadecimal digits; make one with "
            "`python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'`"
        )
    return key


class ObjectSeal:
    """Closes and opens the objects of one store.

    :param key: 32 bytes, or None: then objects are not encrypted.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._cipher = None
        if key is not None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            self._cipher = AESGCM(key)

    @property
    def is_encrypting(self) -> bool:
        return self._cipher is not None

    def name_of(self, content: bytes | memoryview) -> str:
        """Return the name of a content: a digest, which without the key tells nothing of what it is of."""
        if self._key is None:
            return blake3.blake3(content).hexdigest(16)
        return blake3.blake3(content, key=blake3.blake3(self._key).digest()).hexdigest(16)

    def close(self, name: str, content: bytes | memoryview) -> bytes:
        """Return the object of this name for a content."""
        import zstandard

        content = bytes(content)
        frame = zstandard.ZstdCompressor(level=_LEVEL).compress(blake3.blake3(content).digest() + content)
        if self._cipher is None:
            return MAGIC + b"\0" + frame
        nonce = os.urandom(_NONCE)
        return MAGIC + b"\1" + nonce + self._cipher.encrypt(nonce, frame, MAGIC + b"\1" + name.encode())

    def open(self, name: str, data: bytes, *, most: int = MAX_OBJECT) -> bytes:
        """Return the content of an object.

        :param most: bytes that the content may have.
        :raises StoreError: if it is damaged, larger, another one than its name says, or encrypted with another key.
        """
        import zstandard

        if data[: len(MAGIC)] != MAGIC or len(data) <= len(MAGIC):
            raise StoreError(f"the object {name!r} is damaged: it does not begin as one of agentd's does")
        is_encrypted, body = data[len(MAGIC)] == 1, data[len(MAGIC) + 1 :]
        if is_encrypted != self.is_encrypting:
            raise StoreError(
                f"the object {name!r} is {'encrypted: give the' if is_encrypted else 'not encrypted: give no'} key"
            )
        if self._cipher is not None:
            from cryptography.exceptions import InvalidTag

            try:
                body = self._cipher.decrypt(body[:_NONCE], body[_NONCE:], MAGIC + b"\1" + name.encode())
            except (InvalidTag, ValueError):
                raise StoreError(
                    f"the object {name!r} cannot be decrypted: it is damaged, or was encrypted with another key"
                ) from None
        try:
            # One that does not say its size would be given the room of the largest.
            if not 0 <= zstandard.frame_content_size(body) <= most + _DIGEST:
                raise StoreError(
                    f"the object {name!r} is damaged: it says that it has more than {most} bytes"
                )
            plain = zstandard.ZstdDecompressor().decompress(body)
        except zstandard.ZstdError as error:
            raise StoreError(f"the object {name!r} is damaged: {error}") from None
        content = plain[_DIGEST:]
        if blake3.blake3(content).digest() != plain[:_DIGEST]:
            raise StoreError(f"the object {name!r} is damaged: its content has another hash")
        return content
