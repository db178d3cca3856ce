"""The command `agentd`, also as `python -m agentd`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from agentd.cli.main import run_command_line

    sys.exit(run_command_line())


if __name__ == "__main__":
    main()
