"""Calls that want the HTTP response rather than the SDK's types (`client.with_raw_response`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["is_raw", "without_raw_header"]

RAW_HEADERS = ("x-stainless-raw-response",)
"""The SDK marks calls through `with_raw_response` and `with_streaming_response` with this header."""


def is_raw(kwargs: Mapping[str, Any]) -> bool:
    """Tell whether this call wants the HTTP response rather than the SDK's types."""
    headers = kwargs.get("extra_headers") or {}
    return any(str(name).lower() in RAW_HEADERS for name in headers)


def without_raw_header(headers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the caller's own headers."""
    return {name: value for name, value in headers.items() if str(name).lower() not in RAW_HEADERS}
