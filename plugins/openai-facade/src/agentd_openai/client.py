"""Patching a client object: its `create` methods, and those of its copies. Nothing else in the process
changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentd.errors import ConfigError, MissingPluginError
from agentd.turn.budgets import Budgets

from agentd_openai.raw import is_raw

if TYPE_CHECKING:
    from agentd.protocols import EventSink
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources

    from agentd_openai.state import Holder, Mode, PatchState

__all__ = ["patch_openai_with_mcp", "patch_openai_with_ptc", "unpatch_openai"]

C = TypeVar("C")
MARK = "_agentd"
"""The SDK marks calls through `with_raw_response` and `with_streaming_response` with this header."""


def patch_openai_with_ptc(
    client: C,
    cwd: str | Path = ".",
    executor: object = None,
    skills_dir: str | Path | None = None,
    bash_tool: bool = False,
    *,
    tools: Sequence[object] | None = None,
    budgets: Budgets | None = None,
    parsers: Sequence[PluginSpec] | None = None,
    renderer: PluginSpec = "agentskills",
    sinks: Sequence[PluginSpec | EventSink] = (),
    registry: Registry | None = None,
    executor_options: dict[str, Any] | None = None,
    skills_prompt_tokens: int | None = None,
    skills: Sequence[str | Path] = (),
) -> C:
    """Let the models of an `OpenAI` or `AsyncOpenAI` client run code, and return the same client.

    `chat.completions.create` and `responses.create` of this object (and of copies that `with_options()`
    makes from now on) then run the whole conversation: the model's blocks are run in `cwd` and their
    results go back until it answers without a block. They take `mcp_servers=`, `mcp_strict=` and
    `ptc_enabled=` beside the SDK's arguments and return the SDK's own types, with an extra field `agentd`.
    Models of other providers come through LiteLLM, embeddings (`embeddings.create`) too. All else is as it
    was: other methods, `with_raw_response`, `with_streaming_response`, other clients. A patched client is
    not patched again: `unpatch_openai` it first to give other settings. `client.cleanup_ptc()` ends what
    runs; so does the client's end. `patch_openai_with_mcp` on the same client adds the JSON tool loop for
    calls with `ptc_enabled=False`.

    :param cwd: the workspace; made if it is not there.
    :param executor: a plugin's name (default `subprocess`, which is no sandbox), an executor object, or an
        object with `execute_bash`, `execute_python` and `create_file`.
    :param skills_dir: where the tools' bindings are written; default `skills` in the workspace.
    :param bash_tool: the model calls one native tool, `bash`, and writes no blocks.
    :param tools: functions that the model's code can import; None for all that are marked with `@tool`.
    :param budgets: limits of each call; see `Budgets`.
    :param parsers: names of parser plugins; the model is taught the notation of the first. None for all that are
        installed, with the notation `fence`.
    :param renderer: the name of the skill renderer plugin that writes tools as files for the code.
    :param sinks: names of event sink plugins, or objects with `emit(event)` and `close()`.
    :param executor_options: options for the executor's plugin, if `executor` is a name.
    :param skills_prompt_tokens: how much of the prompt may be about skills and tools; with many of them, it
        names what there is and the code searches. Default: the renderer's own.
    :param skills: folders of skills that somebody wrote, and folders of such folders; code reads copies of them.

    Raises `ConfigError`, `PluginError` and `WorkspaceError`. A call raises the SDK's exceptions; they are
    `ModelError` too and have an attribute `agentd` with what was done before.
    """
    holder: Holder | None = getattr(client, MARK, None)
    if holder is not None and holder.state.ptc is not None:
        return client
    _check_client(client)
    from agentd.session.acting import Acting
    from agentd.session.resources import SessionResources

    from agentd_openai.state import Mode

    resources = SessionResources(
        cwd=cwd,
        executor=executor,
        executor_options=executor_options,
        tools=tools,
        renderer=renderer,
        skills_dir=skills_dir,
        prompt_tokens=skills_prompt_tokens,
        skills=skills,
        registry=registry,
    )
    _ = resources.executor  # an unknown or missing one is told here, not in the first call
    state = _state(client, resources)
    if state.resources is not resources:
        state.use(resources)
    current = state.current
    state.ptc = Mode(current, Acting(current, bash_tool=bash_tool, parsers=parsers, budgets=budgets), sinks)
    client.cleanup_ptc = state.close  # type: ignore[attr-defined]
    return client


def patch_openai_with_mcp(
    client: C,
    *,
    tools: Sequence[object] | None = None,
    budgets: Budgets | None = None,
    sinks: Sequence[PluginSpec | EventSink] = (),
    registry: Registry | None = None,
) -> C:
    """Let the models of an `OpenAI` or `AsyncOpenAI` client call tools natively (as JSON), and return the same
    client.

    `chat.completions.create` and `responses.create` then offer the model the tools of the MCP servers given
    with `mcp_servers=` and the `@tool` functions, in every round and beside the caller's own `tools=`, carry
    out its calls and send it the results until it answers without one, at most 20 rounds. A call of one of
    the caller's own tools ends the run and comes back as the SDK has it. `mcp_strict=True` asks the provider
    to hold the model to the tools' schemas, where they have a strict form. Without any tool, a call is the
    SDK's own. On a client with both patches, code runs unless `ptc_enabled=False` is passed; they share the
    servers and tools. `client.cleanup_mcp()` ends what runs.

    :param tools: functions to offer; None for all that are marked with `@tool`. If both patches name some,
        both get all of them.
    :param budgets: limits of each call; see `Budgets`.
    :param sinks: names of event sink plugins, or objects with `emit(event)` and `close()`.

    Raises `ConfigError` and `PluginError`, and a call what one raises after `patch_openai_with_ptc`. A tool
    that fails, or that there is not, is a result that the model reads.
    """
    holder: Holder | None = getattr(client, MARK, None)
    if holder is not None and holder.state.tools is not None:
        return client
    _check_client(client)
    from agentd.session.acting import Acting
    from agentd.session.resources import SessionResources

    from agentd_openai.state import Mode

    resources = SessionResources(tools=tools, registry=registry)
    state = _state(client, resources)
    if state.resources is not resources:
        state.resources.take_over(resources)
    current = state.current
    state.tools = Mode(current, Acting(current, mode="tools", budgets=budgets), sinks)
    client.cleanup_mcp = state.close  # type: ignore[attr-defined]
    return client


def _check_client(client: object) -> None:
    try:
        import openai  # noqa: F401
    except ImportError as exc:
        raise MissingPluginError("openai", "openai") from exc
    if not hasattr(client, "chat") or not hasattr(client, "responses"):
        raise ConfigError(f"client: must be an OpenAI or AsyncOpenAI object, got {type(client).__name__}")


def _state(client: object, resources: SessionResources) -> PatchState:
    """Return the state of the client's patches, with these resources if it is the first patch."""
    from agentd_openai.state import Holder, PatchState

    holder: Holder | None = getattr(client, MARK, None)
    if holder is None:
        holder = Holder(PatchState(resources))
        _patch(client, holder)
    return holder.state


