"""The server behind `agentd mcp` in the conformance suite: the tools, prompts and resources that its scenarios call.

The suite's README lists them ("SDK integration"); each scenario's description says what one has to do. Served over
standard input and output by the MCP SDK.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, MCPServer, RequestStateSecurity
from mcp.server.mcpserver.prompts.base import Prompt, UserMessage
from mcp.shared.exceptions import MCPError
from mcp_types import (
    MISSING_REQUIRED_CLIENT_CAPABILITY,
    AudioContent,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    ElicitRequest,
    ElicitRequestFormParams,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequest,
    InputRequiredResult,
    ListRootsRequest,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="
STATE_KEY = b"a key of the conformance tests' own, no secret"

server = MCPServer(
    name="conformance", version="1", request_state_security=RequestStateSecurity(keys=[STATE_KEY])
)


# --- tools: what comes back ------------------------------------------------------------------------


@server.tool()
def test_simple_text() -> str:
    """A text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> list[ImageContent]:
    """An image."""
    return [ImageContent(data=PNG, mime_type="image/png")]


@server.tool()
def test_audio_content() -> list[AudioContent]:
    """A sound."""
    return [AudioContent(data=WAV, mime_type="audio/wav")]


def _embedded(uri: str, text: str, mime_type: str = "text/plain") -> EmbeddedResource:
    return EmbeddedResource(resource=TextResourceContents(uri=uri, mime_type=mime_type, text=text))


@server.tool()
def test_embedded_resource() -> list[EmbeddedResource]:
    """A resource within a result."""
    return [_embedded("test://embedded-resource", "This is an embedded resource content.")]


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Several kinds of content."""
    return [
        TextContent(text="Multiple content types test:"),
        ImageContent(data=PNG, mime_type="image/png"),
        _embedded("test://mixed-content-resource", '{"test": "data", "value": 123}', "application/json"),
    ]


@server.tool()
def test_error_handling() -> str:
    """Always fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three messages."""
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(text)  # type: ignore[deprecated]
    return "Tool with logging executed successfully"


@server.tool()
async def test_logging_tool(ctx: Context) -> str:
    """Logs a message."""
    await ctx.info("logged")  # type: ignore[deprecated]
    return "done"


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress three times."""
    for done in (0, 50, 100):
        await ctx.report_progress(progress=done, total=100, message=f"Completed step {done} of 100")
    return "done"


@server.tool()
async def test_reconnection(ctx: Context) -> str:
    """Ends the stream of its answer before the answer."""
    await ctx.close_sse_stream()
    return "Reconnection test completed"


@server.tool()
def test_x_mcp_header(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})],
) -> str:
    """Has an argument that goes into a header, too."""
    return f"region={region}"


@server.tool(name="json_schema_2020_12_tool")
def json_schema_tool() -> str:
    """Has a schema with all that a JSON Schema may have."""
    return "called"


server._tool_manager._tools["json_schema_2020_12_tool"].parameters = {  # the SDK has no way to give a schema
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


# --- tools that ask, while they work (up to 2025-11-25) ------------------------------------------------


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(text=prompt))
    result = await ctx.session.create_message(  # type: ignore[deprecated]
        messages=[message], max_tokens=100, related_request_id=ctx.request_id
    )
    return f"LLM response: {getattr(result.content, 'text', result.content)}"


class Response(BaseModel):
    """One text."""

    response: str = Field(description="User's response")


class Defaults(BaseModel):
    """A value of each kind, with a default (SEP-1034)."""

    name: str = Field(default="John Doe")
    age: int = Field(default=30)
    score: float = Field(default=95.5)
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})
    verified: bool = Field(default=True)


_LEVELS = [{"const": "low", "title": "Low Priority"}, {"const": "high", "title": "High Priority"}]
_TOPICS = {"anyOf": [{"const": "bug", "title": "Bug Fix"}, {"const": "docs", "title": "Documentation"}]}


