"""A server from its settings: tools, conversations, who may ask; from its start to the end of what it has started."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import attrs
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd.session.acting import Acting
from agentd.session.resources import SessionResources
from agentd.types import Budgets
from agentd_cli.http.bounded_server import ConnectionLimits, make_server
from agentd_cli.listening import listen
from agentd_model_openai.routing import client_settings
from agentd_model_openai.tls import http_settings
from agentd_openai.state import Mode

from agentd_serve.admission import Admission
from agentd_serve.answering import Answering, AnswerLimits
from agentd_serve.application import Door, loopback_hosts, make_application
from agentd_serve.conversations import ConversationPool
from agentd_serve.keys import KeyRing, ServedKey
from agentd_serve.other_api import EitherApiState
from agentd_serve.shared_tools import SharedTools

__all__ = ["LOOPBACK", "ServeSettings", "serve_until"]

_log: Final = logging.getLogger("agentd.serve")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")
_CANCEL_S: Final = 10.0
"""How long what was cancelled may take to end."""
_CLOSE_S: Final = 3.0
"""How long a client has at least to take what was sent to it."""


@attrs.frozen(kw_only=True)
class ServeSettings:
    """What `agentd serve` was told.

    :ivar session: arguments of `SessionResources`, but tools and workspace; `acting`: those of `Acting`, but budgets.
    :ivar tools: what tool source plugins take.
    :ivar history: how much of a long conversation the model is told: a `History` of agentd-history; None for all.
    :ivar settings: `base_url`, `api_key` and `api` of the model's server; `prices` and `defaults` of its requests;
        `retries`: how often one that failed is sent again.
    :ivar queue: how many requests wait beyond `max_requests`, and `queue_s` for how long.
    :ivar grace_s: how long requests may go on after the signal to end.
    """

    models: tuple[str, ...]
    ring: KeyRing
    host: str = "127.0.0.1"
    port: int = 8333
    allowed_hosts: tuple[str, ...] = ()
    root: Path = Path()
    registry: Registry = attrs.field(factory=Registry)
    session: Mapping[str, Any] = attrs.field(factory=dict)
    acting: Mapping[str, Any] = attrs.field(factory=dict)
    budgets: Budgets = attrs.field(factory=Budgets)
    sinks: Sequence[Any] = ()
    tools: Sequence[object] = ()
    policy: object = None
    history: object = None
    base_url: str | None = None
    api_key: str | None = None
    api: Literal["chat", "responses"] = "chat"
    prices: Mapping[str, tuple[float, ...]] | None = None
    defaults: Mapping[str, Any] = attrs.field(factory=dict)
    retries: int = 2
    max_requests: int = 64
    queue: int = 64
    queue_s: float = 30.0
    max_conversations: int = 256
    idle_s: float = 1800.0
    grace_s: float = 30.0
    answers: AnswerLimits = attrs.field(factory=AnswerLimits)
    head_s: float = 15.0


class _StateMaker:
    """Makes what one conversation works with."""

    def __init__(self, settings: ServeSettings, client: Any, tools: SharedTools) -> None:
        self._settings = settings
        self._client = client
        self._tools = tools

    def __call__(self, key: ServedKey, folder: Path) -> EitherApiState:
        settings = self._settings
        policy = settings.policy if key.policy is None else key.policy
        resources = SessionResources(
            **settings.session,
            cwd=folder,
            registry=settings.registry,
            tools=self._tools.functions,
            mcp_servers=self._tools.shares(),
            policy=policy,
        )
        state = EitherApiState(resources, self._client, settings.api)
        budgets = attrs.evolve(settings.budgets, **key.budgets)
        acting = Acting(state.current, budgets=budgets, **settings.acting)
        state.ptc = Mode(state.current, acting, settings.sinks, settings.prices, settings.history)
        return state


def _make_client(settings: ServeSettings) -> Any:
    """Return an `AsyncOpenAI` for the model's server. :raises ConfigError: if a key is needed, and there is none."""
    import openai

    found: dict[str, Any] = {}
    for name in settings.models:
        try:
            found = client_settings(
                name, base_url=settings.base_url, api_key=settings.api_key, api=settings.api
            )
        except ConfigError:
            if not _is_of_plugin(settings, name):
                raise
    client = openai.AsyncOpenAI(
        base_url=found.get("base_url") or settings.base_url,
        api_key=found.get("api_key") or "none",
        max_retries=settings.retries,
        **http_settings(openai, is_async=True, wired=True),
    )
    _ = client.chat.completions.create, client.responses.create  # imports what these need, now
    return client


