"""Binary data inside JSON: `Blob` as the tagged object `{"$blob": BASE64, "mime_type": ..., "uri": ...}`.

A dictionary that happens to have the key `$blob` comes as `$$blob`, one with `$$blob` as `$$$blob`, and so on: who
writes adds one `$` (`agentd_tools.results`), who reads takes one away, so every value arrives as itself. The code in
the sandbox reads with `skills/sandbox/bridge.py`.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any, Final

from agentd.types import Blob

__all__ = ["SIGN", "decode_json"]

SIGN: Final = b'blob":'
"""Ends every key that matters, and is rare enough to look for nothing else: JSON without it has no tags."""

_ESCAPED: Final = re.compile(r"\$\$+blob").fullmatch


def decode_json(payload: bytes) -> Any:
    """Return a result as Python data, with `Blob`s where the tags stand."""
    return json.loads(payload, object_hook=_untagged) if SIGN in payload else json.loads(payload)


def _untagged(data: dict[str, Any]) -> Any:
    if isinstance(data.get("$blob"), str):
        return Blob(binascii.a2b_base64(data["$blob"]), str(data["mime_type"]), str(data["uri"]))
    if any(map(_ESCAPED, data)):
        return {k[1:] if _ESCAPED(k) else k: v for k, v in data.items()}
    return data
