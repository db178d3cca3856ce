"""server-everything, the reference for all that a server can do, from Python blocks and over every transport."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(120)]

ARGUMENTS = {
    "echo": "message='hello'",
    "get_annotated_message": "messageType='error', includeImage=True",
    "get_resource_links": "count=2",
    "get_resource_reference": "resourceType='Text', resourceId=1",
    "get_structured_content": "location='Chicago'",
    "get_sum": "a=2, b=3",
    "gzip_file_as_resource": "name='x.gz', data='data:text/plain,hello', outputType='resource'",
    "trigger_long_running_operation": "duration=0.2, steps=2",
    "simulate_research_query": "topic='agents', ambiguous=True",  # a task that asks a question on its way
    "trigger_sampling_request": "prompt='Say hello', maxTokens=50",
    "trigger_url_elicitation": "url='https://example.org/', elicitationId='1'",
}


@pytest.fixture
def anyio_backend() -> str:
    """One loop is enough here: connections live on a loop of their own."""
    return "asyncio"


def sampled(request: dict[str, Any]) -> str:
    return f"the model of {request['server']} says hello"


def answered(request: dict[str, Any]) -> dict[str, Any] | bool:
    """Fill in a form with the first thing that fits."""
    if request["mode"] == "url":
        return True
    content: dict[str, Any] = {}
    for name, schema in request["schema"]["properties"].items():
        if name not in request["schema"].get("required", []):
            continue
        choices = schema.get("enum") or [c["const"] for c in schema.get("oneOf", [])]
        content[name] = choices[0] if choices else {"string": "Ada", "boolean": True}.get(schema["type"], 42)
    return content


async def test_every_tool_can_be_called_from_a_python_block(
    working: Callable[..., Any], everything: dict[str, Any]
) -> None:
    everything |= {"elicitation": answered, "sampling": sampled, "roots": ["/"]}
    async with working(everything) as world:
        tools = await _settled_tools(world)
        assert len(tools) == 17
        if not everything.get("url", "").endswith("/mcp"):
            tools.remove("simulate_research_query")  # takes 4 s; one transport is enough
        printed = await world.python(
            f"""
            import inspect, json, threading
            import lib.tools
            arguments = {ARGUMENTS!r}
            results = {{}}
            def call(name):
                try:
                    results[name] = repr(eval(f"lib.tools.{{name}}({{arguments.get(name, '')}})"))
                except Exception as error:
                    results[name] = f"FAILED {{type(error).__name__}}: {{error}}"
            threads = [threading.Thread(target=call, args=(name,)) for name in {sorted(tools)!r}]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            lib.tools.toggle_simulated_logging()  # off again: their clocks keep the server from ending
            lib.tools.toggle_subscriber_updates()
            print(json.dumps(results))
            """
        )
    results = json.loads(printed)
    assert results.keys() == tools
    assert not {name: text for name, text in results.items() if text.startswith("FAILED")}
    assert "the model of everything says hello" in results["trigger_sampling_request"]
    assert "Ada" in results["trigger_elicitation_request"]
    if "simulate_research_query" in results:
        assert "Research Report: agents (technical)" in results["simulate_research_query"]


async def test_results_arrive_as_python_values(
    working: Callable[..., Any], everything: dict[str, Any]
) -> None:
    async with working(everything) as world:
        printed = await world.python(
            """
            import gzip
            from lib.tools import (
                echo, get_annotated_message, get_resource_links, get_resource_reference, get_structured_content,
                get_sum, get_tiny_image, gzip_file_as_resource,
            )
            assert echo(message="42") == "Echo: 42"
            text, image = get_annotated_message(messageType="success", includeImage=True)
            assert isinstance(text, str) and isinstance(image, bytes)
            assert image.mime_type == "image/png" and image.startswith(b"\\x89PNG")
            assert any(isinstance(part, bytes) and part.startswith(b"\\x89PNG") for part in get_tiny_image())
            weather = get_structured_content(location="New York")
            assert set(weather) == {"temperature", "conditions", "humidity"}, weather
            assert isinstance(weather["temperature"], (int, float))
            assert any("Resource 1" in str(part) for part in get_resource_reference(resourceType="Text"))
            blobs = [p for p in get_resource_reference(resourceType="Blob") if isinstance(p, bytes)]
            assert blobs and blobs[0].uri.startswith("demo://resource/dynamic/blob/"), blobs
            links = [part for part in get_resource_links(count=2) if isinstance(part, dict)]
            assert len(links) == 2 and links[0]["type"] == "resource_link"
            zipped = gzip_file_as_resource(name="a.gz", data="data:text/plain,hello", outputType="resource")
            assert gzip.decompress(zipped) == b"hello"
            assert "5" in get_sum(a=2, b=3)
            print("all good")
            """
        )
    assert printed == "all good\n"


async def test_a_wrong_argument_is_an_error_that_the_code_can_catch(
    working: Callable[..., Any], everything: dict[str, Any]
) -> None:
    async with working(everything) as world:
        printed = await world.python(
            """
            from lib.tools import ToolError, get_structured_content
            try:
                get_structured_content(location="Atlantis")
            except ToolError as error:
                print("refused:", "New York" in str(error))
            """
        )
    assert printed == "refused: True\n"


async def test_progress_and_log_messages_become_events(
    working: Callable[..., Any], everything: dict[str, Any]
) -> None:
    async with working(everything) as world:
        await world.python(
            """
            from lib.tools import toggle_simulated_logging, trigger_long_running_operation
            print(toggle_simulated_logging())
            print(trigger_long_running_operation(duration=0.4, steps=4))
            print(toggle_simulated_logging())  # or its clock keeps the server from ending
            """
        )
        progress = [(e.done, e.total) for e in world.of("tool_progress")]
        logs = world.of("source_log")
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert logs
    assert logs[0].source == "everything"


async def test_resources_and_prompts_are_modules_of_lib(
    working: Callable[..., Any], everything: dict[str, Any]
) -> None:
    async with working(everything) as world:
        printed = await world.python(
            """
            from lib import prompts, resources
            uris = [r["uri"] for r in resources.list()]
            assert "demo://resource/static/document/features.md" in uris, uris
            assert "# " in resources.read(uris[0])
            blob = resources.read("demo://resource/dynamic/blob/1")
            assert isinstance(blob, bytes) and b"Resource 1" in blob
            assert len(resources.templates()) == 2
            names = [p["name"] for p in prompts.list()]
            assert "args-prompt" in names, names
            (message,) = prompts.get("args-prompt", {"city": "Paris"})
            assert message["role"] == "user" and "Paris" in message["content"]
            print("all good")
            """
        )
    assert printed == "all good\n"


async def test_a_session_resource_that_a_tool_made_can_be_read(
    working: Callable[..., Any], everything: dict[str, Any]
) -> None:
    async with working(everything) as world:
        printed = await world.python(
            """
            import gzip
            from lib import resources
            from lib.tools import gzip_file_as_resource
            link = gzip_file_as_resource(name="later.gz", data="data:text/plain,later")
            print(gzip.decompress(resources.read(link["uri"])))
            """
        )
    assert printed == "b'later'\n"


async def test_without_callbacks_the_server_offers_no_tools_that_need_them(
    working: Callable[..., Any], everything_stdio: dict[str, Any]
) -> None:
    async with working(everything_stdio) as world:
        names = {spec.name for spec in world.bench.tools.specs()}
    assert "echo" in names
    assert not [name for name in names if "sampling" in name or "elicitation" in name]


async def test_a_declined_question_reaches_the_code_as_the_servers_answer(
    working: Callable[..., Any], everything_stdio: dict[str, Any]
) -> None:
    everything_stdio |= {"elicitation": lambda request: None}
    async with working(everything_stdio) as world:
        await _settled_tools(world)
        printed = await world.python("from lib.tools import trigger_elicitation_request as t\nprint(t())")
    assert "declined" in printed


async def _settled_tools(world: Any) -> set[str]:
    """Return the Python names once the server has added (list_changed) the tools that need callbacks."""
    import anyio

    with anyio.fail_after(20):
        while True:
            await world.bench.prepare()
            names = {binding.python_name for binding in world.bench.tools.bindings}
            if any("elicitation" in name for name in names):
                return {b.python_name for b in world.bench.tools.bindings if b.spec.source == "everything"}
            await anyio.sleep(0.02)
