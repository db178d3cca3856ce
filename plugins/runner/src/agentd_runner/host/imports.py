"""Which modules a Python block imports: told to the runner, which imports them ahead of the next block."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from agentd.errors import ConfigError

from agentd_runner.host.pending import Pending
from agentd_runner.inside import frames
from agentd_runner.inside.timings import IMPORTS_S

if TYPE_CHECKING:
    from agentd_runner.host.connection import Connection

__all__ = ["imports_of", "read_preload", "tell_left_out", "tell_rest"]

log = logging.getLogger("agentd.execution")

LOOKED_AT: Final = 1 << 16  # characters of a block: imports stand at its head
MOST: Final = 32  # names of one block
MOST_TOLD: Final = 128  # modules that a runner may have left out
LONGEST_TOLD: Final = 500  # characters of one of them and its reason
# What a fresh Python has anyway; for anything else a process would be made.
PRESENT: Final = frozenset(
    [
        "builtins",
        "codecs",
        "collections",
        "contextlib",
        "enum",
        "errno",
        "functools",
        "io",
        "itertools",
        "json",
        "math",
        "operator",
        "os",
        "re",
        "select",
        "selectors",
        "signal",
        "socket",
        "stat",
        "struct",
        "sys",
        "threading",
        "time",
        "traceback",
        "types",
        "__future__",
    ]
)
_IMPORT: Final = re.compile(
    r"^[ \t]*(?:import[ \t]+(?P<modules>[^\n#;(]{1,500})"
    r"|from[ \t]+(?P<package>[\w.]{1,200})[ \t]+import[ \t(]*(?P<names>[^\n#;]{0,500}))",
    re.MULTILINE,
)
_OWN_WAY: Final = re.compile(
    r"environ|putenv|chdir|importlib|__import__|sys\.path|from[ \t]+sys\b|meta_path|path_hooks|addsitedir|\breload\b"
)


def imports_of(code: str) -> list[str]:
    """Return the modules that a block names in its `import` lines, without those that every Python has.

    `from a import b` is `a` and `a.b`: whether `b` is a module is seen where it is imported. A line in a text counts,
    too: to import what is not needed costs a little time, and nobody waits for it. A block that may change what its
    imports find or do, the path or the environment, names none: it is to import by itself.
    """
    if "import" not in code or _OWN_WAY.search(code):
        return []
    found: dict[str, None] = {}
    for match in _IMPORT.finditer(code, 0, LOOKED_AT):
        modules, package, names = match.groups()
        for part in (modules or names or "").split(","):
            name = part.split(" as ")[0].strip(" \t()\r\\")
            full = f"{package}.{name}" if package else name
            for module in filter(None, (package, full)):
                if _is_name(module) and module.partition(".")[0] not in PRESENT:
                    found[module] = None
    return list(found)[:MOST]


def _is_name(module: str) -> bool:
    return len(module) <= 200 and all(part.isidentifier() for part in module.split("."))


def read_preload(names: Sequence[str] | None) -> list[str]:
    """Return the option `preload` as given. Raises `ConfigError` if it is no list of modules' names, or too long."""
    if names is None:
        return []
    if isinstance(names, str) or not isinstance(names, Sequence):
        hint = f"; write [{names!r}]" if isinstance(names, str) else ""
        raise ConfigError(
            f"preload: must be a list of modules' names, such as ['numpy'], got {names!r}{hint}"
        )
    wrong = [
        f"preload[{index}]: must be the name of a module, such as 'numpy' or 'xml.etree', got {name!r}"
        for index, name in enumerate(names)
        if not (isinstance(name, str) and _is_name(name))
    ]
    different = len(set(map(str, names)))
    if different > frames.MAX_MODULES:
        wrong.append(f"preload: must name at most {frames.MAX_MODULES} modules, got {different}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return list(names)


def tell_left_out(said: str, preload: Sequence[str]) -> None:
    """Log which modules the runner does not import ahead, and why; as a warning if the user asked for one."""
    for line in said.split("\n", MOST_TOLD)[:MOST_TOLD]:
        level = logging.WARNING if line.partition(": ")[0] in preload else logging.DEBUG
        shown = "".join(char if char.isprintable() else "\ufffd" for char in line[:LONGEST_TOLD])
        log.log(level, "not imported ahead of the blocks: %s", shown)


def tell_rest(connection: Connection, ident: int, preload: Sequence[str]) -> None:
    """Log what no result has told: the session ends. Waits a moment for what is being imported."""
    waiter = threading.Event()
    pending = Pending(waiter, ended_by=frames.IMPORTS)
    connection.ask(frames.IMPORTS, ident, None, pending)
    if waiter.wait(2 * IMPORTS_S) and pending.answer is not None and pending.answer["left_out"]:
        tell_left_out(pending.answer["left_out"], preload)
