"""Arguments out of JSON, results as JSON: every JSON type as itself, richer Python types by rule, the rest refused.

Dataclasses, attrs, pydantic models, TypedDicts and mappings become objects; lists, tuples and sets arrays;
enums their value; dates, UUIDs, decimals and paths strings; bytes and `Blob`s an object of its own that becomes
bytes again in the code (`agentd_tools.blobs`). Tables become lists of records, pictures PNGs (`libraries`). Integers of
any size stay exact. NaN and infinities are written as Python's json writes and reads them: `NaN`, `Infinity`.
"""

from __future__ import annotations

import binascii
import json
import re
import secrets
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from agentd.errors import ToolError, ToolInputError
from agentd.types import Blob

from agentd_tools.blobs import SIGN
from agentd_tools.libraries import plain_value
from agentd_tools.schema import encode_hook

__all__ = ["AS_THEY_ARE", "MAX_MESSAGE_BYTES", "encode_result", "load_object", "refuse_constant"]

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024 - 1024
"""The largest arguments or result of a call, as JSON."""

AS_THEY_ARE: Final = frozenset({str, int, float, bool, type(None), Blob})
"""The types of values that go into JSON, or are written as a `Blob` is, without a closer look."""

_LARGE: Final = 16384
"""Bytes of arguments, from which on another reader is worth its while."""

_BYTES: Final = frozenset({bytes, bytearray, memoryview})
_WITHOUT_KEYS: Final = frozenset({str, int, bool, type(None)})
_ALLOWED: Final = (
    "allowed are str, int, float, bool, None, list, tuple, set, dict with str keys, dataclasses, attrs and "
    "pydantic objects, enums, datetime, UUID, Decimal, Path, Blob, bytes, tables of pandas, "
    "polars and pyarrow, and pictures of PIL and matplotlib"
)

# The tag of a blob until the keys of the value are escaped. Nobody outside learns it, so nobody can forge it.
_OWN: Final = f"{secrets.token_hex(8)}$blob"
_KEYS: Final = re.compile(rb'(?<=[{,])"(\$+blob|' + re.escape(_OWN.encode()) + rb')":')


def refuse_constant(word: str) -> None:
    """For `parse_constant`: Python reads NaN and infinities, which JSON does not have."""
    raise ValueError(f"{word} is no JSON")


_strict: Final = json.JSONDecoder(parse_constant=refuse_constant)


def load_object(name: str, data: bytes) -> dict[str, Any]:
    """Decode a call's arguments, which must be a JSON object; raises `ToolInputError`."""
    try:
        try:
            given = _large(data) if len(data) > _LARGE else _strict.decode(data.decode())
        except ValueError:  # in UTF-16, say; else this says what is wrong
            given = json.loads(data, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ToolInputError(f"{name}(): the arguments are no JSON that can be read: {error}") from None
    if not isinstance(given, dict):
        raise ToolInputError(f"{name}(): the arguments must be a JSON object, got {type(given).__name__}")
    return given


def _large(data: bytes) -> Any:
    """The same values in a quarter of the time; `ValueError` also for what only the standard library reads."""
    import msgspec

    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None


def encode_result(value: Any, name: str) -> bytes:
    """Return `value` as JSON. `name` is the tool's, for the message.

    :raises ToolError: if JSON cannot hold the value, or a reply the JSON; names the tool, the type and what is allowed.
    """
    kind = type(value)
    try:
        if kind not in AS_THEY_ARE and not _is_plain(value):
            value = _with_blobs(value)
        payload = _encoder()(value)
    except UnicodeEncodeError:
        payload = _by_stdlib(value)  # lone surrogates: only an escape can carry them
    except RecursionError:
        raise ToolError(f"{name}() returned a value that contains itself or is nested too deep") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ToolError(f"{name}() returned what JSON cannot hold: {error}; {_ALLOWED}") from None
    if kind not in _WITHOUT_KEYS:
        if b"null" in payload:
            payload = _by_stdlib(value)  # msgspec writes NaN and infinities as null
        payload = _escape_keys(payload)
    if len(payload) > MAX_MESSAGE_BYTES:
        raise ToolError(
            f"{name}() returned {len(payload)} bytes of JSON; at most {MAX_MESSAGE_BYTES} fit into a reply; "
            "return less, or page by page"
        )
    return payload


@cache
def _encoder() -> Callable[[Any], bytes]:
    import msgspec

    return msgspec.json.Encoder(enc_hook=_plain).encode


def _is_plain(value: Any) -> bool:
    """Tell whether nothing but JSON's own types and `Blob`s is in a result, as in most."""
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not list and kind is not tuple:
        return False
    for item in value:  # noqa: SIM110  (all() of a generator takes half as long again)
        if type(item) not in AS_THEY_ARE and not _is_plain(item):
            return False
    return True


def _with_blobs(value: Any) -> Any:
    """Return a result with a `Blob` wherever bytes stand: JSON writers make base64 text of them by themselves."""
    kind = type(value)
    if kind in AS_THEY_ARE:
        return value
    if kind in _BYTES:
        return Blob(bytes(value))
    if kind in (list, tuple):
        return [_with_blobs(item) for item in value]
    if kind is dict:
        return {key: _with_blobs(item) for key, item in value.items()}
    if hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__"):
        return _of_fields(value, kind)
    return value


def _of_fields(value: Any, kind: type) -> Any:
    """Return the fields of a dataclass or an attrs class as a dict if one of them has bytes in it."""
    fields: Any = getattr(kind, "__dataclass_fields__", None) or (a.name for a in kind.__attrs_attrs__)  # type: ignore[attr-defined]
    before = {name: getattr(value, name) for name in fields}
    after = {name: _with_blobs(item) for name, item in before.items()}
    return after if any(after[name] is not before[name] for name in before) else value


def _plain(value: Any) -> Any:
    if not isinstance(value, Blob):
        known = plain_value(value)
        return encode_hook(value) if known is None else _with_blobs(known)
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