def unpatch_openai(client: C) -> C:
    """Give a client its own methods back and return it, whatever patches it had. What it ran is ended, unless
    a patched copy shares it."""
    if getattr(client, MARK, None) is not None:
        parts: Any = client
        for target in (parts.chat.completions, parts.responses, getattr(parts, "embeddings", None)):
            getattr(target, "__dict__", {}).pop("create", None)
        for name in ("copy", "with_options", "cleanup_ptc", "cleanup_mcp", MARK):
            client.__dict__.pop(name, None)
    return client


def _patch(client: Any, holder: Holder) -> None:
    import openai

    from agentd_openai.embeddings import async_embed, sync_embed

    is_async = isinstance(client, openai.AsyncOpenAI)
    make = _async_create if is_async else _sync_create
    for api, target in (("chat", client.chat.completions), ("responses", client.responses)):
        target.create = make(target.create, api, holder, str(client.base_url))
    if hasattr(client, "embeddings"):
        embed = async_embed if is_async else sync_embed
        client.embeddings.create = embed(client.embeddings.create, str(client.base_url), holder)
    for name in ("copy", "with_options"):
        setattr(client, name, _copying(getattr(type(client), name).__get__(client), holder))
    setattr(client, MARK, holder)
    state = holder.state
    if state.ptc is not None:
        client.cleanup_ptc = state.close
    if state.tools is not None:
        client.cleanup_mcp = state.close


