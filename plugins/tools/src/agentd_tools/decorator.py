"""The `@tool` decorator and the list of the functions that carry it.

That list is the one piece of state this package keeps for a process: a client that is given no tools of
its own offers every function decorated so far. It is keyed by module and qualified name, so that running
a notebook cell again replaces the function instead of adding a second one.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar, overload

import attrs
from agentd.errors import ConfigError

__all__ = ["ToolOptions", "decorated_tools", "options_of", "tool"]

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__agentd_tool__"
_decorated: dict[tuple[str, str], Callable[..., Any]] = {}


@attrs.frozen(kw_only=True)
class ToolOptions:
    """What the decorator was told. `local_names` are the caller's local names that annotations mention."""

    name: str | None = None
    description: str | None = None
    timeout_s: float | None = None
    local_names: Mapping[str, object] = attrs.field(factory=dict)


_NOT_DECORATED: Final = ToolOptions()


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *, name: str | None = None, description: str | None = None, timeout: float | None = None
) -> Callable[[F], F]: ...


def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
) -> F | Callable[[F], F]:
    """Offer a function to the model's code, as `from lib.tools import NAME`. Returns it unchanged.

    Plain and async functions, generators (the result is the list of what they yield), bound methods and
    callable objects can be tools. A method decorated in its class is a tool once it is bound: pass
    `tools=[thing.method]`. Types come from annotations; a docstring line `name: text`, also below
    `Args:`, describes a parameter.

    :param name: another name than the function's own; any string, mapped to a Python name for the code.
    :param description: instead of the docstring.
    :param timeout: seconds that one call may take; the session's default if None.
    :raises ConfigError: if this is no function or the time-out is not above zero.
    """
    if timeout is not None and not timeout > 0:
        raise ConfigError(f"@tool(timeout=...): seconds above 0 are allowed, got {timeout!r}")

    def mark(target: F) -> F:
        if not callable(target) or inspect.isclass(target):
            raise ConfigError(f"@tool marks functions, methods and callable objects, got {target!r}")
        caller = sys._getframe(1 if function is None else 2)
        options = ToolOptions(
            name=name,
            description=description,
            timeout_s=timeout,
            local_names=_local_names(target, caller.f_locals),
        )
        _attach(target, options)
        _decorated[_key(target)] = target
        return target

    return mark if function is None else mark(function)


def decorated_tools() -> tuple[Callable[..., Any], ...]:
    """Return the functions decorated so far, in order, without methods that are not bound yet."""
    return tuple(f for f in _decorated.values() if not _needs_instance(f))


def options_of(function: Callable[..., Any]) -> ToolOptions:
    """Return what `@tool` was told about a function; the defaults for one that is not decorated."""
    options = getattr(function, _ATTRIBUTE, None)
    return options if isinstance(options, ToolOptions) else _NOT_DECORATED


def _attach(target: Callable[..., Any], options: ToolOptions) -> None:
    try:
        setattr(target, _ATTRIBUTE, options)
    except (AttributeError, TypeError):
        # builtins and slotted objects take no attributes; that only matters if there is something to keep
        if options.name or options.description or options.timeout_s:
            raise ConfigError(f"@tool(...) cannot keep its options on {target!r}; wrap it in a def") from None


def _key(target: Callable[..., Any]) -> tuple[str, str]:
    qualname = getattr(target, "__qualname__", None)
    if qualname is None:  # a callable object: each one counts
        return (type(target).__module__, f"{type(target).__qualname__}@{id(target)}")
    return (str(getattr(target, "__module__", "")), str(qualname))


def _needs_instance(function: Callable[..., Any]) -> bool:
    """Tell whether this is a plain function from a class body whose first parameter is still free."""
    if not inspect.isfunction(function):
        return False
    owner = function.__qualname__.rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        return False
    return next(iter(inspect.signature(function).parameters), "") in ("self", "cls")


def _local_names(target: Callable[..., Any], scope: Mapping[str, object]) -> dict[str, object]:
    """Keep the caller's locals that string annotations mention: they are gone when the types are needed."""
    annotations = getattr(target, "__annotations__", None) or {}
    text = " ".join(a for a in annotations.values() if isinstance(a, str))
    if not text or "<locals>" not in getattr(target, "__qualname__", ""):
        return {}
    return {name: value for name, value in scope.items() if name in text}
