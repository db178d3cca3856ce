"""The command `agentd`, also as `python -m agentd`.

agentd-cli brings the command line. Without it there is one command, `agentd plugins`, which says what to install.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(_command_line()())


def _command_line() -> Callable[[], int]:
    """Return agentd-cli's command line, else core's own. Reads the metadata of that one distribution: to
    look at all that are installed takes longer than `agentd --version` may."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        for point in distribution("agentd-cli").entry_points.select(group="agentd.command_line"):
            found: Callable[[], int] = point.load()
            return found
    except PackageNotFoundError:
        pass
    from agentd.registry.command import run_command_line

    return run_command_line


if __name__ == "__main__":
    main()
