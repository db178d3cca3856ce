"""The command `escape-test` keeps the contract of commands."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, ClassVar

from agentd_testing import CommandContract

VALUES = {point.name: point.value for point in entry_points(group="agentd.commands")}


class TestEscapeTest(CommandContract):
    command = VALUES["escape-test"]
    good_calls: ClassVar[Any] = {("--list",): "files/new-file-outside"}
