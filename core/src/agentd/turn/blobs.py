"""Binary data inside JSON: `Blob` as the tagged object `{"$blob": BASE64, "mime_type": ..., "uri": ...}`.

A dictionary that happens to have the key `$blob` goes as `$$blob`, one with `$$blob` as `$$$blob`, and so
on: each end adds or takes away one `$`, so every value arrives as itself. `skills/sandbox/bridge.py` has the
other end for the code in the sandbox.
"""

from __future__ import annotations

import binascii
import json
import re
import secrets
from typing import Any, Final

from agentd.types import Blob

__all__ = ["SIGN", "decode_json", "escape_keys", "tagged"]

SIGN: Final = b'blob":'
"""Ends every key that matters, and is rare enough to look for nothing else: JSON without it has no tags."""

# Our own tag until the keys of the value are escaped. Nobody outside learns it, so nobody can forge it.
_OWN: Final = f"{secrets.token_hex(8)}$blob"
_KEYS: Final = re.compile(rb'(?<=[{,])"(\$+blob|' + re.escape(_OWN.encode()) + rb')":')

_ESCAPED: Final = re.compile(r"\$\$+blob").fullmatch


def tagged(blob: Blob) -> dict[str, str]:
    """Return what stands for a blob while a value is encoded; `escape_keys` makes it final."""
    data = binascii.b2a_base64(blob, newline=False).decode("ascii")
    return {_OWN: data, "mime_type": blob.mime_type, "uri": blob.uri}


def escape_keys(payload: bytes) -> bytes:
    """Give our tags their final name, and every `$blob` key of the value itself one `$` more.

    :param payload: JSON without white space between its tokens. In such text a key follows `{` or `,`, and
        a quote inside a string has a backslash in front: so only keys match.
    """
    return _KEYS.sub(_escaped, payload) if SIGN in payload else payload


def _escaped(match: re.Match[bytes]) -> bytes:
    return b'"$' + match[1] + b'":' if match[1].startswith(b"$") else b'"$blob":'


def decode_json(payload: bytes) -> Any:
    """Return a result as Python data, with `Blob`s where the tags stand."""
    return json.loads(payload, object_hook=_untagged) if SIGN in payload else json.loads(payload)


def _untagged(data: dict[str, Any]) -> Any:
    if isinstance(data.get("$blob"), str):
        return Blob(binascii.a2b_base64(data["$blob"]), str(data["mime_type"]), str(data["uri"]))
    if any(map(_ESCAPED, data)):
        return {k[1:] if _ESCAPED(k) else k: v for k, v in data.items()}
    return data
