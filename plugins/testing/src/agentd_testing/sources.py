"""`ToolSourceContract`: what every tool source promises, as tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import anyio
import pytest
from agentd.errors import ToolError
from agentd.protocols import ToolSource
from agentd.types import Blob, ToolSpec
from agentd_tools import ToolSet

__all__ = ["RecordingHost", "ToolSourceContract"]


class RecordingHost:
    """A `SourceHost` that keeps what it is told."""

    def __init__(self) -> None:
        self.changes = 0
        self.logged: list[tuple[str, str]] = []

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def log(self, level: str, text: str) -> None:
        """Keep."""
        self.logged.append((level, text))


class ToolSourceContract:
    """Subclass it, say how a source is made and which calls it answers how:

        class TestMySource(ToolSourceContract):
            good_calls = {"convert": ({"amount": 1}, 1.25)}
            bad_calls = {"convert": {"amount": -1}}

            def make_source(self):
                return MySource()

    `good_calls` are arguments and result by the tool's name, `bad_calls` arguments that the tool refuses.
    """

    good_calls: ClassVar[Mapping[str, tuple[dict[str, Any], object]]] = {}
    bad_calls: ClassVar[Mapping[str, dict[str, Any]]] = {}

    def make_source(self) -> ToolSource:
        """Return a new source, not started."""
        pytest.fail("override make_source() in the subclass", pytrace=False)

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Both event loops: a session may run on either."""
        backend = request.param
        assert isinstance(backend, str)
        return backend

    async def _listed(self, source: ToolSource) -> list[ToolSpec]:
        with anyio.fail_after(30):
            return list(await source.list_tools(RecordingHost()))

    async def _close(self, source: ToolSource) -> None:
        with anyio.fail_after(15, shield=True):
            await source.aclose()

    def test_making_a_source_starts_nothing_and_it_has_a_name(self) -> None:
        before = set(threading.enumerate())  # of which some may end meanwhile: other tests were here
        source = self.make_source()
        assert isinstance(source.name, str)
        assert source.name, "a source needs a name: its tools are a skill of that name"
        assert set(threading.enumerate()) <= before, (
            "a source must not start anything before it is asked for its tools"
        )

    @pytest.mark.anyio
    async def test_tools_are_listed_with_names_and_schemas_that_are_json(self) -> None:
        source = self.make_source()
        try:
            specs = await self._listed(source)
            names = [spec.name for spec in specs]
            assert len(set(names)) == len(names), f"two tools share a name: {names}"
            for spec in specs:
                assert isinstance(spec, ToolSpec)
                assert spec.name, "a tool needs a name"
                json.dumps([spec.input_schema, spec.output_schema])
                assert spec.source == source.name, f"{spec.name}: `source` must be the source's name"
            assert set(self.good_calls) <= set(names), "a tool of `good_calls` is not listed"
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_listing_again_gives_the_same(self) -> None:
        source = self.make_source()
        try:
            assert await self._listed(source) == await self._listed(source)
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_calls_give_their_results_and_results_are_json_or_blobs(self) -> None:
        assert self.good_calls, "set `good_calls`: arguments and result by the tool's name"
        source = self.make_source()
        try:
            await self._listed(source)
            for name, (arguments, expected) in self.good_calls.items():
                result = await source.call(name, dict(arguments), lambda done, total, message: None)
                assert result == expected, f"{name}({arguments})"
                json.dumps(result, default=_blob)
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_arguments_are_left_as_they_were(self) -> None:
        source = self.make_source()
        try:
            await self._listed(source)
            for name, (arguments, _) in self.good_calls.items():
                passed = json.loads(json.dumps(arguments))
                await source.call(name, passed)
                assert passed == arguments, f"{name} changed the arguments that it was given"
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_several_calls_run_at_once(self) -> None:
        source = self.make_source()
        results: list[tuple[object, object]] = []

        async def call(name: str, arguments: dict[str, Any], expected: object) -> None:
            results.append((await source.call(name, dict(arguments)), expected))

        try:
            await self._listed(source)
            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    for name, (arguments, expected) in list(self.good_calls.items()) * 4:
                        tasks.start_soon(call, name, arguments, expected)
            assert all(got == wanted for got, wanted in results), (
                "results of calls at the same time were mixed up"
            )
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_what_fails_raises_a_tool_error_with_a_message(self) -> None:
        source = self.make_source()
        try:
            await self._listed(source)
            for name, arguments in self.bad_calls.items():
                with pytest.raises(ToolError) as caught, anyio.fail_after(30):
                    await source.call(name, dict(arguments))
                assert str(caught.value), "the message is what the code reads: say what was wrong"
            with pytest.raises(ToolError), anyio.fail_after(30):
                await source.call("no such tool at all", {})
        finally:
            await self._close(source)

    @pytest.mark.anyio
    async def test_closing_works_twice_and_without_having_been_used(self) -> None:
        source = self.make_source()
        await self._close(source)
        await self._close(source)
        used = self.make_source()
        await self._listed(used)
        await self._close(used)
        await self._close(used)

    @pytest.mark.anyio
    async def test_a_session_s_tool_set_calls_it(self) -> None:
        tools = ToolSet(sources=[self.make_source()])
        try:
            with anyio.fail_after(30):
                await tools.start()
                for name, (arguments, expected) in self.good_calls.items():
                    assert await tools.call(name, arguments) == expected
        finally:
            with anyio.fail_after(15, shield=True):
                await tools.aclose()


def _blob(value: object) -> str:
    assert isinstance(value, Blob), f"{type(value).__name__} is neither JSON nor an agentd.types.Blob"
    return "blob"
