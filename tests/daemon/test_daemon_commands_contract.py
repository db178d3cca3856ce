"""The daemon's commands keep the contract of commands."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, ClassVar

from agentd_testing import CommandContract

VALUES = {point.name: point.value for point in entry_points(group="agentd.commands")}


class TestDaemon(CommandContract):
    command = VALUES["daemon"]


class TestStatus(CommandContract):
    command = VALUES["status"]


class TestApprovals(CommandContract):
    command = VALUES["approvals"]


class TestCheck(CommandContract):
    command = VALUES["check"]


class TestSchema(CommandContract):
    command = VALUES["schema"]
    good_calls: ClassVar[Any] = {(): '"$schema"'}