def _check_prices(settings: ServeSettings) -> None:
    """:raises ConfigError: for a money budget over a model whose price nobody knows."""
    from agentd_model_openai.prices import find_price

    limited: dict[str, Sequence[str]] = {}
    if settings.budgets.max_cost_usd is not None:
        limited["--max-cost"] = settings.models
    for _, key in settings.ring.keys:
        if key.spending.max_cost_usd is not None or key.budgets.get("max_cost_usd") is not None:
            limited[f"max_cost_usd of the key {key.name!r}"] = key.models or settings.models
    for what, models in limited.items():
        for name in models:
            if find_price(name, settings.prices) is None and not _is_of_plugin(settings, name):
                raise ConfigError(
                    f"{what}: no price of {name!r} is known; give it, in dollars per million tokens: "
                    f"-o 'model.prices={{\"{name}\": [INPUT, OUTPUT]}}'"
                )


def _is_of_plugin(settings: ServeSettings, name: str) -> bool:
    """Tell whether a model provider's plugin serves the model, and not the client."""
    return settings.registry.serve_client(name, settings.base_url or "", settings.api, {}) is not None


async def serve_until(
    settings: ServeSettings, told: Callable[[str], None], ending: Callable[[], Awaitable[None]]
) -> None:
    """Serve, until `ending` returns; then finish what runs.

    :param told: takes the address, once it is served.
    Raises what is wrong with the settings, before anything is served.
    """
    _check_prices(settings)
    client = _make_client(settings)
    tools = SharedTools(settings.registry, settings.tools)
    try:
        make = _StateMaker(settings, client, tools)
        said = f"--host {settings.host} --port {settings.port}"
        with listen(settings.host, settings.port, said=said) as listening:
            await _check(make, settings.ring.anyone)
            await tools.open()
            pool = ConversationPool(
                make,
                settings.root,
                most=max(settings.max_conversations, settings.max_requests),
                idle_s=settings.idle_s,
            )
            async with pool:
                await _serve(settings, client, pool, listening, told, ending)
    finally:
        with anyio.CancelScope(shield=True):
            await tools.aclose()
            await client.close()


async def _check(make: _StateMaker, key: ServedKey) -> None:
    """Make what a conversation works with, once: names and options that are wrong are told before the first request."""
    with tempfile.TemporaryDirectory(prefix="agentd-") as folder:
        state = make(key, Path(folder))
        try:
            assert state.ptc is not None
            state.ptc.acting.check()
        finally:
            await state.resources.aclose()


async def _serve(
    settings: ServeSettings,
    client: Any,
    pool: ConversationPool,
    listening: Any,
    told: Callable[[str], None],
    ending: Callable[[], Awaitable[None]],
) -> None:
    port = listening.getsockname()[1]
    admission = Admission(
        most=settings.max_requests,
        waiting=settings.queue,
        wait_s=settings.queue_s,
        slow_s=settings.answers.slow_s,
    )
    answering = Answering(
        client=client,
        models=settings.models,
        defaults=dict(settings.defaults),
        admission=admission,
        pool=pool,
        limits=settings.answers,
    )
    hosts = frozenset(name.lower() for name in settings.allowed_hosts)
    if settings.host in LOOPBACK:
        hosts = loopback_hosts(port, settings.allowed_hosts)
    connections = 4 * (settings.max_requests + settings.queue) + 64
    limits = ConnectionLimits(connections=connections, silent=connections // 4, head_s=settings.head_s)
    server = make_server(make_application(answering, Door(ring=settings.ring, hosts=hosts)), limits)
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    async with anyio.create_task_group() as care:
        care.start_soon(answering.look_after)
        async with anyio.create_task_group() as group:
            group.start_soon(partial(server.serve, sockets=[listening]))
            told(f"http://{shown}:{port}/v1")
            await ending()
            until = anyio.current_time() + settings.grace_s
            admission.drain()
            with anyio.move_on_after(settings.grace_s):
                await admission.idle()
            if admission.under_way:
                _log.warning("%d requests have not ended in time, and are ended", admission.under_way)
                admission.cancel()
                with anyio.move_on_after(_CANCEL_S):
                    await admission.idle()
            # What was sent and not taken yet still goes out.
            left_s = max(until - anyio.current_time(), _CLOSE_S)
            server.config.timeout_graceful_shutdown = math.ceil(left_s)
            server.should_exit = True
        care.cancel_scope.cancel()
