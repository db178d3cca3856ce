"""Calls that want the HTTP response rather than the SDK's types (`client.with_raw_response`)."""

from __future__ import annotations

from typing import Any

__all__ = ["is_raw"]

RAW_HEADERS = ("x-stainless-raw-response",)


def is_raw(kwargs: dict[str, Any]) -> bool:
    """Tell whether this call wants the HTTP response rather than the SDK's types."""
    headers = kwargs.get("extra_headers") or {}
    return any(str(name).lower() in RAW_HEADERS for name in headers)
