"""The border: what a runner's frames must be before the host acts on them.

A runner shares its place with hostile code, which may have taken it over. So its frames are checked here, by kind,
and nowhere else: how they are built, how deeply they are nested, and of which type and size their parts are. What a
healthy runner never sends is a `FrameError`, and its connection ends that runner. The sizes of whole frames stand with
the frame reader (`inside.frames.TO_HOST`), so that what is too long is never received.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from agentd.types import OutputStream

from agentd_runner.inside import frames
from agentd_runner.inside.frames import FrameError

__all__ = [
    "ANSWERS",
    "join_outputs",
    "read_call",
    "read_dropped",
    "read_exit",
    "read_fatal",
    "read_job",
    "read_ready",
    "refuse_job",
]

Frame = tuple[int, int, bytes]

MAX_ENTRIES: Final = 32  # of an object
MAX_SKELETON: Final = 64 * 1024  # bytes of an object that are not in its strings
LONGEST_S: Final = 1e9
MANY: Final = 32  # frames in one read, from which on it pays to join outputs

# Both alternatives also end at the payload's end, so a string without an end costs no second look.
_STRINGS: Final = re.compile(rb'"(?:[^"\\]++|\\(?:.|\Z))*+(?:"|\Z)', re.DOTALL)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_OUTPUT: Final = (frames.STDOUT, frames.STDERR)


def read_ready(payload: bytes) -> dict[str, Any]:
    """Return what READY carries. Another version or release is named: it may be built in another way."""
    ready = _flat_object(payload)
    if ready.get("version") != frames.VERSION:
        raise FrameError(f"it speaks version {_shown(ready.get('version'))}, the host {frames.VERSION}")
    if ready.get("release") != frames.RELEASE:
        raise FrameError(
            f"it is of agentd-runner {_shown(ready.get('release')).strip(chr(39))}, the host of {frames.RELEASE}"
        )
    _check(ready, {"pid": _is_count, "python": _is_text, "bash": _is_text, "subreaper": _is_bool}, "READY")
    return ready


def read_exit(payload: bytes) -> dict[str, Any]:
    """Return what EXIT carries: the fields of an `ActionResult`, `channels` and `left_out`. Texts are valid Unicode."""
    usual = _USUAL_EXIT.fullmatch(payload)
    if usual is not None:  # nearly always; what does not look so is looked at in full
        status, exit_code, wall_s, cpu_s, memory, message = usual.groups()
        return {
            "status": status.decode(),
            "exit_code": int(exit_code),
            "wall_s": float(wall_s),
            "cpu_s": float(cpu_s),
            "peak_memory_bytes": int(memory),
            "message": message.decode(),
        }
    result = _flat_object(payload)
    optional = {name: shape for name, shape in _EXIT.items() if name in result or name in _ALWAYS}
    _check(result, optional, "EXIT")
    if unknown := result.keys() - _EXIT.keys():
        raise FrameError(f"EXIT with the unknown field {_shown(min(unknown))}")
    for name in ("message", "left_out"):
        if name in result:
            result[name] = valid_text(result[name])
    return result


def read_fatal(payload: bytes) -> str:
    """Return why the runner ends."""
    fatal = _flat_object(payload)
    _check(fatal, {"message": _is_text}, "FATAL")
    return valid_text(fatal["message"])


def read_state(payload: bytes) -> dict[str, Any]:
    """Return what SHELL carries: a shell's state, or `error`.

    Lone surrogates stay in a state: they stand for bytes that are no UTF-8, which must come back as they were, and
    nobody reads it but the next runner.
    """
    state = _flat_object(payload, lists=True)
    if "error" in state:
        _check(state, {"error": _is_text}, "SHELL")
        return {"error": valid_text(state["error"])}
    _check(state, {"workspace": _is_text, "cwd": _is_text, "source": _is_text_or_none}, "SHELL")
    _check(state, dict.fromkeys(state, _is_part_of_state), "SHELL")
    return state


def read_imports(payload: bytes) -> dict[str, Any]:
    """Return what IMPORTS carries: `left_out`, as in EXIT."""
    told = _flat_object(payload)
    _check(told, {"left_out": _is_text}, "IMPORTS")
    return {"left_out": valid_text(told["left_out"])}


def read_job(payload: bytes) -> dict[str, Any]:
    """Return what JOB carries: that a job goes on, or has ended, and how."""
    told = _flat_object(payload)
    _check(told, _JOB, "JOB")
    if unknown := told.keys() - _JOB.keys():
        raise FrameError(f"JOB with the unknown field {_shown(min(unknown))}")
    return {**told, "message": valid_text(told["message"])}


def refuse_job(told: Mapping[str, Any]) -> None:
    """For a host that has not said that there may be jobs."""
    raise FrameError("JOB where there are no jobs")


def read_dropped(payload: bytes) -> tuple[OutputStream, int]:
    """Return what DROPPED carries: which stream lacks how many bytes."""
    if len(payload) != _DROPPED.size:
        raise FrameError(f"DROPPED with {len(payload)} bytes; it has {_DROPPED.size}")
    stream, count = _DROPPED.unpack(payload)
    if stream not in (1, 2) or not 0 < count < 1 << 63:
        raise FrameError(f"DROPPED with {count} bytes of stream {stream}")
    return ("stdout" if stream == 1 else "stderr"), count


def read_call(payload: bytes) -> tuple[int, str, bytes]:
    """Return what CALL carries: the action's number, the tool's name, the arguments.

    The arguments are the tool set's to read: they are the code's, as they would be from a healthy runner.
    """
    if len(payload) < _CALL.size:
        raise FrameError(f"CALL with {len(payload)} bytes; it has at least {_CALL.size}")
    action, length = _CALL.unpack_from(payload)
    start = _CALL.size + length
    if start > len(payload):
        raise FrameError(
            f"CALL with a name of {length} bytes, of which {len(payload) - _CALL.size} are there"
        )
    return action, payload[_CALL.size : start].decode("utf-8", "replace"), payload[start:]


def join_outputs(given: list[Frame]) -> list[Frame]:
    """Join neighbours that are output of one stream: a byte in each frame costs the host more than who sends it."""
    if len(given) < MANY:
        return given
    joined: list[Frame] = []
    parts: list[bytes] = []
    for index, (kind, ident, payload) in enumerate(given):
        if not payload and kind in _OUTPUT:
            raise FrameError("output without a byte")
        parts.append(payload)
        follows = given[index + 1][:2] if index + 1 < len(given) else None
        if kind not in _OUTPUT or follows != (kind, ident):
            joined.append((kind, ident, b"".join(parts)))
            parts.clear()
    return joined


def valid_text(text: str) -> str:
    """Return the text with U+FFFD for each lone surrogate, which has no encoding: no file and no request takes it."""
    return text if text.isascii() else _SURROGATES.sub("\ufffd", text)


# --- objects -----------------------------------------------------------------------------------


def _flat_object(payload: bytes, *, lists: bool = False) -> dict[str, Any]:
    """Decode an object that holds no other one, nor lists of lists, after a look at how it is built.

    Decoded unseen, a few MiB of brackets would become a hundred times as much.
    """
    skeleton = _STRINGS.sub(b"", payload)
    if len(skeleton) > MAX_SKELETON or skeleton.count(b"{") != 1 or not payload.startswith(b"{"):
        raise FrameError("a frame that is not one flat JSON object")
    if b"[" in skeleton and (not lists or re.search(rb"\[[^\]]*\[", skeleton)):
        raise FrameError("a frame with a list where there is none")
    try:
        value = json.loads(
            payload.decode()
        )  # bytes it would read as UTF-16, too, of which the look knows nothing
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a frame that is no JSON: {error}") from None
    if len(value) > MAX_ENTRIES:
        raise FrameError(f"an object of {len(value)} entries; at most {MAX_ENTRIES} are allowed")
    return dict(value)


def _check(value: Mapping[str, Any], shape: Mapping[str, Callable[[Any], bool]], kind: str) -> None:
    for name, fits in shape.items():
        if name not in value:
            raise FrameError(f"{kind} without the field {_shown(name)}")
        if not fits(value[name]):
            raise FrameError(f"{kind} with {_shown(name)} = {_shown(value[name])}")


def _shown(value: object) -> str:
    """Return a value as ASCII, cut: it is the runner's to choose, and ends in a log or on a terminal."""
    text = ascii(value[:100] if isinstance(value, str | list) else value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_text_or_none(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_exit_code(value: object) -> bool:
    return type(value) is int and 0 <= value <= 255


def _is_seconds(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LONGEST_S
    )  # NaN is not


def _is_status(value: object) -> bool:
    return isinstance(value, str) and value in ("completed", "failed", "timeout", "cancelled")


def _is_job_name(value: object) -> bool:
    return isinstance(value, str) and _JOB_NAME.fullmatch(value) is not None


def _is_job_state(value: object) -> bool:
    return isinstance(value, str) and value in ("started", "ended")


def _is_part_of_state(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(part, str) for part in value)
    return value is None or isinstance(value, str | int)


_EXIT: Final[dict[str, Callable[[Any], bool]]] = {
    "status": _is_status,
    "exit_code": _is_exit_code,
    "wall_s": _is_seconds,
    "cpu_s": _is_seconds,
    "peak_memory_bytes": _is_count,
    "message": _is_text,
    "channels": _is_count,
    "left_out": _is_text,
}
_JOB_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
_JOB: Final[dict[str, Callable[[Any], bool]]] = {
    "name": _is_job_name,
    "state": _is_job_state,
    "exit_code": _is_exit_code,
    "wall_s": _is_seconds,
    "message": _is_text,
}
_SECONDS: Final = rb"((?:0|[1-9]\d{0,7})(?:\.\d{1,20})?(?:e-\d\d)?)"
_USUAL_EXIT: Final = re.compile(
    rb'\{"status": "(completed|failed)", "exit_code": (0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5]), '
    rb'"wall_s": %b, "cpu_s": %b, "peak_memory_bytes": (0|[1-9]\d{0,17}), "message": "([ !#-\[\]-~]*)"\}'
    % (_SECONDS, _SECONDS)
)
_ALWAYS: Final = ("status", "exit_code")
_DROPPED: Final = struct.Struct("!BQ")
_CALL: Final = struct.Struct("!IH")

ANSWERS: Final[dict[int, Callable[[bytes], dict[str, Any]]]] = {
    frames.SHELL: read_state,
    frames.IMPORTS: read_imports,
}
"""What reads the frames that answer a request and carry an object."""
