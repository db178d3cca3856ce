"""Patching a client object: its `create` methods, and those of its copies. Nothing else in the process
changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentd.budgets import Budgets
from agentd.errors import ConfigError, MissingPluginError

if TYPE_CHECKING:
    from agentd.patch.state import Holder
    from agentd.protocols import EventSink
    from agentd.registry import Registry

__all__ = ["patch_openai_with_ptc", "unpatch_openai"]

C = TypeVar("C")
MARK = "_agentd_ptc"
RAW_HEADERS = ("x-stainless-raw-response",)
"""The SDK marks calls through `with_raw_response` and `with_streaming_response` with this header."""


def patch_openai_with_ptc(
    client: C,
    cwd: str | Path = ".",
    executor: object = None,
    skills_dir: str | Path | None = None,
    bash_tool: bool = False,
    *,
    tools: Sequence[Callable[..., Any]] | None = None,
    budgets: Budgets | None = None,
    parsers: Sequence[str] | None = None,
    sinks: Sequence[str | EventSink] = (),
    registry: Registry | None = None,
    executor_options: dict[str, Any] | None = None,
) -> C:
    """Let the models of an `OpenAI` or `AsyncOpenAI` client run code, and return the same client.

    `chat.completions.create` and `responses.create` of this object (and of copies that `with_options()`
    makes from now on) then run the whole conversation: the model's blocks are run in `cwd` and their
    results go back until it answers without a block. They take `mcp_servers=`, `mcp_strict=` and
    `ptc_enabled=` beside the SDK's arguments and return the SDK's own types, with an extra field `agentd`.
    Models of other providers come through LiteLLM, embeddings (`embeddings.create`) too. All else is as it
    was: other methods, `with_raw_response`, `with_streaming_response`, other clients. A patched client is
    not patched again: `unpatch_openai` it first to give other settings. `client.cleanup_ptc()` ends what
    runs; so does the client's end.

    :param cwd: the workspace; made if it is not there.
    :param executor: a plugin's name (default `subprocess`, which is no sandbox), an executor object, or an
        object with `execute_bash`, `execute_python` and `create_file`.
    :param skills_dir: where the tools' bindings are written; default `skills` in the workspace.
    :param bash_tool: one native tool `bash` instead of blocks; not in this version.
    :param tools: functions that the model's code can import; None for all that are marked with `@tool`.
    :param budgets: limits of each call; see `Budgets`.
    :param parsers: names of parser plugins; None for all that are installed.
    :param sinks: names of event sink plugins, or objects with `emit(event)` and `close()`.
    :param executor_options: options for the executor's plugin, if `executor` is a name.

    Raises `ConfigError`, `PluginError` and `WorkspaceError`. A call raises the SDK's exceptions; they are
    `ModelError` too and have an attribute `agentd` with what was done before.
    """
    if bash_tool:
        raise ConfigError(
            "bash_tool: the native bash tool comes with agentd 0.10; leave it out and the model writes blocks"
        )
    if getattr(client, MARK, None) is not None:
        return client
    try:
        import openai  # noqa: F401
    except ImportError as exc:
        raise MissingPluginError("openai", "agentd-core[openai]") from exc
    if not hasattr(client, "chat") or not hasattr(client, "responses"):
        raise ConfigError(f"client: must be an OpenAI or AsyncOpenAI object, got {type(client).__name__}")
    from agentd.patch.state import Holder, PatchState
    from agentd.workbench import Workbench

    bench = Workbench(
        cwd=cwd,
        executor=executor,
        executor_options=executor_options,
        tools=tools,
        skills_dir=skills_dir,
        registry=registry,
    )
    _ = bench.executor  # an unknown or missing one is told here, not in the first call
    state = PatchState(bench, budgets=budgets, parsers=parsers, sinks=sinks)
    _patch(client, Holder(state))
    return client


def unpatch_openai(client: C) -> C:
    """Give a client its own methods back and return it. What it ran is ended, unless a patched copy shares
    it."""
    if getattr(client, MARK, None) is not None:
        parts: Any = client
        for target in (parts.chat.completions, parts.responses, getattr(parts, "embeddings", None)):
            getattr(target, "__dict__", {}).pop("create", None)
        for name in ("copy", "with_options", "cleanup_ptc", MARK):
            client.__dict__.pop(name, None)
    return client


def _patch(client: Any, holder: Holder) -> None:
    import openai

    from agentd.patch.embeddings import async_embed, sync_embed

    is_async = isinstance(client, openai.AsyncOpenAI)
    make = _async_create if is_async else _sync_create
    for api, target in (("chat", client.chat.completions), ("responses", client.responses)):
        target.create = make(target.create, api, holder, str(client.base_url))
    if hasattr(client, "embeddings"):
        embed = async_embed if is_async else sync_embed
        client.embeddings.create = embed(client.embeddings.create, str(client.base_url))
    for name in ("copy", "with_options"):
        setattr(client, name, _copying(getattr(type(client), name).__get__(client), holder))
    setattr(client, MARK, holder)
    client.cleanup_ptc = holder.state.close


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
        if _is_plain(api, args, kwargs, ptc_enabled, mcp_servers):
            return original(*args, **kwargs)
        from agentd.patch.calls import Call

        stream, arguments = _arguments(kwargs)
        call = Call(holder, api, original, False, base_url, arguments, mcp_servers or ())
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
        if _is_plain(api, args, kwargs, ptc_enabled, mcp_servers):
            return await original(*args, **kwargs)
        from agentd.patch.calls import Call

        stream, arguments = _arguments(kwargs)
        call = Call(holder, api, original, True, base_url, arguments, mcp_servers or ())
        return await (call.async_stream() if stream else call.async_whole())

    return create


def _is_plain(
    api: str, args: tuple[Any, ...], kwargs: dict[str, Any], ptc_enabled: bool, mcp_servers: object
) -> bool:
    """Tell whether this call is the SDK's own business."""
    if not ptc_enabled and mcp_servers:
        raise ConfigError("mcp_servers: need ptc_enabled=True in this version")
    needed = ("model", "messages") if api == "chat" else ("model",)
    return not ptc_enabled or is_raw(kwargs) or bool(args) or any(name not in kwargs for name in needed)


def is_raw(kwargs: dict[str, Any]) -> bool:
    """Tell whether this call wants the HTTP response rather than the SDK's types."""
    headers = kwargs.get("extra_headers") or {}
    return any(str(name).lower() in RAW_HEADERS for name in headers)


def _arguments(kwargs: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether to stream, and the arguments that the caller really gave."""
    given = {k: v for k, v in kwargs.items() if type(v).__name__ not in ("NotGiven", "Omit")}
    return bool(given.pop("stream", False)), given
