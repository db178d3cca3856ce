"""Whose server an address is."""

from __future__ import annotations

__all__ = ["is_openais"]


def is_openais(base_url: str) -> bool:
    """Tell whether this address is OpenAI's own."""
    from urllib.parse import urlsplit

    host = urlsplit(base_url).hostname or ""
    return host == "api.openai.com" or host.endswith(".api.openai.com")  # eu.api.openai.com, ...