def _copying(original: Callable[..., Any], holder: Holder) -> Callable[..., Any]:
    @wraps(original)
    def copy(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        _patch(made, holder)
        return made

    return copy


def _sync_create(original: Callable[..., Any], api: str, holder: Holder, base_url: str) -> Callable[..., Any]:
    @wraps(original)
    def create(
        *args: Any,
        mcp_servers: Sequence[object] | None = None,
        mcp_strict: bool = False,
        ptc_enabled: bool = True,
        **kwargs: Any,
    ) -> Any:
        mode = _mode(holder.state, api, args, kwargs, ptc_enabled, mcp_servers)
        if mode is None:
            return original(*args, **_cleaned(api, kwargs))
        from agentd_openai.calls import PatchedCall

        stream, arguments = _arguments(kwargs)
        call = PatchedCall(
            holder, mode, api, original, False, base_url, arguments, mcp_servers or (), mcp_strict
        )
        return call.sync_stream() if stream else call.sync_whole()

    return create


def _async_create(
    original: Callable[..., Any], api: str, holder: Holder, base_url: str
) -> Callable[..., Any]:
    @wraps(original)
    async def create(
        *args: Any,
        mcp_servers: Sequence[object] | None = None,
        mcp_strict: bool = False,
        ptc_enabled: bool = True,
        **kwargs: Any,
    ) -> Any:
        mode = _mode(holder.state, api, args, kwargs, ptc_enabled, mcp_servers)
        if mode is None:
            return await original(*args, **_cleaned(api, kwargs))
        from agentd_openai.calls import PatchedCall

        stream, arguments = _arguments(kwargs)
        call = PatchedCall(
            holder, mode, api, original, True, base_url, arguments, mcp_servers or (), mcp_strict
        )
        return await (call.async_stream() if stream else call.async_whole())

    return create


def _mode(
    state: PatchState,
    api: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    ptc_enabled: bool,
    mcp_servers: object,
) -> Mode | None:
    """Return how this call is served; None if it is the SDK's own business."""
    mode = state.ptc if ptc_enabled and state.ptc is not None else state.tools
    if mode is None and mcp_servers:
        raise ConfigError(
            "mcp_servers: need ptc_enabled=True, or patch_openai_with_mcp(client) for native tool calls"
        )
    needed = ("model", "messages") if api == "chat" else ("model",)
    if is_raw(kwargs) or args or any(name not in kwargs for name in needed):
        return None
    if mode is not None and mode.acting.mode == "tools" and not mcp_servers and not state.resources.has_tools:
        return None
    return mode


def _cleaned(api: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for the SDK's own call, without what only agentd understands."""
    from agentd_openai import chat_request, responses_request

    if api == "chat" and isinstance(kwargs.get("messages"), list):
        return {**kwargs, "messages": chat_request.restored(kwargs["messages"])}
    if api == "responses":
        return responses_request.without_ours(kwargs)
    return kwargs


def _arguments(kwargs: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether to stream, and the arguments that the caller really gave."""
    given = {k: v for k, v in kwargs.items() if type(v).__name__ not in ("NotGiven", "Omit")}
    return bool(given.pop("stream", False)), given
