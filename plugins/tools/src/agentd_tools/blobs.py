"""Binary data inside JSON: `Blob` as the tagged object `{"$blob": BASE64, "mime_type": ..., "uri": ...}`.

A dictionary that happens to have the key `$blob` comes as `$$blob`, one with `$$blob` as `$$$blob`, and so on: who
writes adds one `$` (`results`), who reads takes one away, so every value arrives as itself. The code in
the sandbox reads with `agentd_skills.sandbox.bridge`.
"""

from __future__ import annotations

import binascii
import json
import re
from typing import Any, Final

from agentd.protocols import ToolReply
from agentd.types import Blob

__all__ = ["SIGN", "decode_json", "reply_text"]

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


def reply_text(reply: ToolReply) -> str:
    """Return a tool's reply as the model reads it: text as it is, all else as JSON, binary data as a label,
    an error as `TYPE: MESSAGE`."""
    payload = reply.payload
    if reply.ok and payload[:1] not in (b'"', b"[", b"{"):
        return payload.decode()  # a number, true, false, null
    value = decode_json(payload)
    if not reply.ok:
        return f"{value['type']}: {value['message']}"
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()  # no provider takes lone surrogates
    if isinstance(value, Blob):
        return _label(value)
    return json.dumps(value, ensure_ascii=False, default=_label).encode("utf-8", "replace").decode()


def _label(blob: Blob) -> str:
    return f"[{', '.join(filter(None, [blob.mime_type, f'{len(blob)} bytes', blob.uri]))}]"
