"""The REPL: a person talks with the agents of a running daemon, while what they do scrolls by above the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agentd.errors import MissingPluginError

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

    from agentd_daemon.control import Control

__all__ = ["run_repl"]


async def run_repl(
    control: Control,
    *,
    input: Input | None = None,
    output: Output | None = None,
    agent: str | None = None,
    history_file: Path | None = None,
) -> None:
    """Talk with a person until they quit, then call `control.stop()`. Cancelling it gives the terminal back.

    :param control: the daemon.
    :param input: where keys come from (default: standard input, which must be a terminal; see `prompt_possible`).
    :param output: the terminal to draw on (default: standard output).
    :param agent: the agent to talk with first (default: the first one).
    :param history_file: keeps what was typed for the next time, with mode 0600; None keeps nothing.
    :raises MissingPluginError: if prompt_toolkit is not installed; the message has the pip command.
    """
    try:
        import prompt_toolkit  # noqa: F401
    except ImportError as exc:
        raise MissingPluginError("the REPL", "agentd-daemon[prompt]") from exc
    from agentd_daemon.repl.loop import Repl

    await Repl(control, input=input, output=output, agent=agent, history_file=history_file).run()
