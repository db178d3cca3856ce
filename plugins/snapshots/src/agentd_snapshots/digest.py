"""The hash of everything in a store: BLAKE3 with 32 bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blake3 import blake3

__all__ = ["digest_of", "hasher"]


def hasher() -> Callable[..., blake3]:
    """Return the class `blake3`; it is imported only when a store is used."""
    from blake3 import blake3

    return blake3


def digest_of(data: bytes | memoryview) -> bytes:
    """Return the digest of some bytes."""
    return hasher()(data).digest()
