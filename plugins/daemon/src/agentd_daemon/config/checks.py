"""What a type cannot say: keys that do not go together, subscriptions that no server could serve."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, suggest

from agentd_daemon.config.structuring import DataPath
from agentd_daemon.config.values import (
    AgentConfig,
    AgentServerConfig,
    SubscriptionConfig,
    plugin_options,
)
from agentd_daemon.uris import TOOL_SCHEME, parse_tool_uri, safe_uri, uri_scheme

__all__ = ["Finding", "agent_findings", "agent_warnings", "place_findings"]

_PTC_KEYS: Final = ("executor", "executor_options", "parsers", "renderer", "skills")
_MODEL_KEYS: Final = {"base_url": "base_url", "api_key": "api_key", "api": "api", "request": "model_options"}
"""What an agent says of its model in keys of its own, by the option that a provider gets it as."""
_STDIO_KEYS: Final = ("command", "arguments", "env_vars")
_URL_KEYS: Final = ("url", "headers")
_HERE_ALONE: Final = {
    "cwd": "an agent's workspace is where its host is, and is kept in the store",
    "snapshots": "checkpoints are kept in the store",
}
_KNOWN_SCHEMES: Final = (TOOL_SCHEME, "file", "http", "https")


@attrs.frozen
class Finding:
    """Something that is wrong with an agent.

    :ivar path: where, below the agent.
    :ivar message: what.
    :ivar discreet: the same without the value, for one that came from a reference; by default the message.
    """

    path: DataPath
    message: str
    discreet: str = attrs.field(default=attrs.Factory(lambda self: self.message, takes_self=True))


def agent_findings(
    agent: AgentConfig, own: Mapping[str, Any], unread: Container[str] = ()
) -> Iterator[Finding]:
    """Yield what is wrong with an agent.

    :param own: the agent's own keys, without the defaults.
    :param unread: keys with values that no agent can have, which `agent` therefore has its defaults for.
    """
    if agent.mode == "tools" and "mode" not in unread:
        for key in _PTC_KEYS:
            if key in own:
                yield Finding((key,), "goes with `mode: ptc` only; with `mode: tools` no code is run")
    for option, key in _MODEL_KEYS.items():
        if option in plugin_options(agent.model):
            yield Finding(("model", 1, option), f"has a key of its own: write it as `{key}`, beside `model`")
    yield from _policy_findings(agent)
    yield from _answer_findings(agent)
    if agent.on_error.max_backoff_s < agent.on_error.backoff_s:
        yield Finding(("on_error",), "max_backoff_s must not be below backoff_s")
    for index, server in enumerate(agent.mcp_servers):
        for path, message in _server_findings(server):
            yield Finding(("mcp_servers", index, *path), message)
    yield from _same_names(agent)
    yield from _subscription_findings(agent, servers_known="mcp_servers" not in unread)
    yield from _trigger_findings(agent)


def agent_warnings(agent: AgentConfig) -> Iterator[Finding]:
    """Yield what is allowed but hardly meant."""
    for index, subscription in enumerate(agent.wakers()):
        scheme = uri_scheme(subscription.uri)
        hint = "" if scheme in _KNOWN_SCHEMES else suggest(scheme, (TOOL_SCHEME,))
        if scheme and hint:
            text = f"is read as a resource of a server{hint}"
            yield Finding(("subscriptions", index), f"{safe_uri(subscription.uri)!r} {text}", text)


def place_findings(agent: AgentConfig) -> Iterator[Finding]:
    """Yield what an agent cannot have whose session is not on this machine."""
    for key, why in _HERE_ALONE.items():
        if getattr(agent, key) != getattr(AgentConfig(name=agent.name), key):
            yield Finding((key,), f"does not go with --fleet: {why}", f"does not go with --fleet: {why}")


def _server_findings(server: AgentServerConfig) -> Iterator[tuple[DataPath, str]]:
    stdio = server.type == "stdio"
    needed = "command" if stdio else "url"
    if not getattr(server, needed):
        hint = "; one with a url has `type: http` or `type: sse`" if stdio and server.url else ""
        yield (needed,), f"is missing: a server of type {server.type!r} has one{hint}"
    for key in _URL_KEYS if stdio else _STDIO_KEYS:
        if getattr(server, key):
            yield (key,), f"does not belong to a server of type {server.type!r}"
    names = [variable.partition("=")[0] for variable in server.env_vars]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield ("env_vars", index), f"sets the variable of env_vars[{names.index(name)}] a second time"


def _same_names(agent: AgentConfig) -> Iterator[Finding]:
    names = [server.name for server in agent.mcp_servers]
    for index, name in enumerate(names):
        if name is not None and name in names[:index]:
            message = f"another server of this agent, mcp_servers[{names.index(name)}], has the name {name!r}"
            yield Finding(("mcp_servers", index, "name"), message)


def _policy_findings(agent: AgentConfig) -> Iterator[Finding]:
    if agent.policy is not None:
        from agentd_policy.reading import policy_problems

        for path, message in policy_problems(agent.policy):
            yield Finding(("policy", *path), message)
    if agent.approver is None:
        return
    if agent.policy is None:
        yield Finding(("approver",), "goes with `policy` only")
        return
    from agentd_daemon.approver import approver_options

    try:
        approver_options(agent.approver)
    except ConfigError as error:
        for line in str(error).splitlines():
            said = line.removeprefix("approver: ")
            bare = said.partition(", got ")[0]  # options may be secrets
            yield Finding(("approver",), bare if plugin_options(agent.approver) else said, bare)


def _answer_findings(agent: AgentConfig) -> Iterator[Finding]:
    if agent.answer is None:
        return
    from agentd_tools.answer_form import schema_problem

    from agentd_daemon.answers import answer_schema

    try:
        schema = answer_schema(agent.answer) or {}
    except ConfigError as error:
        yield Finding(("answer",), str(error).removeprefix("answer: "), "is no file of JSON that can be read")
        return
    if (problem := schema_problem(schema)) is not None:
        path, message = problem
        inside = path if isinstance(agent.answer, Mapping) else ()
        where = "" if isinstance(agent.answer, Mapping) else f" (at {'/'.join(map(str, path)) or 'its top'})"
        yield Finding(("answer", *inside), f"is no JSON Schema{where}: {message}", "is no JSON Schema")


def _trigger_findings(agent: AgentConfig) -> Iterator[Finding]:
    names = [trigger.called for trigger in agent.triggers]
    for index, name in enumerate(names):
        if name in names[:index]:
            other = f"another trigger of this agent, triggers[{names.index(name)}], is called {name!r}"
            key = "kind" if agent.triggers[index].name is None else "name"
            yield Finding(("triggers", index, key), f"{other}; give this one another `name`")


# --- subscriptions -----------------------------------------------------------------------------


def _subscription_findings(agent: AgentConfig, *, servers_known: bool) -> Iterator[Finding]:
    seen: dict[tuple[str, str | None], int] = {}
    for index, subscription in enumerate(agent.wakers()):
        path: DataPath = ("subscriptions", index)
        long = isinstance(agent.subscriptions[index], SubscriptionConfig)
        uri_path: DataPath = (*path, "uri") if long else path
        if wrong := _uri_objection(subscription.uri):
            yield Finding(uri_path, *wrong)
            continue
        key = (subscription.uri, subscription.server)
        if key in seen:
            yield Finding(uri_path, f"is the same as subscriptions[{seen[key]}]")
        seen.setdefault(key, index)
        if servers_known and (objection := _server_objection(agent, subscription)):
            yield Finding((*path, "server") if subscription.server else uri_path, *objection)


def _uri_objection(uri: str) -> tuple[str, ...]:
    """Return what is wrong with a URI, with and without its value."""
    must = "must be a URI such as tool://NAME/?argument=value or file:///path"
    scheme = uri_scheme(uri)
    if not scheme:
        return f"{must}, got {safe_uri(uri)!r}", must
    if scheme == TOOL_SCHEME:
        try:
            parse_tool_uri(uri)
        except ConfigError as error:
            return str(error), must
    return ()


def _server_objection(agent: AgentConfig, subscription: SubscriptionConfig) -> tuple[str, ...]:
    """Return why no server can be meant, with and without the subscription's values."""
    servers = agent.mcp_servers
    if not servers:
        return ("no server could have it: this agent has no mcp_servers",)
    if subscription.server is not None:
        servers = tuple(server for server in servers if server.name == subscription.server)
        if not servers:
            names = [server.name for server in agent.mcp_servers if server.name is not None]
            listed = ", ".join(map(repr, names)) or "none"
            must = f"must be the `name` of a server of this agent ({listed})"
            return f"{must}, got {subscription.server!r}{suggest(subscription.server, names)}", must
    if uri_scheme(subscription.uri) == TOOL_SCHEME:
        tool, _ = parse_tool_uri(subscription.uri)
        if not any(_admits(server, tool) for server in servers):
            why = "no server could have it: tool_filter leaves out the tool"
            return f"{why} {tool!r}", why
    return ()


def _admits(server: AgentServerConfig, tool: str) -> bool:
    kept = server.filter()
    if any(fnmatchcase(tool, pattern) for pattern in kept.deny):
        return False
    return kept.allow is None or any(fnmatchcase(tool, pattern) for pattern in kept.allow)
