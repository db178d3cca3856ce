"""The example plugins keep the contracts of the testing kit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import pytest
from agentd.types import Block, Limits
from agentd_testing import (
    CommandContract,
    EventSinkContract,
    ExecutorContract,
    ModelContract,
    ParserContract,
    SkillRendererContract,
    SnapshotStoreContract,
    ToolSourceContract,
)

PLUGINS = Path(__file__).resolve().parents[2] / "docs" / "examples" / "plugins"


@pytest.fixture(autouse=True, scope="module")
def importable() -> Iterator[None]:
    """The examples can be imported, as installed ones."""
    sys.path.insert(0, str(PLUGINS))
    yield
    sys.path.remove(str(PLUGINS))


def example(name: str) -> Any:
    return import_module(name)


class TestNice(ExecutorContract):
    def make_executor(self, workspace: Path, *, limits: Limits) -> Any:
        return example("executor_nice").NiceExecutor(workspace, limits=limits)


class TestLine(ParserContract):
    examples: ClassVar[dict[str, Block]] = {"!run ls -l\n": Block("bash", "execute", "ls -l", "bash")}
    parts = ("!run ", "!r", "un ", "!", "\n!run")

    def make_notation(self) -> Any:
        return example("parser_line").agentd_create_parser({})


class TestRates(ToolSourceContract):
    good_calls: ClassVar[Any] = {
        "convert": ({"amount": 10, "source": "USD", "target": "EUR"}, 8.0),
        "currencies": ({}, ["EUR", "USD"]),
    }
    bad_calls: ClassVar[Any] = {"convert": {"amount": 10, "source": "GBP", "target": "EUR"}}

    def make_source(self) -> Any:
        (source,) = example("tools_rates").agentd_create_tool_sources("rates:EUR=1.0,USD=1.25", {})
        return source


class TestIndex(SkillRendererContract):
    def make_renderer(self) -> Any:
        return example("renderer_index").agentd_create_skill_renderer({})


class TestSummary(EventSinkContract):
    def make_sink(self, folder: Path) -> Any:
        return example("sink_summary").agentd_create_event_sink({"path": str(folder / "summary.jsonl")})


class TestEcho(ModelContract):
    call_task = 'call add {"a": 1, "b": 2}'

    def make_model(self) -> Any:
        return example("model_echo").agentd_open_model("echo", {})

    def make_refused_model(self) -> Any:
        return self.make_model()  # without a task, there is nothing to answer


class TestTar(SnapshotStoreContract):
    options: ClassVar[dict[str, Any]] = {}

    def make_store(self, workspace: Path, base_dir: Path, exclude: Callable[[], Sequence[str]]) -> Any:
        create = example("snapshots_tar").agentd_create_snapshot_store
        return create(workspace, base_dir, exclude, self.options)


class TestCompressedTar(TestTar):
    options: ClassVar[dict[str, Any]] = {"compress": True}


class TestHello(CommandContract):
    command = "command_hello:hello"
    good_calls: ClassVar[Any] = {("you",): "Hello, you!", ("--loud",): "HELLO, WORLD!"}
