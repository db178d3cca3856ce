"""Which installed plugins may be loaded: allow and block lists."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Final

import attrs

from agentd.registry.official import UNDERLYING, normalize

__all__ = ["ALLOW_VARIABLE", "BLOCK_VARIABLE", "PluginConfig"]

ALLOW_VARIABLE: Final = "AGENTD_PLUGINS_ALLOW"
BLOCK_VARIABLE: Final = "AGENTD_PLUGINS_BLOCK"


def _names(given: Iterable[str]) -> tuple[str, ...]:
    return tuple(given)


@attrs.frozen(kw_only=True)
class PluginConfig:
    """Which installed plugins may be loaded.

    An entry is a plugin's name (`srt`), a kind and a name (`executor:srt`) or a distribution
    (`agentd-executor-srt`), each also with the wildcards of `fnmatch` (`agentd-*`). `allow=None` allows every
    plugin, an empty `allow` none. `block` wins over `allow`. agentd's own distributions that run no code and read no
    answer (models, tools, skills, snapshots, sinks, commands) need no allowing, but can be blocked.

    :ivar allow: the plugins that may be loaded; null allows all, an empty list none but agentd's own.
    :ivar block: the plugins that may not; they are never imported.
    """

    allow: tuple[str, ...] | None = attrs.field(default=None, converter=attrs.converters.optional(_names))
    block: tuple[str, ...] = attrs.field(default=(), converter=_names)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> PluginConfig:
        """Read `AGENTD_PLUGINS_ALLOW` and `AGENTD_PLUGINS_BLOCK` (separated by commas; empty means unset)."""
        return cls(
            allow=_split(environ.get(ALLOW_VARIABLE, "")) or None,
            block=_split(environ.get(BLOCK_VARIABLE, "")),
        )

    def objection(self, kind: str, name: str, distribution: str, *, where: str = "the configuration") -> str:
        """Return why this plugin may not be loaded, or an empty string if it may."""
        for entry in self.block:
            if _matches(entry, kind, name, distribution):
                return f"the block list of {where} has {entry!r}"
        if self.allow is None or normalize(distribution) in UNDERLYING:
            return ""
        if any(_matches(entry, kind, name, distribution) for entry in self.allow):
            return ""
        return f"the allow list of {where} has neither {name!r} nor {distribution!r}"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _matches(entry: str, kind: str, name: str, distribution: str) -> bool:
    return (
        fnmatchcase(name, entry)
        or fnmatchcase(f"{kind}:{name}", entry)
        or fnmatchcase(normalize(distribution), normalize(entry))
    )
