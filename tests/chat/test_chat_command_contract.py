"""`agentd chat` keeps the contract of commands."""

from __future__ import annotations

from importlib.metadata import entry_points

from agentd_testing import CommandContract

VALUES = {point.name: point.value for point in entry_points(group="agentd.commands")}


class TestChat(CommandContract):
    command = VALUES["chat"]
