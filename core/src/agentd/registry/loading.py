"""Imports one plugin and holds it against the interface. Every doubt ends as a sentence."""

from __future__ import annotations

import inspect
import sys
import traceback
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import attrs
import pluggy

from agentd import hookspecs, protocols
from agentd.errors import suggest
from agentd.hookspecs import AGENTD_API, HOOKS, HOOKS_OF_ALL, OPTIONAL_HOOKS
from agentd.registry.record import PluginRecord

__all__ = ["Hook", "Rejected", "describe", "missing_members", "verify"]

_PROTOCOLS: dict[str, type] = {
    k: getattr(protocols, k.title().replace("_", "")) for k in {*HOOKS, "toolbox", "timeline"} - {"trigger"}
}
_FOR_NATIVE_CALLS = {"add_tool_results", "offer"}  # of models: those that only write blocks need neither


class Rejected(Exception):
    """This plugin cannot be used; the text says why. `incompatible` if it is for another interface."""

    def __init__(self, reason: str, *, incompatible: bool = False) -> None:
        self.incompatible = incompatible
        super().__init__(reason)


@attrs.frozen
class Hook:
    """A plugin's implementation of a hook; `arguments` are the ones it takes."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]


def verify(plugin: object, record: PluginRecord) -> dict[str, Hook]:
    """Check the plugin; return its hooks by name.

    Raises `Rejected` for what the interface forbids, and lets through what the plugin's own code raises.
    """
    if record.kind == "command":
        _check_command(plugin)
        return {}
    if inspect.isclass(plugin):
        raise Rejected(f"its entry point names the class {plugin.__qualname__}; name a module or an instance")
    _check_api(plugin, record)
    hooks = _hooks(plugin)
    wanted = HOOKS[record.kind]
    if wanted not in hooks:
        unmarked = "; the function of that name is not marked with @hookimpl"
        raise Rejected(
            f"a plugin of the group {record.group} must implement {wanted}, and this one does not"
            f"{unmarked if callable(getattr(plugin, wanted, None)) else ''}"
        )
    return {name: Hook(name, function, _taken_arguments(name, function)) for name, function in hooks.items()}


@lru_cache(maxsize=1)
def _specs() -> pluggy.PluginManager:
    """Return what pluggy knows of the hooks. No plugin is registered there: each is called by itself, and sessions
    share the specifications."""
    manager = pluggy.PluginManager("agentd")
    manager.add_hookspecs(hookspecs)
    return manager


def _check_command(command: object) -> None:
    """Tell whether this is a click command, without importing click: whoever made one has done so."""
    click = sys.modules.get("click")
    if click is None or not isinstance(command, click.Command):
        raise Rejected(f"its entry point names {_a(command)}; name a click command, `MODULE:FUNCTION`")


def _a(thing: object) -> str:
    return f"the class {thing.__qualname__}" if inspect.isclass(thing) else f"a {type(thing).__name__}"


def _check_api(plugin: object, record: PluginRecord) -> None:
    if not hasattr(plugin, "AGENTD_API"):
        raise Rejected(
            f"it has no AGENTD_API; a plugin for this agentd has `AGENTD_API = {AGENTD_API}`",
            incompatible=True,
        )
    api = plugin.AGENTD_API
    if type(api) is int and api == AGENTD_API:
        return
    newer = type(api) is int and api > AGENTD_API
    raise Rejected(
        f"its AGENTD_API is {api!r}, this agentd has {AGENTD_API}; "
        f"update {'agentd-core' if newer else record.distribution}",
        incompatible=True,
    )


def _hooks(plugin: object) -> dict[str, Callable[..., Any]]:
    """Return the plugin's marked functions by hook name."""
    known = [*HOOKS.values(), *(name for names in OPTIONAL_HOOKS.values() for name in names), *HOOKS_OF_ALL]
    hooks: dict[str, Callable[..., Any]] = {}
    for attribute in dir(plugin):
        marked = _specs().parse_hookimpl_opts(plugin, attribute)
        if marked is None:
            continue
        name = marked.get("specname") or attribute
        if name not in known:
            raise Rejected(f"unknown hook {name!r}{suggest(name, known)}")
        if marked.get("wrapper") or marked.get("hookwrapper"):
            raise Rejected(f"{name} is marked as a wrapper; hooks of agentd are plain factories")
        hooks[name] = getattr(plugin, attribute)
    return hooks


def _taken_arguments(name: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of the arguments that this implementation takes."""
    if inspect.iscoroutinefunction(function):
        raise Rejected(f"{name} is an `async def`; hooks are synchronous factories")
    spec = getattr(_specs().hook, name).spec
    offered = tuple(spec.argnames)
    takes: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise Rejected(f"{name}: the parameter {parameter.name!r} is positional-only")
        if parameter.name in offered:
            takes.append(parameter.name)
        elif parameter.default is parameter.empty:
            raise Rejected(
                f"{name} takes {parameter.name!r}, which this hook does not have; it has: "
                f"{', '.join(offered)}{suggest(parameter.name, offered)}"
            )
    return tuple(takes)


def missing_members(kind: str, product: object) -> list[str]:
    """Return what this object lacks of the protocol of its kind."""
    protocol = _PROTOCOLS[kind]
    members = {*vars(protocol), *protocol.__annotations__} - _FOR_NATIVE_CALLS
    return sorted(m for m in members if not m.startswith("_") and not _has(product, m))


def _has(product: object, member: str) -> bool:
    try:
        return hasattr(product, member)
    except Exception:  # a property that raises is there; its error belongs to whoever uses it
        return True


def describe(error: BaseException) -> str:
    """Return the exception as one line with the place it comes from."""
    if isinstance(error, Rejected):
        return str(error)
    try:
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:  # a plugin's exception may have a broken __str__
        text = type(error).__name__
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_machinery(f.filename)]
    if not frames or isinstance(error, SyntaxError):  # a SyntaxError's text has the place itself
        return text
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})"


def _is_machinery(filename: str) -> bool:
    folders = ("importlib", "agentd/registry")
    return filename.startswith("<frozen") or any(f"/{folder}/" in filename for folder in folders)
