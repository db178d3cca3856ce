"""What a sandbox is started with so that its programs find the proxy: a command and variables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentd_executor_native.network.inside import proxy_port

__all__ = ["port_command", "proxy_environment"]


def port_command(python: str, descriptor: int, command: Sequence[str]) -> list[str]:
    """Return the command that hands the proxy's port over, in the sandbox, and becomes `command` then.

    The program is in the command line itself, so that the sandbox need not show a file of it.

    :param descriptor: of `Egress.child_end`; `command` has it no more.
    :param command: it begins with a path; names are not looked for.
    """
    source = Path(proxy_port.__file__).read_text()
    return [python, "-I", "-S", "-c", source, str(descriptor), *command]


def proxy_environment() -> dict[str, str]:
    """Return the variables by which programs in the sandbox find the proxy."""
    proxy = f"http://127.0.0.1:{proxy_port.PORT}"
    # `all_proxy` names no SOCKS: httpx refuses to start with one if a package of its own is missing.
    values = {"http_proxy": proxy, "https_proxy": proxy, "all_proxy": proxy}
    values["no_proxy"] = "localhost,127.0.0.1,::1"  # what code itself listens on
    both = values | {name.upper(): value for name, value in values.items()}
    return both | {"NODE_USE_ENV_PROXY": "1"}  # Node's own fetch looks at the others only then
