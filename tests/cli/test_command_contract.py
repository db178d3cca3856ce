"""The commands of the official distributions keep the contract of commands."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, ClassVar

from agentd.registry.official import OFFICIAL_PLUGINS
from agentd_testing import CommandContract

VALUES = {point.name: point.value for point in entry_points(group="agentd.commands")}


class TestRun(CommandContract):
    command = VALUES["run"]


class TestPlugins(CommandContract):
    command = VALUES["plugins"]
    good_calls: ClassVar[Any] = {("--kind", "parser", "--json"): '"fence"'}


class TestDoctor(CommandContract):
    command = VALUES["doctor"]


class TestCompletion(CommandContract):
    command = VALUES["completion"]
    good_calls: ClassVar[Any] = {("bash",): "_AGENTD_COMPLETE"}


class TestDemo(CommandContract):
    command = VALUES["demo"]


class TestDaemon(CommandContract):
    command = VALUES["daemon"]


class TestStatus(CommandContract):
    command = VALUES["status"]


class TestCheck(CommandContract):
    command = VALUES["check"]


class TestSchema(CommandContract):
    command = VALUES["schema"]
    good_calls: ClassVar[Any] = {(): '"$schema"'}


class TestEscapeTest(CommandContract):
    command = VALUES["escape-test"]
    good_calls: ClassVar[Any] = {("--list",): "files/new-file-outside"}


def test_every_official_command_is_tested_here() -> None:
    tested = {one.command for one in CommandContract.__subclasses__() if one.__module__ == __name__}
    official = {VALUES[name] for kind, name in OFFICIAL_PLUGINS if kind == "command" and name in VALUES}
    assert official <= tested
