"""Patching a client object: its methods that make a model answer, and those of its copies. Nothing else in the
process changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from agentd.errors import ConfigError, MissingPluginError
from agentd.types import Budgets

if TYPE_CHECKING:
    from agentd.protocols import EventSink
    from agentd.registry import Registry
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources

    from agentd_openai.state import Holder, PatchState

__all__ = ["patch_openai_with_mcp", "patch_openai_with_ptc", "unpatch_openai"]

C = TypeVar("C")
MARK = "_agentd"
COPYING: Final = ("copy", "with_options")


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
    policy: object = None,
    approver: object = None,
    prices: Mapping[str, tuple[float, ...]] | None = None,
    history: object = None,
    images: object = None,
) -> C:
    """Let the models of an `OpenAI` or `AsyncOpenAI` client run code, and return the same client.

    `create`, `parse` and `stream` of this object's `chat.completions` and `responses` (and of copies that
    `with_options()` makes from now on), also through `with_raw_response` and `with_streaming_response`, then run the
    whole conversation: the model's blocks are run in `cwd` and their results go back until it answers without a
    block. They take `mcp_servers=`, `mcp_strict=` and `ptc_enabled=` beside the SDK's arguments and return the SDK's
    own types, with an extra field `agentd`. Models of other providers come through LiteLLM, embeddings
    (`embeddings.create`) too. All else is as it was: other methods, other clients. A patched client is
    not patched again: `unpatch_openai` it first to give other settings. `client.cleanup_ptc()` ends what
    runs; so do `client.close()`, the end of `with client:` and the client's end. `patch_openai_with_mcp` on the same
    client adds the JSON tool loop for calls with `ptc_enabled=False`.

    :param cwd: the workspace; made if it is not there.
    :param executor: a plugin's name, an executor object, or an object with `execute_bash`, `execute_python` and
        `create_file`. By default what `agentd.defaults` says, then the variable AGENTD_EXECUTOR, then `subprocess`,
        which is no sandbox.
    :param skills_dir: where the tools' bindings are written; default `skills` in the workspace.
    :param bash_tool: the model calls one native tool, `bash`, and writes no blocks.
    :param tools: functions that the model's code can import; None for all that are marked with `@tool`.
    :param budgets: limits of each call; see `Budgets`.
    :param parsers: names of parser plugins; the model is taught the notation of the first. None for all that are
        installed, with the notation `fence`.
    :param renderer: the name of the skill renderer plugin that writes tools as files for the code.
    :param sinks: names of event sink plugins, or objects with `emit(event)` and `close()`.
    :param executor_options: options for the executor's plugin, unless `executor` is an object; they win over those of a
        pair of name and options.
    :param skills_prompt_tokens: how much of the prompt may be about skills and tools; with many of them, it
        names what there is and the code searches. Default: the renderer's own.
    :param skills: folders of skills that somebody wrote, and folders of such folders; code reads copies of them.
    :param policy: what may be done: a preset (`read-only`, `ask-writes`, `yolo`), a YAML file, rules or a function; and
        `approver`, who is asked: a function, `terminal` or `("webhook", {...})`. As `Session` has them.
    :param prices: US dollars per million tokens by model: `(input, output)` or `(input, output, cached input)`. Without
        it, tables say what many models cost; `Budgets.max_cost_usd` needs a price.
    :param history: how much of a long conversation the model is told, both of what a call is given and of what its own
        rounds add: a `History` of agentd-history. None for all.
    :param images: show the model the pictures that code shows (`agentd.show`) and tools return: True, or an
        `agentd.Images`. On a client with both patches it holds for both.

    Raises `ConfigError`, `PluginError` and `WorkspaceError`. A call raises the SDK's exceptions; they are
    `ModelError` too and have an attribute `agentd` with what was done before.
    """
    given = dict(locals())
    _check_client(client)
    holder: Holder | None = getattr(client, MARK, None)
    if holder is not None and holder.state.ptc is not None:
        _check_unsaid(policy, approver)
        return client
    from agentd.registry.options import check_options
    from agentd.session.acting import SETTINGS, Acting
    from agentd.session.resources import SessionResources

    from agentd_openai.legacy_executor import as_executor
    from agentd_openai.state import Mode

    check_options("", {name: given[name] for name in SETTINGS.keys() & given.keys()}, SETTINGS)
    _check_history(history)
    resources = SessionResources(
        cwd=cwd,
        executor=as_executor(executor, cwd),
        executor_options=executor_options,
        tools=tools,
        renderer=renderer,
        skills_dir=skills_dir,
        prompt_tokens=skills_prompt_tokens,
        skills=skills,
        registry=registry,
        policy=policy,
        approver=approver,
        images=_images_for_both(holder, images),
    )
    settings: dict[str, Any] = {"bash_tool": bash_tool, "parsers": parsers, "budgets": budgets or Budgets()}
    Acting(lambda: resources, **settings).check()  # before anything of the client changes
    _check_sinks(resources, sinks)
    if resources.pictures is not None:
        resources.pictures.keeps_runs_apart = True  # calls are conversations of their own
    state = _state(client, resources)
    if state.resources is not resources:
        state.use(resources)
    state.ptc = Mode(state.current, Acting(state.current, **settings), sinks, prices, history)
    client.cleanup_ptc = state.close  # type: ignore[attr-defined]
    return client


def _check_unsaid(policy: object, approver: object) -> None:
    """A second patch changes nothing; a policy that would not hold must not be taken in silence."""
    if policy is not None or approver is not None:
        raise ConfigError("policy: the client is patched already; `unpatch_openai` it first")


def _check_history(history: object) -> None:
    if history is not None and not hasattr(history, "memory"):
        raise ConfigError(f"history: must be a History of agentd-history, got {history!r}")


def _images_for_both(holder: Holder | None, images: object, *, is_later: bool = False) -> object:
    """Return the images that hold for both patches of a client.

    :param is_later: this patch works with the resources of the other one, if that is there.
    """
    if holder is None:
        return images
    pictures = holder.state.resources.pictures
    other = None if pictures is None else pictures.images
    if images is None or images is False:
        return other
    if other is None and not is_later:
        return images
    from agentd import Images

    if other != (Images() if images is True else images):
        raise ConfigError(
            "images: holds for both patches of a client; give it to `patch_openai_with_ptc`, or the same to both"
        )
    return other


def patch_openai_with_mcp(
    client: C,
    *,
    tools: Sequence[object] | None = None,
    budgets: Budgets | None = None,
    sinks: Sequence[PluginSpec | EventSink] = (),
    registry: Registry | None = None,
    policy: object = None,
    approver: object = None,
    prices: Mapping[str, tuple[float, ...]] | None = None,
    history: object = None,
    images: object = None,
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
    :param policy: with `approver`, as in `patch_openai_with_ptc`; on a client with both patches, the first one has it.
    :param prices, history: as for `patch_openai_with_ptc`; each patch has its own.
    :param images: as there. The pictures that tools return are kept in `.agentd/pictures` of the current folder, or of
        the workspace if code runs as well.

    Raises `ConfigError` and `PluginError`, and a call what one raises after `patch_openai_with_ptc`. A tool
    that fails, or that there is not, is a result that the model reads.
    """
    _check_client(client)
    holder: Holder | None = getattr(client, MARK, None)
    if holder is not None and holder.state.tools is not None:
        _check_unsaid(policy, approver)
        return client
    from agentd.registry.options import check_options
    from agentd.session.acting import SETTINGS, Acting
    from agentd.session.resources import SessionResources

    from agentd_openai.state import Mode

    check_options("", {"tools": tools, "budgets": budgets, "sinks": sinks, "prices": prices}, SETTINGS)
    _check_history(history)
    resources = SessionResources(
        tools=tools,
        registry=registry,
        policy=policy,
        approver=approver,
        images=_images_for_both(holder, images, is_later=True),
    )
    _check_sinks(resources, sinks)
    if resources.pictures is not None:
        resources.pictures.keeps_runs_apart = True  # calls are conversations of their own
    state = _state(client, resources)
    if state.resources is not resources:
        state.resources.take_over(resources)
    current = state.current
    acting = Acting(current, mode="tools", budgets=budgets or Budgets())
    state.tools = Mode(current, acting, sinks, prices, history)
    client.cleanup_mcp = state.close  # type: ignore[attr-defined]
    return client


