"""The patched methods of `chat.completions` and `responses`: `create`, `parse` and `stream`, sync and async.

`with_raw_response` and `with_streaming_response` are made by the SDK of these methods, and so are patched with them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd.errors import ConfigError
from agentd.registry.options import objection

from agentd_openai.raw import is_raw

if TYPE_CHECKING:
    from agentd_openai.calls import PatchedCall
    from agentd_openai.state import Holder, Mode
    from agentd_openai.through import RunTransport

__all__ = ["LaterBeta", "patch_resource", "patched_resources", "unpatch_resource"]

METHODS: Final = ("create", "parse", "stream")
MADE_OF_THEM: Final = ("with_raw_response", "with_streaming_response")
BARE: Final = "_agentd_bare"


def patched_resources(client: Any) -> Iterable[tuple[str, Any]]:
    """Return what is patched of a client: the API that it speaks, and the resource."""
    yield "chat", client.chat.completions
    yield "responses", client.responses
    beta = client.__dict__.get("beta")
    if beta is not None and not isinstance(beta, LaterBeta) and hasattr(beta, "chat"):
        yield "chat", beta.chat.completions  # the same methods under their old name


class LaterBeta:
    """Stands for `client.beta` until it is used, and then patches the SDK's own: to import that takes most of a second
    and 680 modules.

    :param patch: puts our methods in place of a resource's.
    """

    def __init__(self, client: Any, patch: Callable[[Any], None]) -> None:
        own = {"_client": client, "_patch": patch, "_lock": threading.RLock()}
        self.__dict__.update(own)
        client.beta = self

    def __getattr__(self, name: str) -> Any:
        if "_client" not in self.__dict__:  # a copy in the making
            raise AttributeError(name)
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real(), name, value)

    def _real(self) -> Any:
        client = self._client
        with self._lock:
            if client.__dict__.get("beta") is self:
                real = type(client).beta.func(client)
                if hasattr(real, "chat"):
                    self._patch(real.chat.completions)
                client.beta = real
        return client.beta


def patch_resource(client: Any, resource: Any, api: str, holder: Holder) -> None:
    """Put our methods in place of the SDK's, on this object alone."""
    import openai

    bare = copy(resource)
    for name in MADE_OF_THEM:
        bare.__dict__.pop(name, None)
        resource.__dict__.pop(name, None)
    is_async = isinstance(client, openai.AsyncOpenAI)
    methods = PatchedMethods(client, bare, api, holder, is_async)
    made = (_async_methods if is_async else _sync_methods)(methods)
    for name in METHODS:
        if hasattr(bare, name):
            setattr(resource, name, wraps(getattr(bare, name))(made[name]))
    setattr(resource, BARE, bare)


def unpatch_resource(resource: Any) -> None:
    """Give a resource back the methods that it had."""
    bare = resource.__dict__.pop(BARE, None)
    for name in (*METHODS, *MADE_OF_THEM) if bare is not None else ():
        resource.__dict__.pop(name, None)
        if name in METHODS and name in bare.__dict__:  # a wrapper of somebody else's
            setattr(resource, name, bare.__dict__[name])


@attrs.frozen
class _Ours:
    """The arguments of a call that only agentd knows."""

    mcp_servers: Sequence[object]
    mcp_strict: bool
    ptc_enabled: bool


