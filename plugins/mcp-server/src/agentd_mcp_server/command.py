"""`agentd mcp`: the command. What is heavy is imported inside."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

import attrs
import click
from agentd.errors import ConfigError
from agentd_cli.options import EXECUTOR_HELP, debug_option, names_or_files, plugin_names

__all__ = ["mcp"]

_KEEPING: Final = ("auto", "msb", "native", "srt", "subprocess")
"""The executors whose Python keeps its namespace here unless the option `state` says otherwise."""
_CONNECTIONS: Final = 1024
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@click.command()
@click.option("--executor", "-e", metavar="NAME", shell_complete=plugin_names("executor"), help=EXECUTOR_HELP)
@click.option(
    "-o",
    "--option",
    "plugin_options",
    multiple=True,
    metavar="[KIND.NAME.]KEY=VALUE",
    help="An option of the executor, or of another plugin, as for `agentd run`; repeatable.",
)
@click.option(
    "--cwd",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The workspace (default: here). With --http, each sandbox has a folder of its own in it.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="For one block (default: 60).",
)
@click.option(
    "--tool",
    "--tools",
    "tools",
    multiple=True,
    metavar="FILE.py|NAME:...",
    type=click.Path(),
    help="Offer these tools to the code; repeatable.",
)
@click.option(
    "--mcp",
    "mcp_targets",
    multiple=True,
    metavar="TARGET",
    help="Offer the tools of this MCP server to the code; repeatable.",
)
@click.option(
    "--mcp-config",
    "mcp_files",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Offer those of the MCP servers in this JSON file; repeatable.",
)
@click.option(
    "--offer",
    metavar="KIND,...",
    default="prompts,resources",
    show_default=True,
    callback=lambda context, option, value: _kinds(value),
    help="What of the MCP servers the client is offered itself, as well as the functions in code: tools, prompts, "
    "resources, or none.",
)
@click.option(
    "--policy",
    metavar="NAME|FILE",
    shell_complete=names_or_files("read-only", "ask-writes", "yolo"),
    help="What may be done: read-only, ask-writes, yolo, or a YAML file of rules. Questions "
    "go to the client's person (elicitation).",
)
@click.option(
    "--images/--no-images",
    default=True,
    show_default=True,
    help="Pictures that code shows (agentd.show) and tools return are in results.",
)
@click.option(
    "--log",
    "log_dir",
    type=click.Path(path_type=Path),
    metavar="DIR|FILE.jsonl",
    help="Keep the events as JSON lines: in DIR, a file for each call that runs code; or all in FILE.jsonl.",
)
@click.option(
    "--http", metavar="[HOST:]PORT", help="Serve many clients over HTTP at /mcp, not one over standard input."
)
@click.option(
    "--token-env",
    metavar="NAME",
    help="With --http: the environment variable with the bearer token that each request must bring. Needed for a HOST "
    "that is not loopback.",
)
@click.option(
    "--allowed-host",
    "allowed_hosts",
    multiple=True,
    metavar="HOST:PORT",
    help="With --http: another name by which clients call this server; repeatable.",
)
@click.option(
    "--max-sandboxes",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="With --http: at once. For one more, the one that has been idle for longest is put away.",
)
@click.option(
    "--keep-idle",
    "grace_s",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="With --http: how long a sandbox whose client is not connected is kept at least, if others wait for a place.",
)
@click.option(
    "--reconnect",
    "reconnect_s",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="With --http: how long a call goes on for a client whose connection broke (revisions up to 2025-11-25).",
)
@debug_option
def mcp(
    *,
    cwd: Path,
    timeout: float | None,
    offer: frozenset[str],
    policy: str | None,
    images: bool,
    http: str | None,
    token_env: str | None,
    allowed_hosts: tuple[str, ...],
    max_sandboxes: int,
    grace_s: float,
    reconnect_s: float,
    **plugins: Any,
) -> int:
    """Serve tools that run code in a sandbox to an MCP client: code mode for any client.

    Its tools run bash and Python, write files, list them, keep checkpoints and go back. In that code, the tools of
    --tool, --mcp and --mcp-config are Python functions.
    """
    import anyio
    from agentd.registry.options import split_spec
    from agentd_cli import exits
    from agentd_cli.interrupts import Interrupts
    from agentd_cli.run_plugins import choose_plugins
    from agentd_cli.standard_streams import claimed
    from agentd_cli.trial import check_executor
    from agentd_cli.unread_errors import relayed_errors
    from agentd_images.settings import Images

    from agentd_mcp_server.given import GivenRegistry

    chosen = choose_plugins(
        has_code=True,
        timeout_s=timeout,
        model="mcp-client",
        base_url=None,
        api="chat",
        parsers=("fence",),
        renderer=None,
        skills=(),
        snapshots=None,
        sink_names=(),
        **plugins,
    )
    session = {
        name: value
        for name, value in chosen.items()
        if name not in ("model", "base_url", "api", "model_options", "prices")
    }
    session["registry"] = GivenRegistry()
    place, options = split_spec(session["executor"], where="executor")
    if place in _KEEPING:
        options = {"state": "kept", **options}
        session["executor"] = (place, options)
    check_executor(session["registry"], session["executor"])
    keeps_python = options.get("state") == "kept"
    session |= {} if policy is None else {"policy": policy}
    session |= {"images": Images(sees=True)} if images else {}

    def settings(name: str) -> Mapping[str, Any]:
        return {**session, "cwd": cwd if http is None else cwd / name}

    if http is None and (token_env or allowed_hosts):
        raise click.UsageError("--token-env and --allowed-host need --http")
    if http is None and sys.stdin.isatty():
        click.echo(
            "agentd: this serves one MCP client over standard input, and waits for it; clients start it by themselves "
            "with this command in their configuration. --http PORT serves many. Ctrl-C ends it",
            err=True,
        )
    where = None if http is None else _address(http, token_env)
    token = "" if token_env is None else os.environ.get(token_env, "")
    if token_env is not None and not token:
        raise ConfigError(f"--token-env: the environment variable {token_env} is not set, or is empty")
    claims: AbstractContextManager[Any] = claimed() if http is None else relayed_errors()
    # A KeyboardInterrupt in the event loop may hit what is not made for it: `_serve` looks whether a signal has come.
    with claims as streams, Interrupts(lambda: None) as interrupts:
        over_http = (
            None
            if where is None
            else _OverHttp(where, token, allowed_hosts, max_sandboxes, grace_s, reconnect_s)
        )
        kinds = offer if session.get("mcp_servers") else frozenset()
        anyio.run(_serve, settings, kinds, over_http, streams, interrupts, keeps_python)
    return interrupts.exit_code or exits.OK


def _kinds(text: str) -> frozenset[str]:
    from agentd.errors import suggest

    from agentd_mcp_server.offering import KINDS

    given = [word.strip() for word in text.split(",") if word.strip()]
    if given == ["none"]:
        return frozenset()
    for word in given:
        if word not in KINDS:
            known = (*KINDS, "none")
            raise click.BadParameter(
                f"must be any of {', '.join(KINDS)}, with commas between, or none; got {word!r}{suggest(word, known)}"
            )
    return frozenset(given)


def _address(text: str, token_env: str | None) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise click.BadParameter(
            f"must be PORT or HOST:PORT with a port from 1 to 65535, or 0 for a free one; got {text!r}",
            param_hint="--http",
        )
    if host not in _LOOPBACK and token_env is None:
        raise click.UsageError(
            f"--http {text}: other machines can reach {host}, and would run code here; name the variable with a token "
            "that they must bring with --token-env, or take a loopback address"
        )
    return host, int(port)


@attrs.frozen
class _OverHttp:
    """How many clients are served at once."""

    where: tuple[str, int]
    token: str
    names: tuple[str, ...]
    sandboxes: int
    grace_s: float
    reconnect_s: float


async def _serve(
    settings: Any,
    kinds: frozenset[str],
    over_http: _OverHttp | None,
    streams: Any,
    interrupts: Any,
    keeps_python: bool,
) -> None:
    import asyncio

    import agentd
    import anyio

    from agentd_mcp_server.client_sandboxes import ClientSandboxes
    from agentd_mcp_server.offered_lists import Offer
    from agentd_mcp_server.server import make_server, serve_stdio
    from agentd_mcp_server.tools import NAMES

    logging.getLogger("mcp.shared.jsonrpc_dispatcher").addFilter(BlockedWrites())
    version = getattr(agentd, "__version__", "")
    limits: dict[str, Any] = {}
    if over_http is not None:
        limits = {"most": over_http.sandboxes, "grace_s": over_http.grace_s, "are_shared": True}
    async with ClientSandboxes(settings, offer=Offer(kinds, tuple(NAMES)), **limits) as sandboxes:
        await sandboxes.check()
        is_http = over_http is not None
        server = make_server(
            sandboxes, version=version, is_http=is_http, keeps_python=keeps_python, offer=kinds
        )
        with anyio.CancelScope() as scope:
            loop = asyncio.get_running_loop()
            interrupts.on_first = lambda: loop.call_soon_threadsafe(scope.cancel)
            if interrupts.exit_code is not None:
                scope.cancel()
            if over_http is None:
                await serve_stdio(server, *streams)
            else:
                await _serve_http(server, over_http, sandboxes)


async def _serve_http(server: Any, over_http: _OverHttp, places: Any) -> None:
    from agentd_cli.http.bounded_server import ConnectionLimits, make_server
    from agentd_cli.listening import listen

    from agentd_mcp_server.server import http_application

    host, port = over_http.where
    with listen(host, port, said=f"--http {host}:{port}") as listening:
        port = listening.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        hosts = [
            f"{shown}:{port}",
            *(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")),
            *over_http.names,
        ]
        app = http_application(
            server,
            hosts=hosts,
            token=over_http.token,
            places=places,
            sandboxes=over_http.sandboxes,
            reconnect_s=over_http.reconnect_s,
        )
        # A client with a session has one that stays open, and one for each request under way.
        limits = ConnectionLimits(connections=max(_CONNECTIONS, 8 * over_http.sandboxes))
        running = make_server(app, limits, lifespan="on")
        logging.getLogger("uvicorn.error").addFilter(_is_no_end)
        click.echo(f"agentd: MCP at http://{shown}:{port}/mcp", err=True)
        await running.serve([listening])


class BlockedWrites(logging.Filter):
    """Lets pass once a minute that somebody takes nothing more: the SDK says so of each question that it withdraws."""

    _SAID: Final = "gave up: transport write blocked"
    _EVERY_S: Final = 60.0

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        if self._SAID not in str(record.msg):
            return True
        is_due = record.created >= self._next
        if is_due:
            self._next = record.created + self._EVERY_S
        return is_due


def _is_no_end(record: logging.LogRecord) -> bool:
    """Tell whether uvicorn reports a failure: a signal cancels what is under way, of which it prints tracebacks."""
    error = None if record.exc_info is None else record.exc_info[1]
    ends = (type(error).__name__, record.getMessage().rstrip().rpartition(".")[2])
    return "CancelledError" not in ends  # by name: to import asyncio takes longer than this command
