"""Resources and prompts as tools: which server is meant, and what is said when that is not clear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from agentd.errors import ToolError, ToolInputError
from agentd.events import SourceLog
from agentd.protocols import OnProgress, SourceHost
from agentd.types import Blob, ToolSpec
from agentd_tools import ToolSet


class Library:
    """A source with resources, templates and prompts."""

    def __init__(
        self,
        name: str,
        *,
        resources: Mapping[str, object] | None = None,
        templates: Sequence[str] = (),
        prompts: Sequence[str] = (),
        tools: Sequence[str] = (),
        hidden: Mapping[str, object] | None = None,
        broken: bool = False,
    ) -> None:
        self.name = name
        self.resources = dict(resources or {})
        self.templates = templates
        self.prompts = prompts
        self.tools = tools
        self.hidden = dict(hidden or {})
        self.broken = broken
        self.asked: list[str] = []

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        return [ToolSpec(name=n) for n in self.tools]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        return f"{self.name}.{name}"

    async def aclose(self) -> None: ...

    async def list_resources(self) -> Sequence[Mapping[str, object]]:
        self.asked.append("resources")
        if self.broken:
            raise ToolError("out of order")
        return [{"uri": uri, "name": uri[-1]} for uri in self.resources]

    async def list_resource_templates(self) -> Sequence[Mapping[str, object]]:
        return [{"uriTemplate": t, "name": "t"} for t in self.templates]

    async def read_resource(self, uri: str) -> object:
        self.asked.append(uri)
        for known in (self.resources, self.hidden):
            if uri in known:
                return known[uri]
        if any(uri.startswith(t.partition("{")[0]) for t in self.templates):
            return f"{self.name}: {uri}"
        raise ToolError(f"no resource {uri}")

    async def list_prompts(self) -> Sequence[Mapping[str, object]]:
        return [{"name": p, "description": "d", "arguments": []} for p in self.prompts]

    async def get_prompt(self, name: str, arguments: Mapping[str, str]) -> object:
        return [{"role": "user", "content": f"{self.name}: {name} {dict(arguments)}"}]


async def opened(*sources: Any, **settings: Any) -> ToolSet:
    tools = ToolSet([], sources, **settings)
    await tools.start()
    return tools


NAMES = ["list_resources", "list_resource_templates", "read_resource", "list_prompts", "get_prompt"]


@pytest.mark.anyio
async def test_resources_and_prompts_become_five_tools_of_one_source(anyio_backend: str) -> None:
    png = Blob(b"\x89PNG", "image/png", "img://a")
    tools = await opened(
        Library("a", resources={"doc://1": "text", "img://a": png}, prompts=["greet"]), Library("b")
    )
    assert [(b.python_name, b.spec.source) for b in tools.bindings] == [(n, "resources") for n in NAMES]
    assert await tools.call("list_resources", {}) == [
        {"uri": "doc://1", "name": "1", "server": "a"},
        {"uri": "img://a", "name": "a", "server": "a"},
    ]
    assert await tools.call("list_resources", {"server": "b"}) == []
    assert await tools.call("read_resource", {"uri": "doc://1"}) == "text"
    picture = await tools.call("read_resource", {"uri": "img://a"})
    assert isinstance(picture, Blob)
    assert (picture, picture.mime_type, picture.uri) == (png, "image/png", "img://a")
    assert await tools.call("get_prompt", {"name": "greet", "arguments": {"who": "Ann"}}) == [
        {"role": "user", "content": "a: greet {'who': 'Ann'}"}
    ]


@pytest.mark.anyio
async def test_without_resources_and_prompts_there_are_no_such_tools(anyio_backend: str) -> None:
    plain = Library("plain", tools=["x"])
    tools = await opened(plain, Library("broken", broken=True))
    assert [b.python_name for b in tools.bindings] == ["x"]
    plain.prompts = ["late"]
    assert await tools.refresh()
    assert [b.python_name for b in tools.bindings] == [*NAMES, "x"]
    plain.prompts = []
    assert not await tools.refresh(), "once there, they stay"


@pytest.mark.anyio
async def test_their_names_stay_when_a_server_has_tools_of_the_same_names(anyio_backend: str) -> None:
    tools = await opened(
        Library("a", prompts=["p"], tools=["read_resource"]), Library("resources", tools=["y"])
    )
    found = {b.python_name: b.spec.source for b in tools.bindings}
    assert found["read_resource"] == "resources"
    assert found["a_read_resource"] == "a"
    assert found["y"] == "resources-2", "a server cannot pose as the built-in source"
    assert await tools.call("a_read_resource", {}) == "a.read_resource"


@pytest.mark.anyio
async def test_the_server_is_found_by_its_list_then_by_its_templates_then_by_trying(
    anyio_backend: str,
) -> None:
    a = Library("a", resources={"doc://1": "one"}, templates=["db://users/{id}/{name*}"])
    b = Library("b", resources={"doc://2": "two"}, templates=["file:///{path}"], hidden={"odd:x": "found"})
    tools = await opened(a, b)
    assert await tools.call("read_resource", {"uri": "doc://2"}) == "two"
    assert await tools.call("read_resource", {"uri": "db://users/7/ann"}) == "a: db://users/7/ann"
    assert await tools.call("read_resource", {"uri": "file:///a/b"}) == "b: file:///a/b"
    assert "file:///a/b" not in a.asked
    assert await tools.call("read_resource", {"uri": "odd:x"}) == "found"
    with pytest.raises(
        ToolError, match="no server could read 'odd:y': a: no resource odd:y; b: no resource odd:y"
    ):
        await tools.call("read_resource", {"uri": "odd:y"})


@pytest.mark.anyio
async def test_what_several_servers_have_must_be_asked_of_one(anyio_backend: str) -> None:
    tools = await opened(
        Library("a", resources={"doc://1": "A"}, prompts=["p"], hidden={"odd:x": 1}),
        Library("b", resources={"doc://1": "B"}, prompts=["p", "only"], hidden={"odd:x": 2}),
    )
    for call, message in (
        (
            ("read_resource", {"uri": "doc://1"}),
            "have the resource 'doc://1': 'a', 'b'; say which: server='a'",
        ),
        (("read_resource", {"uri": "odd:x"}), "have the resource 'odd:x': 'a', 'b'"),
        (("get_prompt", {"name": "p"}), "have the prompt 'p': 'a', 'b'"),
        (
            ("get_prompt", {"name": "pq"}),
            "no server has a prompt 'pq'; there are: p, p, only; did you mean 'p'",
        ),
        (("list_prompts", {"server": "c"}), "no server 'c' has resources or prompts; there are: 'a', 'b'"),
    ):
        with pytest.raises(ToolError) as caught:
            await tools.call(*call)
        assert message in str(caught.value)
    assert await tools.call("read_resource", {"uri": "doc://1", "server": "b"}) == "B"
    assert await tools.call("get_prompt", {"name": "only"}) == [{"role": "user", "content": "b: only {}"}]


@pytest.mark.anyio
async def test_a_server_that_fails_is_left_out_of_lists_with_a_log_message(anyio_backend: str) -> None:
    logs: list[SourceLog] = []

    def note(event: object) -> None:
        assert isinstance(event, SourceLog)
        logs.append(event)

    tools = await opened(Library("a", resources={"d:1": "x"}), Library("b", broken=True), on_event=note)
    assert [r["server"] for r in await tools.call("list_resources", {})] == ["a"]  # type: ignore[attr-defined]
    assert [(e.source, e.level) for e in logs] == [("b", "warning")]
    assert "out of order" in logs[0].text
    with pytest.raises(ToolError, match=r"list_resources\(\): b: out of order"):
        await tools.call("list_resources", {"server": "b"})


@pytest.mark.anyio
async def test_wrong_arguments_are_told_before_a_server_is_asked(anyio_backend: str) -> None:
    tools = await opened(Library("a", prompts=["p"]))
    wrong: list[tuple[str, dict[str, object], str]] = [
        ("read_resource", {"uri": 7}, "argument 'uri': expected a text, got 7"),
        ("read_resource", {}, "argument 'uri' is missing"),
        ("list_prompts", {"server": []}, "argument 'server': expected a text"),
        (
            "get_prompt",
            {"name": "p", "arguments": {"n": 1}},
            "'arguments.n': a prompt takes texts alone, got int",
        ),
    ]
    for name, arguments, message in wrong:
        with pytest.raises(ToolInputError) as caught:
            await tools.call(name, arguments)
        assert message in str(caught.value)
