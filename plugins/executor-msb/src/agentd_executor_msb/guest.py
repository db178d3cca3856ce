"""What the guest has of the host: which of its environment, and where its folders lie."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import attrs
from agentd.protocols import Layout

__all__ = ["FROM_HOST", "NOT_FROM_GUEST", "moved_layout"]

# Of the host's environment: what is true in the guest as well. Paths, languages and proxies are not.
FROM_HOST = (
    "TZ",
    "TERM",
    "COLORTERM",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "UV_INDEX_URL",
    "npm_config_registry",
)
# Of the guest's environment: what describes the process that was asked, or what agentd sets itself.
NOT_FROM_GUEST = frozenset(("HOME", "PWD", "OLDPWD", "SHLVL", "_", "TMPDIR", "HOSTNAME", "TERM"))


def moved_layout(layout: Layout, base: Path, to: Path) -> Layout:
    """Return the layout with everything below `base` at `to`."""

    def moved(paths: Sequence[Path]) -> tuple[Path, ...]:
        return tuple(to / path.relative_to(base) if path.is_relative_to(base) else path for path in paths)

    return attrs.evolve(
        layout,
        importable=moved(layout.importable),
        programs=moved(layout.programs),
        read_only=moved(layout.read_only),
        sources=dict(zip(moved(list(layout.sources)), layout.sources.values(), strict=True)),
    )
