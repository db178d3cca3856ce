"""The resource limits that the kernel holds: setrlimit(2), and bash's `ulimit` for each."""

from __future__ import annotations

import resource

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Iterator


# What limits have on any system, and bash's `ulimit` for each: its letter, and its unit in bytes.
ULIMIT = {
    "RLIMIT_CPU": ("t", 1),
    "RLIMIT_DATA": ("d", 1024),
    "RLIMIT_FSIZE": ("f", 1024),
    "RLIMIT_NOFILE": ("n", 1),
    "RLIMIT_NPROC": ("u", 1),
    "RLIMIT_CORE": ("c", 1024),
}


def effective_limits(limits: dict[str, int]) -> Iterator[tuple[str, int]]:
    """Yield setrlimit's limits, at most what we have ourselves."""
    for name, value in limits.items():
        if name in ULIMIT:
            _, hard = resource.getrlimit(getattr(resource, name))
            yield name, value if hard == resource.RLIM_INFINITY else min(value, hard)


def apply_limits(limits: dict[str, int]) -> None:
    for name, bound in effective_limits(limits):
        try:
            resource.setrlimit(getattr(resource, name), (bound, bound))
        except (OSError, ValueError):
            pass
