"""The `@tool` decorator and the list of the functions that carry it.

That list is the one piece of state this package keeps for a process: a client that is given no tools of
its own offers every function decorated so far. It is keyed by module and qualified name, so that running
a notebook cell again replaces the function instead of adding a second one.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, TypeVar, get_args, overload

import attrs
from agentd.errors import ConfigError

__all__ = [
    "ToolOptions",
    "decorated_tools",
    "options_of",
    "own_name",
    "parameters_of",
    "plain_function",
    "tool",
    "tool_name",
]

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE: Final = "__agentd_tool__"
_decorated: dict[tuple[str, str], Callable[..., Any]] = {}
Where = Literal["host", "driver"]


@attrs.frozen(kw_only=True)
class ToolOptions:
    """What the decorator was told. `local_names` are the caller's local names that annotations mention."""

    name: str | None = None
    description: str | None = None
    timeout_s: float | None = None
    annotations: Mapping[str, object] = attrs.field(factory=dict)
    where: Where = "host"
    local_names: Mapping[str, object] = attrs.field(factory=dict)


_NOT_DECORATED: Final = ToolOptions()


@overload
def tool(function: F, /) -> F: ...


@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    where: Where = "host",
) -> Callable[[F], F]: ...


def tool(
    function: F | None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    timeout: float | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    where: Where = "host",
) -> F | Callable[[F], F]:
    """Offer a function to the model's code, as `from lib.tools import NAME`. Returns it unchanged.

    Plain and async functions, generators (the result is the list of what they yield), bound methods and
    callable objects can be tools. A method decorated in its class is a tool once it is bound: pass
    `tools=[thing.method]`. Types come from annotations; a docstring line `name: text`, also below
    `Args:`, describes a parameter.

    :param name: another name than the function's own; any string, mapped to a Python name for the code.
    :param description: instead of the docstring.
    :param timeout: seconds that one call may take; the session's default if None.
    :param read_only: it changes nothing; a policy (`read-only`, `ask-writes`) lets such tools pass.
    :param destructive: False says that it only adds; None counts as True where it is not read-only, as MCP has it.
    :param idempotent: a second call with the same arguments changes nothing more. The three are `ToolSpec.annotations`
        with the names of an MCP server's (`readOnlyHint`, `destructiveHint`, `idempotentHint`).
    :param where: of a session on a fleet (agentd-ray): `host` sends the function to the session's machine, `driver`
        calls it in the program that has opened the fleet. Other sessions call it here, always.
    :raises ConfigError: naming function, file and line, with all that is wrong: if this is no function, it cannot be
        called by names (`*args`), or an argument is of another kind.
    """

    hints = {"readOnlyHint": read_only, "destructiveHint": destructive, "idempotentHint": idempotent}
    annotations = {hint: value for hint, value in hints.items() if value is not None}

    def mark(target: F) -> F:
        if not callable(target) or inspect.isclass(target):
            hint = f"; write @tool(name={target!r})" if isinstance(target, str) else ""
            raise ConfigError(f"@tool marks functions, methods and callable objects, got {target!r}{hint}")
        wrong = [
            *_wrong_options(name, description, timeout),
            *_wrong_hints(annotations),
            *_wrong_place(where),
        ]
        if problems := [*wrong, *_wrong_parameters(target)]:
            raise ConfigError("\n".join(f"{tool_name(target)}: {problem}" for problem in problems))
        caller = sys._getframe(1 if function is None else 2)
        options = ToolOptions(
            name=name,
            description=description,
            timeout_s=timeout,
            annotations=annotations,
            where=where,
            local_names=_local_names(target, caller.f_locals),
        )
        _attach(target, options)
        _decorated[_key(target)] = target
        return target

    return mark if function is None else mark(function)


def _wrong_options(name: object, description: object, timeout: object) -> Iterator[str]:
    if name is not None and not (isinstance(name, str) and name.strip()):
        yield f"@tool(name=...) must be a text that is not blank, got {name!r}"
    if description is not None and not isinstance(description, str):
        yield f"@tool(description=...) must be a text, got {description!r}"
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is not None and not (is_number and timeout > 0):  # type: ignore[operator]  # it is a number
        yield f"@tool(timeout=...) must be a number of seconds above 0, got {timeout!r}"


def _wrong_hints(annotations: Mapping[str, object]) -> Iterator[str]:
    words = {"readOnlyHint": "read_only", "destructiveHint": "destructive", "idempotentHint": "idempotent"}
    for hint, value in annotations.items():
        if not isinstance(value, bool):
            yield f"@tool({words[hint]}=...) must be True, False or None, got {value!r}"
    if annotations.get("readOnlyHint") is True is annotations.get("destructiveHint"):
        yield "@tool(read_only=True, destructive=True) contradict each other: what destroys something changes it"


def _wrong_place(where: object) -> Iterator[str]:
    if where not in get_args(Where):
        yield f"@tool(where=...) must be 'host' or 'driver', got {where!r}"


def _wrong_parameters(target: Callable[..., Any]) -> Iterator[str]:
    try:
        yield from parameters_of(target)[1]
    # From Python 3.14 on, of an annotation that is not defined yet; it is read when a session begins.
    except NameError:
        return


def parameters_of(target: Callable[..., Any]) -> tuple[inspect.Signature, list[str]]:
    """Return a function's signature, and why it cannot be a tool for all that its types may be."""
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError) as error:
        return inspect.Signature(), [f"its parameters cannot be read ({error}); wrap it in a def"]
    stars = [p.name for p in signature.parameters.values() if p.kind is inspect.Parameter.VAR_POSITIONAL]
    return signature, [
        f"parameter '*{star}' cannot be called by name; take a list instead, as `{star}: list`"
        for star in stars
    ]


def tool_name(target: Callable[..., Any], name: str | None = None) -> str:
    """Return how errors call a function: with its file and line, if it has some, and `tool NAME()`."""
    plain = plain_function(target)
    code = getattr(plain, "__code__", None)
    place = f"{code.co_filename}:{code.co_firstlineno}: " if code is not None else ""
    return f"{place}tool {name or own_name(target, plain)}()"


def plain_function(function: Any) -> Any:
    """Return the function below partials, bound methods and callable objects; types and text are its own."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif inspect.ismethod(function) or isinstance(function, staticmethod):
            function = function.__func__
        elif inspect.isfunction(function) or inspect.isbuiltin(function) or inspect.isclass(function):
            return inspect.unwrap(function) if inspect.isfunction(function) else function
        elif inspect.ismethod(getattr(function, "__call__", None)):  # noqa: B004  (the method itself is wanted)
            function = function.__call__
        else:
            return function


def own_name(function: Any, plain: Any) -> str:
    """Return the name of a function, of what is in a partial, or of a callable object's class."""
    for candidate in (function, getattr(function, "func", None)):
        if name := getattr(candidate, "__name__", None):
            return str(name)
    return type(function).__name__ if getattr(plain, "__name__", "") == "__call__" else plain.__name__


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
        if options != attrs.evolve(_NOT_DECORATED, local_names=options.local_names):
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
