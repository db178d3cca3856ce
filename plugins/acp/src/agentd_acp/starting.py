"""What is wrong with the command line is told at the start: an editor shows a session's errors late, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agentd_cli.trial import check_executor, try_plugin

from agentd_acp.modes import PolicyModes

if TYPE_CHECKING:
    from agentd_acp.agent import SessionChoice

__all__ = ["check_choice"]


def check_choice(choice: SessionChoice, folder: Path, *, is_model_named: bool) -> None:
    """Make what a session is made of, and start nothing.

    :param folder: where it would work.
    :param is_model_named: its model is the command line's; any other may be another one in another folder.
    :raises AgentdError: what a session would raise.
    """
    PolicyModes(choice.policy, folder)
    given = choice.talk.session
    registry = given["registry"]
    if choice.talk.mode == "ptc":
        try_plugin(registry, "executor", given["executor"])
        check_executor(registry, given["executor"])
        try_plugin(registry, "skill_renderer", given["renderer"])
        registry.create_notations(given["parsers"])
    for source in [*given["tools"], *given["mcp_servers"]]:
        registry.create_tool_sources(source)
    if is_model_named:
        settings = {name: given[name] for name in ("base_url", "api") if given[name] is not None}
        try_plugin(registry, "model", given["model"], settings=settings)
