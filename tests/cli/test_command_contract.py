"""The commands of agentd-cli keep the contract of commands."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, ClassVar

from agentd_testing import CommandContract

VALUES = {point.name: point.value for point in entry_points(group="agentd.commands")}


class TestRun(CommandContract):
    command = VALUES["run"]


class TestPlugins(CommandContract):
    command = VALUES["plugins"]
    good_calls: ClassVar[Any] = {("--kind", "parser", "--json"): '"fence"'}


class TestConfig(CommandContract):
    command = VALUES["config"]
    good_calls: ClassVar[Any] = {("--json", "--cwd", "/"): '"user_file"'}


class TestDoctor(CommandContract):
    command = VALUES["doctor"]


class TestCompletion(CommandContract):
    command = VALUES["completion"]
    good_calls: ClassVar[Any] = {("bash",): "_AGENTD_COMPLETE"}