def _check_client(client: object) -> None:
    try:
        import openai  # noqa: F401
    except ImportError as exc:
        raise MissingPluginError("openai", "openai") from exc
    # Of the class, because a module (`openai`) and a class of clients have a `chat` themselves.
    if all(hasattr(type(client), name) for name in COPYING) and _has_parts(client):
        return
    got = type(client).__name__
    if isinstance(client, type):
        got = f"the class {client.__name__}" + (
            f"; make one: {client.__name__}()" if _has_parts(client) else ""
        )
    raise ConfigError(f"client: must be an OpenAI or AsyncOpenAI object, got {got}")


def _has_parts(client: object) -> bool:
    return hasattr(client, "chat") and hasattr(client, "responses")


def _check_sinks(resources: SessionResources, sinks: Sequence[object]) -> None:
    """Refuse names that there are not; the first call makes the sinks."""
    from agentd.registry.options import split_spec

    for sink in sinks:
        if isinstance(sink, str | tuple | list):
            resources.registry().find("event_sink", split_spec(sink, where="sinks")[0])


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
    a patched copy shares it.

    :raises ConfigError: if this is no client.
    """
    _check_client(client)
    if getattr(client, MARK, None) is not None:
        from agentd_openai.closing import close_without
        from agentd_openai.methods import LaterBeta, patched_resources, unpatch_resource

        parts: Any = client
        for _, resource in patched_resources(parts):
            unpatch_resource(resource)
        if isinstance(parts.__dict__.get("beta"), LaterBeta):
            del parts.beta
        getattr(parts, "embeddings", parts).__dict__.pop("create", None)
        for name in (*COPYING, "cleanup_ptc", "cleanup_mcp", MARK):
            client.__dict__.pop(name, None)
        close_without(client)
    return client


def _patch(client: Any, holder: Holder) -> None:
    import openai

    from agentd_openai.closing import close_with
    from agentd_openai.embeddings import async_embed, sync_embed
    from agentd_openai.forks import guard_connections
    from agentd_openai.methods import LaterBeta, patch_resource, patched_resources

    for api, resource in patched_resources(client):
        patch_resource(client, resource, api, holder)
    if "beta" not in client.__dict__ and hasattr(getattr(type(client), "beta", None), "func"):
        LaterBeta(client, lambda resource: patch_resource(client, resource, "chat", holder))
    if hasattr(client, "embeddings"):
        embed = async_embed if isinstance(client, openai.AsyncOpenAI) else sync_embed
        client.embeddings.create = embed(client.embeddings.create, str(client.base_url), holder)
    for name in COPYING:
        setattr(client, name, _copying(getattr(type(client), name).__get__(client), holder))
    setattr(client, MARK, holder)
    close_with(client, holder)
    guard_connections(client)
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
