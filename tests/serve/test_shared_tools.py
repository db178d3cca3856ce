"""Sources of tools that all conversations of a server share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest
from agentd.registry import Registry
from agentd.types import ToolSpec
from agentd_serve.shared_tools import SharedTools

pytestmark = pytest.mark.anyio


class Shop:
    """A source that counts what is asked of it."""

    name = "shop"
    instructions = "Buy little."

    def __init__(self) -> None:
        self.listed = 0
        self.closed = 0
        self.host: Any = None

    async def list_tools(self, host: Any = None) -> Sequence[ToolSpec]:
        self.listed += 1
        self.host = host
        return [ToolSpec(name=f"price{self.listed}", description="", input_schema={}, source=self.name)]

    async def call(self, name: str, arguments: Mapping[str, object], on_progress: Any = None) -> object:
        return [name, dict(arguments)]

    async def aclose(self) -> None:
        self.closed += 1


class Sources(Registry):
    def create_tool_sources(self, spec: object, options: Any = None) -> Sequence[Any]:
        return [cast(Any, spec)]


class Host:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def changed(self) -> None:
        self.heard.append("changed")

    def log(self, level: str, text: str) -> None:
        self.heard.append(text)


async def test_a_source_is_asked_once_and_ends_with_the_server_alone() -> None:
    shop = Shop()
    tools = SharedTools(Sources(), [shop])
    await tools.open()
    (one,), (two,) = tools.shares(), tools.shares()
    assert [spec.name for share in (one, two) for spec in await share.list_tools(Host())] == [
        "price1",
        "price1",
    ]
    assert await one.call("price1", {"a": 1}) == ["price1", {"a": 1}]
    assert one.instructions == "Buy little."
    await one.aclose()
    assert (shop.listed, shop.closed) == (1, 0)
    await tools.aclose()
    assert shop.closed == 1


async def test_a_change_is_told_to_all_that_still_work_with_it_and_asked_for_once() -> None:
    shop = Shop()
    tools = SharedTools(Sources(), [shop])
    shares = [tools.shares()[0] for _ in range(3)]
    hosts = [Host() for _ in shares]
    for share, host in zip(shares, hosts, strict=True):
        await share.list_tools(host)
    await shares[2].aclose()
    shop.host.changed()
    shop.host.log("warning", "low stock")
    assert [host.heard for host in hosts] == [["changed", "low stock"]] * 2 + [[]]
    assert {spec.name for share in shares[:2] for spec in await share.list_tools()} == {"price2"}
    await tools.aclose()
