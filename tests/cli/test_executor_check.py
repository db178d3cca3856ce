"""Whether an executor that is named runs here, as servers ask when they start."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from agentd.errors import ConfigError
from agentd.protocols import Requirement
from agentd.registry import Registry
from agentd_cli.trial import check_executor


class WaryRegistry(Registry):
    """Every executor says that something is missing."""

    def requirements(self, kind: str, name: str) -> Sequence[Requirement]:
        return [Requirement(name="a program", ok=False, remedy="install it")]


class SureRegistry(Registry):
    """No executor says so, and none may be made."""

    def requirements(self, kind: str, name: str) -> Sequence[Requirement]:
        return [Requirement(name="speed", ok=False, optional=True), Requirement(name="bash", ok=True)]

    def create_executor(self, *arguments: object, **options: object) -> None:  # type: ignore[override]
        raise AssertionError("nothing is missing")


def test_an_executor_that_works_all_the_same_is_let_be() -> None:
    check_executor(WaryRegistry(), "subprocess")


def test_an_executor_of_which_nothing_is_missing_is_not_made() -> None:
    check_executor(SureRegistry(), ("subprocess", {}))


def test_an_executor_that_does_not_work_is_told_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTD_SRT", "/no/srt")
    with pytest.raises(ConfigError, match=r"^the executor 'srt' does not work: .*; `agentd doctor` lists"):
        check_executor(Registry(), "srt")
