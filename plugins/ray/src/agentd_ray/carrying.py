"""What travels between driver and hosts: settings and tools by cloudpickle, and errors as what they are."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from agentd_ray.errors import FleetError, NotSendableError

__all__ = ["pack", "pack_error", "pack_settings", "unpack", "unpack_error"]

_REASON_CHARS = 300


def pack(value: object) -> bytes:
    """Return a value as bytes. Raises what the pickling raises."""
    import cloudpickle

    return cloudpickle.dumps(value)


def unpack(data: bytes) -> Any:
    """Return what `pack` was given."""
    return pickle.loads(data)


def pack_settings(settings: Mapping[str, Any], modules: Iterable[ModuleType] = ()) -> bytes:
    """Return settings of a session as bytes.

    :param modules: whose functions and classes travel as code: hosts cannot import them.
    :raises NotSendableError: naming the setting, and of a list the part.
    """
    with _by_value(modules):
        try:
            return pack(dict(settings))
        except Exception as error:  # a pickle raises whatever the object does
            for name, value in settings.items():
                _check_part(name, value)
            raise NotSendableError("the settings of a session", _reason(error)) from error


def _check_part(name: str, value: Any) -> None:
    try:
        pack(value)
    except Exception as error:  # as above
        if isinstance(value, list | tuple) and not isinstance(value, str):
            for number, part in enumerate(value):
                called = getattr(part, "__name__", None)
                _check_part(f"{name}[{number}]" + (f" ({called})" if called else ""), part)
        raise NotSendableError(name, _reason(error)) from error


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:_REASON_CHARS]


@contextmanager
def _by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    import cloudpickle

    known = cloudpickle.list_registry_pickle_by_value()
    new = [module for module in modules if module.__name__ not in known]
    for module in new:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in new:
            cloudpickle.unregister_pickle_by_value(module)


def pack_error(error: BaseException) -> bytes:
    """Return an error as bytes. Many have constructors that a pickle cannot call, so it is taken apart; one that does
    not travel at all becomes a `FleetError` with its text."""
    notes = getattr(error, "__notes__", ())
    state = {name: value for name, value in vars(error).items() if name != "__notes__"}
    for kept in (state, {}):
        try:
            data = pack((type(error), error.args, kept, tuple(notes)))
            if isinstance(unpack_error(data), type(error)):
                return data
        except Exception:  # an attribute or an argument that does not pickle
            continue
    return pack((FleetError, (_reason(error),), {}, ()))


def unpack_error(data: bytes) -> BaseException:
    """Return what `pack_error` was given."""
    try:
        kind, args, state, notes = pickle.Unpickler(io.BytesIO(data)).load()
        error: BaseException = kind.__new__(kind, *args) if issubclass(kind, OSError) else kind.__new__(kind)
        error.args = args
        vars(error).update(state)
        for note in notes:
            error.add_note(note)
    except Exception as failed:  # its class is not installed here, say
        return FleetError(f"a host has failed, and its error cannot be read here: {_reason(failed)}")
    return error
