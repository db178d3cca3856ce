"""One TLS context for all clients of a process.

To make one takes most of the time that makes a client, and half a MiB, which only a full garbage collection frees,
as the objects of the SDK refer to each other.
"""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from typing import Any, Final

__all__ = ["http_settings"]

FRESH_S: Final = 3600.0
"""How long one is used: a machine gets new certificates now and then, and a daemon runs for months."""


def http_settings(openai: Any, *, is_async: bool, wired: bool = False) -> dict[str, Any]:
    """Return what a client of the SDK is to be made with: an HTTP client as it makes its own, but for the context.

    Nothing, if the SDK stands on a library that gives no context.

    :param wired: with a wire for its streamed requests (`agentd_model_openai.wired`); needs the extra `wire`.
    """
    made = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
    library = next(cls.__module__ for cls in made.__mro__ if not cls.__module__.startswith("openai"))
    variables = map(os.environ.get, ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    context = _context(library.partition(".")[0], time.monotonic() // FRESH_S, *variables)
    if context is None:
        return {}
    if wired:
        from agentd_model_openai.wired import wired_client

        return {"http_client": wired_client(openai, context)}
    return {"http_client": made(verify=context)}


@lru_cache(maxsize=4)
def _context(library: str, hour: float, cert_file: str | None, cert_dir: str | None) -> Any:
    """The library's own default. It is made of what stands in these variables, so others give another one."""
    create = getattr(sys.modules.get(library), "create_ssl_context", None)
    return None if create is None else create()
