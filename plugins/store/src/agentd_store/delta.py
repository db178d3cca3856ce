"""What is new in one version of some bytes compared with another one, by zstd with the other one as its dictionary."""

from __future__ import annotations

from typing import Any

from agentd_store.errors import StoreError

__all__ = ["MAX_DELTA", "apply_delta", "make_delta"]

LEVEL = 3
MAX_BYTES = 1 << 28
MAX_DELTA = 1 << 25
"""Bytes of one that is kept: what is longer is written whole."""


def make_delta(base: bytes, new: bytes) -> bytes:
    """Return what makes `new` of `base`."""
    import zstandard

    log = max(20, min(30, (len(base) + len(new)).bit_length()))
    parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, window_log=log, enable_ldm=True)
    return zstandard.ZstdCompressor(dict_data=_dictionary(base), compression_params=parameters).compress(new)


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """Return `new` of `make_delta`.

    :raises StoreError: if the delta is damaged, or was made of another base.
    """
    import zstandard

    try:
        if not 0 <= zstandard.frame_content_size(delta) <= MAX_BYTES:
            raise StoreError("a difference in the store is damaged: its size is impossible")
        decompressor = zstandard.ZstdDecompressor(dict_data=_dictionary(base), max_window_size=1 << 31)
        return decompressor.decompress(delta)
    except zstandard.ZstdError as error:
        raise StoreError(f"a difference in the store cannot be read: {error}") from None


def _dictionary(base: bytes) -> Any:
    import zstandard

    return zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
