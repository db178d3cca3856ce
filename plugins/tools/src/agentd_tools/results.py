"""Arguments out of JSON, results as JSON: every JSON type as itself, richer Python types by rule, the rest refused.

Dataclasses, attrs, pydantic models, TypedDicts and mappings become objects; lists, tuples and sets arrays;
enums their value; dates, UUIDs, decimals and paths strings; bytes and `Blob`s an object of its own that becomes
bytes again in the code (`agentd.turn.blobs`). Tables become lists of records, pictures PNGs (`libraries`). Integers of
any size stay exact. NaN and infinities are written as Python's json writes and reads them: `NaN`, `Infinity`.
"""

from __future__ import annotations

import binascii
import json
import re
import secrets
from typing import Any, Final

from agentd.errors import ToolError, ToolInputError
from agentd.turn.blobs import SIGN
from agentd.types import Blob

from agentd_tools.libraries import plain_value, with_blobs
from agentd_tools.schema import encode_hook

__all__ = ["MAX_MESSAGE_BYTES", "encode_result", "load_object"]

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024 - 1024
"""The largest arguments or result of a call, as JSON."""

_ALLOWED: Final = (
    "allowed are str, int, float, bool, None, list, tuple, set, dict with str keys, dataclasses, attrs and "
    "pydantic objects, enums, datetime, UUID, Decimal, Path, Blob, bytes, tables of pandas, "
    "polars and pyarrow, and pictures of PIL and matplotlib"
)

# The tag of a blob until the keys of the value are escaped. Nobody outside learns it, so nobody can forge it.
_OWN: Final = f"{secrets.token_hex(8)}$blob"
_KEYS: Final = re.compile(rb'(?<=[{,])"(\$+blob|' + re.escape(_OWN.encode()) + rb')":')


def load_object(name: str, data: bytes) -> dict[str, Any]:
    """Decode a call's arguments, which must be a JSON object; raises `ToolInputError`."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no JSON")

    try:
        given = json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ToolInputError(f"{name}(): the arguments are no JSON that can be read: {error}") from None
    if not isinstance(given, dict):
        raise ToolInputError(f"{name}(): the arguments must be a JSON object, got {type(given).__name__}")
    return given


def encode_result(value: Any, name: str) -> bytes:
    """Return `value` as JSON. `name` is the tool's, for the message.

    :raises ToolError: if JSON cannot hold the value; names the tool, the type and what is allowed.
    """
    import msgspec

    try:
        value = with_blobs(value)
        payload = msgspec.json.encode(value, enc_hook=_plain)
    except UnicodeEncodeError:
        return _escape_keys(_by_stdlib(value))  # lone surrogates: only an escape can carry them
    except RecursionError:
        raise ToolError(f"{name}() returned a value that contains itself or is nested too deep") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ToolError(f"{name}() returned what JSON cannot hold: {error}; {_ALLOWED}") from None
    if type(value) is str:
        return payload
    if value is not None and b"null" in payload:
        payload = _by_stdlib(value)  # msgspec writes NaN and infinities as null
    return _escape_keys(payload)


def _plain(value: Any) -> Any:
    if not isinstance(value, Blob):
        known = plain_value(value)
        return encode_hook(value) if known is None else known
    data = binascii.b2a_base64(value, newline=False).decode("ascii")
    return {_OWN: data, "mime_type": value.mime_type, "uri": value.uri}


def _by_stdlib(value: Any) -> bytes:
    import msgspec

    plain = msgspec.to_builtins(value, enc_hook=_plain, str_keys=True)
    return json.dumps(plain, separators=(",", ":")).encode()


def _escape_keys(payload: bytes) -> bytes:
    """Give our tags their final name, and every `$blob` key of the value itself one `$` more.

    :param payload: JSON without white space between its tokens. In such text a key follows `{` or `,`, and
        a quote inside a string has a backslash in front: so only keys match.
    """
    return _KEYS.sub(_escaped, payload) if SIGN in payload else payload


def _escaped(match: re.Match[bytes]) -> bytes:
    return b'"$' + match[1] + b'":' if match[1].startswith(b"$") else b'"$blob":'
