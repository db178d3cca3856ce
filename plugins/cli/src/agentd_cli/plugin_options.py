"""What `-o` says on the command line: options for the plugins that a run uses."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from agentd.registry.options import PluginSpec

__all__ = ["KINDS", "PluginOptions", "read_plugin_options"]

KINDS: Final = {
    "executor": "executor",
    "parser": "parser",
    "renderer": "skill_renderer",
    "snapshots": "snapshot_store",
    "sink": "event_sink",
    "tool": "tool_source",
    "model": "model",
}
"""The kind of plugin, as the registry names it, by the command line's word for it."""

_FORM = "KEY=VALUE for the executor, or KIND.NAME.KEY=VALUE"


class _Unfit(Exception):
    """One `-o` cannot be read; the text says why."""


@attrs.frozen
class PluginOptions:
    """Options by kind (the command line's word) and name of the plugin."""

    values: dict[tuple[str, str], dict[str, Any]] = attrs.field(factory=dict)

    def of(self, kind: str, name: str) -> dict[str, Any]:
        """Return the options of one plugin."""
        return self.values.get((kind, name), {})

    def spec(self, kind: str, name: str) -> PluginSpec:
        """Return a plugin as `Session` takes it: its name, with its options if it has any."""
        options = self.of(kind, name)
        return (name, options) if options else name


def read_plugin_options(pairs: Iterable[str], in_use: Mapping[str, Sequence[str]]) -> PluginOptions:
    """Read `KEY=VALUE` (for the executor) and `KIND.NAME.KEY=VALUE`.

    A value that is JSON (a number, true, null, a list, ...) becomes that, all else is text. A dot in KEY leads into a
    mapping: `limits.memory_mib=512`. The model may go without NAME: `model.request.temperature=0`.

    :param in_use: the names of the plugins of this run, by kind (the keys of `KINDS`). The first executor gets what
        has no kind; the first model what has no name.
    :raises click.BadParameter: with everything that is wrong.
    """
    options = PluginOptions()
    faults = []
    for pair in pairs:
        key, equals, text = pair.partition("=")
        try:
            if not equals or not key:
                raise _Unfit(f"must look like {_FORM}, got {pair!r}")
            kind, name, path = _address(key, in_use)
            _put(options.values.setdefault((kind, name), {}), path, _value(text), key)
        except _Unfit as unfit:
            faults.append(str(unfit))
    if faults:
        import click

        raise click.BadParameter("\n".join(faults), param_hint="-o")
    return options


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _address(key: str, in_use: Mapping[str, Sequence[str]]) -> tuple[str, str, list[str]]:
    """Return kind and name of the plugin, and the path of the option."""
    kind, dot, rest = key.partition(".")
    if not dot:
        kind, rest = "executor", key
        names = in_use.get(kind, ())
        if not names:
            raise _Unfit(f"{key}: is for the executor, and this run has no executor; write KIND.NAME.{key}")
        return kind, names[0], [key]
    if kind not in KINDS:
        from agentd.errors import suggest

        known = ", ".join(KINDS)
        raise _Unfit(f"{key}: unknown kind {kind!r}; there are: {known}{suggest(kind, KINDS)}")
    names = in_use.get(kind, ())
    # names of models have dots, too: gpt-4.1 and gpt-4.1-mini
    for name in sorted(names, key=len, reverse=True):
        if rest.startswith(f"{name}."):
            return kind, names[0] if kind == "model" else name, _path(rest.removeprefix(f"{name}."), key)
    if kind == "model" and names:
        return kind, names[0], _path(rest, key)
    raise _Unfit(_not_in_use(key, kind, rest, names))


def _path(option: str, key: str) -> list[str]:
    parts = option.split(".")
    if not all(parts):
        raise _Unfit(f"{key}: has an empty part between its dots")
    return parts


def _not_in_use(key: str, kind: str, rest: str, names: Sequence[str]) -> str:
    from agentd.errors import suggest

    uses = f"it uses: {', '.join(map(repr, names))}" if names else "it uses none"
    name, dot, _ = rest.partition(".")
    if not dot:
        return f"{key}: must look like {kind}.NAME.KEY=VALUE, with the name of a {kind} of this run; {uses}"
    return f"{key}: this run does not use the {kind} {name!r}; {uses}{suggest(name, names)}"


def _put(options: dict[str, Any], path: Sequence[str], value: object, key: str) -> None:
    *parents, last = path
    for part in parents:
        inner = options.setdefault(part, {})
        if not isinstance(inner, dict):
            raise _Unfit(f"{key}: {part!r} has a value already that is no mapping")
        options = inner
    options[last] = value
