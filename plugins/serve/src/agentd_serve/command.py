"""`agentd serve`: the command. What is heavy is imported inside."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import click
from agentd_cli.options import debug_option
from agentd_cli.session_options import some_session_options
from agentd_cli.settings.asking import ConfiguredCommand

__all__ = ["serve"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_SECONDS = click.FloatRange(min=0, min_open=True)


class ServeCommand(ConfiguredCommand):
    """What `agentd.toml` calls the model is the one that clients may ask if no option names any."""

    def read_files(self, ctx: click.Context, folder: str) -> Mapping[str, Any]:
        values = super().read_files(ctx, folder)
        return {**values, "models": (values["model"],)} if "model" in values else values


@click.command(cls=ServeCommand, epilog="Exit codes: see agentd --help.")
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="NAME",
    help="A model that clients may ask; repeatable (default: AGENTD_MODEL, agentd.toml, OPENAI_MODEL).",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen. Others need --keys.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8333, show_default=True, help="0 for a free one."
)
@click.option(
    "--keys",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A YAML file of the keys that clients must bring, and of what each may do.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="HOST[:PORT]",
    help="Another name by which clients call this server; repeatable.",
)
@some_session_options(
    *("base_url", "api", "mode", "executor", "parsers", "bare_fences", "renderer", "skills"),
    *("plugin_options", "cwd", "max_turns", "timeout", "wall_time", "max_cost"),
    *("tools", "mcp_targets", "mcp_files", "log_dir", "sink_names", "history", "images", "config"),
)
@click.option(
    "--policy",
    metavar="NAME|FILE",
    help="What may be done: read-only, ask-writes, yolo, or a YAML file of rules. Nobody can be asked here: what they "
    "would ask about is denied.",
)
@click.option(
    "--max-requests", type=click.IntRange(min=1), default=64, show_default=True, help="Answered at once."
)
@click.option(
    "--queue", type=click.IntRange(min=0), default=64, show_default=True, help="How many more may wait."
)
@click.option(
    "--queue-wait", type=_SECONDS, default=30.0, show_default=True, metavar="SECONDS", help="For how long."
)
@click.option(
    "--max-conversations",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Kept for later requests; beyond, the one that was not used for longest ends.",
)
@click.option(
    "--idle",
    type=_SECONDS,
    default=1800.0,
    show_default=True,
    metavar="SECONDS",
    help="A conversation that has served nothing for so long ends.",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=16,
    show_default=True,
    metavar="MIB",
    help="Of a request.",
)
@click.option(
    "--stall",
    type=_SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="A client that takes nothing of its answer for so long is given up.",
)
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For what runs, after SIGTERM or Ctrl-C.",
)
@debug_option
def serve(
    *,
    models: tuple[str, ...],
    host: str,
    port: int,
    keys: Path | None,
    allowed_hosts: tuple[str, ...],
    mode: Literal["ptc", "tools"],
    cwd: Path,
    policy: str | None,
    timeout: float | None,
    max_turns: int,
    wall_time: float,
    max_cost: float | None,
    history: object | None,
    images: bool,
    max_requests: int,
    queue: int,
    queue_wait: float,
    max_conversations: int,
    idle: float,
    max_body: int,
    stall: float,
    grace: float,
    **plugins: Any,
) -> int:
    """Serve an OpenAI-compatible endpoint whose answers act: /v1/chat/completions and /v1/responses.

    Stands in front of the model of --model and --base-url, as `agentd run` has it. The blocks of its answers run in a
    sandbox, one for each conversation; clients get the chunks, events and objects of OpenAI's API.
    """
    if host not in _LOOPBACK and keys is None:
        raise click.UsageError(
            f"--host {host}: other machines can reach it, and would run code here; say with --keys FILE who may, or "
            "take a loopback address"
        )
    models = models or tuple(filter(None, [os.environ.get("AGENTD_MODEL") or os.environ.get("OPENAI_MODEL")]))
    import anyio
    from agentd.types import Budgets
    from agentd_cli import exits
    from agentd_cli.interrupts import Interrupts
    from agentd_cli.run_plugins import choose_plugins
    from agentd_cli.trial import check_executor
    from agentd_cli.unread_errors import relayed_errors

    from agentd_serve.answering import AnswerLimits
    from agentd_serve.keys import KeyRing, read_keys
    from agentd_serve.server import ServeSettings

    chosen = choose_plugins(
        has_code=mode == "ptc",
        timeout_s=timeout,
        model=models[0] if models else None,
        snapshots=None,
        **plugins,
    )
    if mode == "ptc":
        check_executor(chosen["registry"], chosen["executor"])
    spec = chosen["model"]
    options = dict(spec[1]) if isinstance(spec, tuple) else {}
    settings = ServeSettings(
        models=tuple(dict.fromkeys(models)),
        ring=KeyRing() if keys is None else read_keys(keys, models),
        host=host,
        port=port,
        allowed_hosts=allowed_hosts,
        root=cwd.absolute(),
        registry=chosen["registry"],
        session={
            "images": images,
            **{name: chosen[name] for name in ("executor", "renderer", "skills") if name in chosen},
        },
        history=history,
        acting={"mode": mode, "parsers": chosen.get("parsers")},
        budgets=Budgets(max_turns=max_turns, wall_time_s=wall_time, max_cost_usd=max_cost),
        sinks=chosen["sinks"],
        tools=[*chosen["tools"], *chosen["mcp_servers"]],
        policy=None if policy is None else _read_policy(policy),
        base_url=chosen["base_url"],
        api_key=options.pop("api_key", None),
        api=chosen["api"],
        prices=options.pop("prices", None),
        defaults=options.pop("request", {}),
        max_requests=max_requests,
        queue=queue,
        queue_s=queue_wait,
        max_conversations=max_conversations,
        idle_s=idle,
        grace_s=grace,
        answers=AnswerLimits(body_bytes=max_body * 1024 * 1024, stall_s=stall),
    )
    if options:
        raise click.UsageError(
            f"-o model...: serve takes request, prices and api_key, not {', '.join(map(repr, options))}"
        )
    with relayed_errors(), Interrupts() as interrupts:
        anyio.run(_serve, settings, interrupts)
    return interrupts.exit_code or exits.OK


def _read_policy(named: str) -> object:
    from agentd_policy.reading import read_policy

    return read_policy(named)[0]  # once: each conversation has it


async def _serve(settings: Any, interrupts: Any) -> None:
    import asyncio
    import gc

    from agentd_serve.server import serve_until

    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    interrupts.on_first = lambda: loop.call_soon_threadsafe(ended.set)
    if interrupts.exit_code is not None:
        ended.set()

    async def ending() -> None:
        await ended.wait()

    def told(address: str) -> None:
        # What is loaded by now stays. To look at all of it would hold up every stream for a tenth of a second.
        gc.collect()
        gc.freeze()
        who = "no key is needed" if settings.ring.is_open else f"{len(settings.ring.keys)} keys"
        click.echo(f"agentd: {address} serves {', '.join(settings.models)} ({who})", err=True)

    await serve_until(settings, told, ending)