@attrs.define(eq=False)
class PatchedMethods:
    """What the methods of one resource share.

    :param bare: the resource with the SDK's own methods.
    """

    client: Any
    bare: Any
    api: str
    holder: Holder
    is_async: bool

    def mode(self, args: tuple[Any, ...], kwargs: dict[str, Any], ours: _Ours) -> Mode | None:
        """Return how a call is served; None if it is the SDK's own business."""
        state = self.holder.state
        mode = state.ptc if ours.ptc_enabled and state.ptc is not None else state.tools
        if mode is None and ours.mcp_servers:
            raise ConfigError(
                "mcp_servers: need ptc_enabled=True, or patch_openai_with_mcp(client) for native tool calls"
            )
        needed = ("model", "messages") if self.api == "chat" else ("model",)
        if args or any(name not in kwargs for name in needed) or _is_given(kwargs.get("response_id")):
            return None
        if mode is None or mode.acting.mode != "tools" or ours.mcp_servers or state.resources.has_tools:
            return mode
        return None

    def cleaned(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments for the SDK's own call, without what only agentd understands."""
        from agentd_openai import chat_request, responses_request

        if self.api == "responses":
            return self.holder.state.goes_on_from(responses_request.without_ours(kwargs))
        if isinstance(kwargs.get("messages"), list):
            return {**kwargs, "messages": chat_request.restored(kwargs["messages"])}
        return kwargs

    def call(self, mode: Mode, ours: _Ours, arguments: dict[str, Any], **more: Any) -> PatchedCall:
        """Return the run of a call."""
        from agentd_openai.calls import PatchedCall

        more.setdefault("original", self.bare.create)
        return PatchedCall(
            holder=self.holder,
            mode=mode,
            api=self.api,
            is_async=self.is_async,
            base_url=str(self.client.base_url),
            arguments=arguments,
            mcp_servers=ours.mcp_servers,
            mcp_strict=ours.mcp_strict,
            **more,
        )

    def through(
        self, name: str, mode: Mode, ours: _Ours, kwargs: dict[str, Any], form_type: Any
    ) -> tuple[RunTransport, Callable[[], Any]]:
        """Return the transport that answers with a run, and the SDK's method that asks it."""
        from agentd_openai.responses_request import own_items_as_text
        from agentd_openai.through import KeptResponse, RunTransport

        kept = KeptResponse(self.bare, self.is_async)
        made = partial(self.call, mode, ours, original=kept.create(), form_type=form_type)
        transport = RunTransport(made, kept, kwargs)
        view = transport.view(self.client)
        resource = view.chat.completions if self.api == "chat" else view.responses
        if self.api == "chat":
            kwargs = self.cleaned(kwargs)
        elif isinstance(kwargs.get("input"), list):
            kwargs = {**kwargs, "input": own_items_as_text(kwargs["input"])}
        return transport, partial(getattr(resource, name), **kwargs)

    def helper(self, create: Callable[..., Any], kwargs: dict[str, Any]) -> Any:
        """Return the SDK's helper `stream` over a `create` of ours."""
        resource = copy(self.bare)
        resource.create = create
        return type(resource).stream.__get__(resource)(**kwargs)


def _ours(kwargs: dict[str, Any]) -> _Ours:
    """Take our arguments out of a call's."""
    return _Ours(
        mcp_servers=_server_list(kwargs.pop("mcp_servers", None)),
        mcp_strict=kwargs.pop("mcp_strict", False),
        ptc_enabled=kwargs.pop("ptc_enabled", True),
    )


def _server_list(given: Any) -> Sequence[object]:
    # The letters of a text and the keys of a mapping would be servers, each a program of that name.
    if given is not None and (wrong := objection(given, list)):
        raise ConfigError(f"mcp_servers: {wrong}")
    return given or ()


def _sync_methods(methods: PatchedMethods) -> dict[str, Callable[..., Any]]:
    def through(name: str, mode: Mode, ours: _Ours, form_type: Any = None, **kwargs: Any) -> Any:
        transport, ask = methods.through(name, mode, ours, kwargs, form_type)
        try:
            return ask()
        except Exception as exc:
            error = transport.error or exc
            raise error from error.__cause__

    def create(*args: Any, **kwargs: Any) -> Any:
        ours = _ours(kwargs)
        mode = methods.mode(args, kwargs, ours)
        if mode is None:
            return methods.bare.create(*args, **methods.cleaned(kwargs))
        if is_raw(kwargs):
            return through("create", mode, ours, **kwargs)
        stream, arguments = _arguments(kwargs)
        call = methods.call(mode, ours, arguments)
        return call.sync_stream() if stream else call.sync_whole()

    def parse(*args: Any, **kwargs: Any) -> Any:
        ours = _ours(kwargs)
        mode = methods.mode(args, kwargs, ours)
        if mode is None:
            return methods.bare.parse(*args, **methods.cleaned(kwargs))
        return through("parse", mode, ours, _form_type(kwargs), **kwargs)

    def stream(*args: Any, **kwargs: Any) -> Any:
        ours = _ours(kwargs)
        mode = methods.mode(args, kwargs, ours)
        if mode is None:
            return methods.bare.stream(*args, **methods.cleaned(kwargs))
        return methods.helper(partial(through, "create", mode, ours, _form_type(kwargs)), kwargs)

    return {"create": create, "parse": parse, "stream": stream}


def _async_methods(methods: PatchedMethods) -> dict[str, Callable[..., Any]]:
    async def through(name: str, mode: Mode, ours: _Ours, form_type: Any = None, **kwargs: Any) -> Any:
        transport, ask = methods.through(name, mode, ours, kwargs, form_type)
        try:
            return await ask()
        except Exception as exc:
            error = transport.error or exc
            raise error from error.__cause__

    async def create(*args: Any, **kwargs: Any) -> Any:
        ours = _ours(kwargs)
        mode = methods.mode(args, kwargs, ours)
        if mode is None:
            return await methods.bare.create(*args, **methods.cleaned(kwargs))
        if is_raw(kwargs):
            return await through("create", mode, ours, **kwargs)
        stream, arguments = _arguments(kwargs)
        call = methods.call(mode, ours, arguments)
        return await (call.async_stream() if stream else call.async_whole())

    async def parse(*args: Any, **kwargs: Any) -> Any:
        ours = _ours(kwargs)
        mode = methods.mode(args, kwargs, ours)
        if mode is None:
            return await methods.bare.parse(*args, **methods.cleaned(kwargs))
        return await through("parse", mode, ours, _form_type(kwargs), **kwargs)

    def stream(*args: Any, **kwargs: Any) -> Any:
        ours = _ours(kwargs)
        mode = methods.mode(args, kwargs, ours)
        if mode is None:
            return methods.bare.stream(*args, **methods.cleaned(kwargs))
        return methods.helper(partial(through, "create", mode, ours, _form_type(kwargs)), kwargs)

    return {"create": create, "parse": parse, "stream": stream}


def _is_given(value: object) -> bool:
    return value is not None and type(value).__name__ not in ("NotGiven", "Omit")


def _form_type(kwargs: dict[str, Any]) -> Any:
    """Return the type that the caller reads the last answer as; a description of JSON is none."""
    wanted = kwargs.get("response_format", kwargs.get("text_format"))
    return wanted if _is_given(wanted) and not isinstance(wanted, dict) else None


def _arguments(kwargs: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
    """Return whether to stream, and the arguments that the caller really gave."""
    given = {k: v for k, v in kwargs.items() if type(v).__name__ not in ("NotGiven", "Omit")}
    return bool(given.pop("stream", False)), given
