"""The program that the MCP project's conformance suite drives: agentd's MCP bridge behind a command line.

The suite starts it with the server's URL as last argument, the scenario's name in MCP_CONFORMANCE_SCENARIO and
what a scenario needs beside (credentials, calls to make) as JSON in MCP_CONFORMANCE_CONTEXT.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import anyio
from agentd.errors import ToolError
from agentd_mcp_bridge.config import HttpTarget, ServerConfig
from agentd_mcp_bridge.oauth import OAuthSettings
from agentd_mcp_bridge.providers import make_auth
from agentd_mcp_bridge.source import McpSource

CONTEXT: Mapping[str, Any] = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
METADATA_URL = "https://conformance-test.local/client-metadata.json"


# --- what a client does once it is connected -----------------------------------------------------


async def call_all(source: McpSource) -> None:
    """List the tools and call each, with arguments that fit its schema."""
    for spec in await source.list_tools():
        print(spec.name, "->", await source.call(spec.name, sample(spec.input_schema)))


async def list_only(source: McpSource) -> None:
    """List the tools."""
    print([spec.name for spec in await source.list_tools()])


async def read_everything(source: McpSource) -> None:
    """Use tools, resources and prompts."""
    await call_all(source)
    for resource in await source.list_resources():
        print(await source.read_resource(str(resource["uri"])))
    for prompt in await source.list_prompts():
        print(await source.get_prompt(str(prompt["name"]), {}))


async def call_side_by_side(source: McpSource) -> None:
    """Call all tools at the same time: what one asks for must not get into another's request."""
    specs = await source.list_tools()
    async with anyio.create_task_group() as group:
        for spec in specs:
            group.start_soon(source.call, spec.name, {})


async def call_as_told(source: McpSource) -> None:
    """Make the calls that the scenario lists."""
    await source.list_tools()
    for call in CONTEXT["toolCalls"]:
        print(await source.call(call["name"], call["arguments"]))


async def echo_schema(source: McpSource) -> None:
    """Send back a tool's schema as agentd has it."""
    specs = {spec.name: spec for spec in await source.list_tools()}
    echo = next(name for name in specs if "echo" in name)
    focal = next(spec for name, spec in specs.items() if name != echo)
    await source.call(echo, {"schema": focal.input_schema})


WORK: dict[str, Callable[[McpSource], Awaitable[None]]] = {
    "http-custom-headers": call_as_told,
    "http-standard-headers": read_everything,
    "json-schema-2020-12-preservation": echo_schema,
    "json-schema-ref-no-deref": list_only,
    "sep-2322-client-request-state": call_side_by_side,
}


def sample(schema: Mapping[str, Any]) -> dict[str, object]:
    """Return arguments for a tool: what the schema requires, with the simplest value of each type."""
    simplest = {"number": 5, "integer": 5, "string": "text", "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties", {})
    return {
        name: properties.get(name, {}).get(
            "default", simplest.get(properties.get(name, {}).get("type"), "text")
        )
        for name in schema.get("required", [])
    }


def accept_defaults(request: Mapping[str, Any]) -> dict[str, object]:
    """Answer a question (elicitation) with the defaults of its form."""
    properties = request.get("schema", {}).get("properties", {})
    return {name: p["default"] for name, p in properties.items() if "default" in p}


# --- how it authorises ---------------------------------------------------------------------------


def oauth_for(scenario: str, url: str, tokens: Path) -> OAuthSettings:
    """Return the settings of a client that was set up for this scenario."""
    common: dict[str, Any] = {"tokens_dir": tokens, "open_url": person, "timeout_s": 20}
    registered = {k: CONTEXT[k] for k in ("client_id", "client_secret") if k in CONTEXT}
    if scenario.startswith("auth/client-credentials"):
        return OAuthSettings(
            **common,
            **registered,
            grant="client_credentials",
            issuer=issuer_of(url),
            private_key=CONTEXT.get("private_key_pem", ""),
            signing_algorithm=CONTEXT.get("signing_algorithm", "RS256"),
        )
    if "idp_id_token" in CONTEXT:
        return OAuthSettings(
            **common, **registered, grant="identity_assertion", issuer=issuer_of(url), assertion=id_jag
        )
    if "valid_jwt" in CONTEXT:
        return OAuthSettings(
            **common, **registered, grant="workload_identity", issuer=issuer_of(url), assertion=workload_token
        )
    if registered:
        return OAuthSettings(**common, **registered, issuer=CONTEXT.get("issuer") or issuer_of(url))
    return OAuthSettings(**common, client_metadata_url=METADATA_URL)


def person(url: str) -> None:
    """Authorise, as a person would in a browser: open the address and follow where it leads."""
    try:
        with urlopen(url, timeout=10) as response:
            response.read()
    except HTTPError as error:  # an error page is something that a person sees, too
        error.close()


def issuer_of(url: str) -> str:
    """Return the server's authorization server. A person who sets up a client knows it; the suite does not say."""
    parts = urlsplit(url)
    with urlopen(
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-protected-resource{parts.path}"
    ) as response:
        return str(json.load(response)["authorization_servers"][0])


async def workload_token(issuer: str, resource: str) -> str:
    """Return the token that the platform has given this program."""
    return str(CONTEXT["valid_jwt"])


async def id_jag(issuer: str, resource: str) -> str:
    """Get an identity assertion from the enterprise's identity provider (RFC 8693, SEP-990)."""
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "requested_token_type": "urn:ietf:params:oauth:token-type:id-jag",
        "subject_token": CONTEXT["idp_id_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:id_token",
        "audience": issuer,
        "resource": resource,
        "client_id": CONTEXT["idp_client_id"],
    }
    request = Request(CONTEXT["idp_token_endpoint"], data=urlencode(form).encode())

    def exchange() -> str:
        with urlopen(request, timeout=10) as response:
            return str(json.load(response)["access_token"])

    return await anyio.to_thread.run_sync(exchange)


# --- the program ---------------------------------------------------------------------------------


async def run(scenario: str, url: str, tokens: Path) -> None:
    """Play the scenario."""
    auth = make_auth(url, oauth_for(scenario, url, tokens)) if scenario.startswith("auth/") else None
    config = ServerConfig(
        name="conformance", target=HttpTarget(url=url, kind="http", auth=auth), elicitation=accept_defaults
    )
    source = McpSource(config)
    try:
        await WORK.get(scenario, call_all)(source)
    finally:
        await source.aclose()


def main() -> int:
    """Run the scenario; 1 if the bridge reports an error."""
    with tempfile.TemporaryDirectory(prefix="agentd-conformance-") as folder:
        try:
            anyio.run(
                partial(run, os.environ["MCP_CONFORMANCE_SCENARIO"], sys.argv[-1], Path(folder) / "oauth")
            )
        except ToolError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