class Choices(BaseModel):
    """A choice of each form (SEP-1330)."""

    untitledSingle: str = Field(json_schema_extra={"enum": ["active", "inactive", "pending"]})
    titledSingle: str = Field(json_schema_extra={"oneOf": _LEVELS})  # type: ignore[dict-item]
    untitledMulti: list[str] = Field(
        json_schema_extra={"items": {"type": "string", "enum": ["read", "write", "execute"]}}
    )
    titledMulti: list[str] = Field(json_schema_extra={"items": _TOPICS})  # type: ignore[dict-item]
    legacyEnum: str = Field(
        json_schema_extra={"enum": ["small", "large"], "enumNames": ["Small Size", "Large Size"]}
    )


async def _elicited(ctx: Context, message: str, schema: type[BaseModel]) -> str:
    result = await ctx.elicit(message=message, schema=schema)
    content = result.data.model_dump_json() if result.action == "accept" else "{}"
    return f"action={result.action}, content={content}"


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the person for a text."""
    return f"User response: {await _elicited(ctx, message, Response)}"


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks the person, with defaults."""
    return f"Elicitation completed: {await _elicited(ctx, 'Please provide user information', Defaults)}"


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks the person to choose."""
    return f"Elicitation completed: {await _elicited(ctx, 'Please select values', Choices)}"


# --- tools that ask in rounds (2026-07-28, SEP-2322) ----------------------------------------------------


def _form(message: str, **properties: Any) -> ElicitRequest:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _name(message: str = "What is your name?") -> ElicitRequest:
    return _form(message, name={"type": "string"})


def _sample(text: str) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=TextContent(text=text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=100))


def _content(answer: Any) -> dict[str, Any]:
    return getattr(answer, "content", None) or {}


@server.tool()
async def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Asks for a name."""
    given = ctx.input_responses or {}
    if "user_name" in given:
        return f"Hello, {_content(given['user_name']).get('name')}!"
    return InputRequiredResult(input_requests={"user_name": _name()})


@server.tool()
async def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """Asks the client's model."""
    given = ctx.input_responses or {}
    if "capital_question" in given:
        return f"Model said: {_content(given['capital_question'])}"
    return InputRequiredResult(input_requests={"capital_question": _sample("What is the capital of France?")})


@server.tool()
async def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """Asks for the client's directories."""
    given = ctx.input_responses or {}
    if "client_roots" in given:
        return f"The roots: {[str(root.uri) for root in given['client_roots'].roots]}"  # type: ignore[union-attr]
    return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})


@server.tool()
async def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """Asks, with a state of its own."""
    if "confirm" in (ctx.input_responses or {}) and ctx.request_state == "a state":
        return "state-ok: confirmation received"
    confirm = _form("Please confirm", ok={"type": "boolean"})
    return InputRequiredResult(input_requests={"confirm": confirm}, request_state="a state")


@server.tool()
async def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Asks three things at once."""
    wanted: dict[str, InputRequest] = {
        "user_name": _name(),
        "greeting": _sample("Generate a greeting"),
        "client_roots": ListRootsRequest(),
    }
    if wanted.keys() <= (ctx.input_responses or {}).keys():
        return "All inputs received."
    return InputRequiredResult(input_requests=wanted, request_state="several")


@server.tool()
async def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Asks twice, one after the other."""
    known = json.loads(ctx.request_state or "{}")
    given = ctx.input_responses or {}
    if "step2" in given:
        return f"{known.get('name')} likes {_content(given['step2']).get('color')}."
    if "step1" in given:
        color = _form("Step 2: What is your favorite color?", color={"type": "string"})
        state = json.dumps({"name": _content(given["step1"]).get("name")})
        return InputRequiredResult(input_requests={"step2": color}, request_state=state)
    step1 = _name("Step 1: What is your name?")
    return InputRequiredResult(input_requests={"step1": step1}, request_state="{}")


@server.tool()
async def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """Asks with a state, which must come back as it was."""
    if ctx.request_state is not None:
        return f"state-ok: {ctx.request_state}"
    confirm = _form("Please confirm", ok={"type": "boolean"})
    return InputRequiredResult(input_requests={"confirm": confirm}, request_state="round-1")


