"""`agentd acp` keeps the contract of commands."""

from __future__ import annotations

from importlib.metadata import entry_points

from agentd_testing import CommandContract

VALUES = {point.name: point.value for point in entry_points(group="agentd.commands")}


class TestAcp(CommandContract):
    command = VALUES["acp"]