@server.tool()
async def test_input_required_result_capabilities(ctx: Context) -> InputRequiredResult:
    """Asks what the client can be asked, and nothing else."""
    able = ctx.client_capabilities
    wanted: dict[str, InputRequest] = {}
    if able is None or able.sampling is not None:
        wanted["sample"] = _sample("Say hello")
    if able is None or able.elicitation is not None:
        wanted["ask"] = _name()
    return InputRequiredResult(input_requests=wanted, request_state="capabilities")


@server.tool()
async def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Reports progress and asks then."""
    if "user_name" in (ctx.input_responses or {}):
        return "answered"
    await ctx.report_progress(progress=1, total=2)
    return InputRequiredResult(input_requests={"user_name": _name()})


@server.tool()
async def test_missing_capability(ctx: Context) -> str:
    """Needs a client with sampling."""
    able = ctx.session.client_capabilities
    if able is None or able.sampling is None:
        raise MCPError(
            MISSING_REQUIRED_CLIENT_CAPABILITY,
            "this tool needs the client's sampling",
            {"requiredCapabilities": {"sampling": {}}},
        )
    return "the client has sampling"


# --- lists that change ---------------------------------------------------------------------------------


def _passing() -> str:
    """There for a moment."""
    return "here"


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """Has one more tool for a moment."""
    server.add_tool(_passing, name="test_dynamic_tool")
    server.remove_tool("test_dynamic_tool")
    await ctx.notify_tools_changed()
    return "told"


@server.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """Has one more prompt for a moment."""
    server.add_prompt(Prompt.from_function(_passing, name="test_dynamic_prompt"))
    server.remove_prompt("test_dynamic_prompt")
    await ctx.notify_prompts_changed()
    return "told"


# --- resources -----------------------------------------------------------------------------------------


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """A text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image."""
    from base64 import b64decode

    return b64decode(PNG)


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """One of many."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.resource("test://watched-resource", mime_type="text/plain")
def watched() -> str:
    """What can be subscribed to."""
    return "Watched resource content"


async def subscribe(_: ServerRequestContext[Any], params: SubscribeRequestParams) -> EmptyResult:
    """Take a subscription."""
    return EmptyResult()


async def unsubscribe(_: ServerRequestContext[Any], params: UnsubscribeRequestParams) -> EmptyResult:
    """End it."""
    return EmptyResult()


async def set_level(_: ServerRequestContext[Any], params: SetLevelRequestParams) -> EmptyResult:
    """Take a level."""
    return EmptyResult()


for _method, _params, _handler in (
    ("resources/subscribe", SubscribeRequestParams, subscribe),
    ("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe),
    ("logging/setLevel", SetLevelRequestParams, set_level),
):
    server._lowlevel_server.add_request_handler(
        _method, _params, _handler
    )  # the SDK's class has no other way


# --- prompts -------------------------------------------------------------------------------------------


def _said(text: str) -> UserMessage:
    return UserMessage(content=TextContent(text=text))


@server.prompt()
def test_simple_prompt() -> list[UserMessage]:
    """A prompt without arguments."""
    return [_said("This is a simple prompt for testing.")]


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> list[UserMessage]:
    """A prompt with arguments."""
    return [_said(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
    """A prompt with a resource."""
    resource = _embedded(resourceUri, "Embedded resource content for testing.")
    return [UserMessage(content=resource), _said("Please process the embedded resource above.")]


@server.prompt()
def test_prompt_with_image() -> list[UserMessage]:
    """A prompt with an image."""
    image = ImageContent(data=PNG, mime_type="image/png")
    return [UserMessage(content=image), _said("Please analyze the image above.")]


@server.prompt()
async def test_input_required_result_prompt(ctx: Context) -> list[UserMessage] | InputRequiredResult:
    """A prompt that asks something first."""
    given = ctx.input_responses or {}
    if "user_context" in given:
        return [_said(f"Use the following context: {_content(given['user_context']).get('context')}")]
    wanted = _form("What context should the prompt use?", context={"type": "string"})
    return InputRequiredResult(input_requests={"user_context": wanted})


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Completion:
    """Complete an argument."""
    values = [word for word in ("test1", "test2", "paris", "park") if word.startswith(argument.value)]
    return Completion(values=values, total=len(values), has_more=False)


if __name__ == "__main__":
    server.run()
