"""Ray, as a fleet finds it: imported, connected to, and asked for its nodes."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Mapping
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, MissingPluginError

from agentd_ray.errors import FleetError

__all__ = ["NAMESPACE", "RayNode", "connect", "import_ray", "nodes"]

NAMESPACE: Final = "agentd"
LEAST: Final = (2, 60)
REACH_S: Final = 5.0
_SETTINGS: Final = 4
_HELLO: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, _SETTINGS, 0, 0, 0, 0, 0))
"""How HTTP/2 begins, which gRPC speaks: an empty SETTINGS frame (RFC 9113, 3.4). The server answers with another."""
_TOKEN: Final = (
    "if the cluster has a token (Ray's default where ~/.ray/auth_token is), set RAY_AUTH_MODE=token here, and copy "
    "that file of its head to here, or set RAY_AUTH_TOKEN"
)


@attrs.frozen(kw_only=True)
class RayNode:
    """A node of the cluster, as Ray tells of it. `is_draining`: it is about to go, as a spot machine is."""

    id: str
    address: str
    name: str
    resources: Mapping[str, float]
    is_draining: bool = False

    def __str__(self) -> str:
        return f"{self.name} ({self.id[:12]})"


def import_ray() -> Any:
    """Return the module `ray`.

    :raises MissingPluginError: if it is not installed; `ConfigError` if it is too old.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingPluginError("Fleet", "ray") from error
    numbers = tuple(int(part) for part in ray.__version__.split(".")[:2] if part.isdigit())
    if numbers < LEAST:
        raise ConfigError(
            f"Fleet: needs Ray {'.'.join(map(str, LEAST))} or newer, {ray.__version__} is installed; "
            "update it here and on all nodes: pip install -U ray"
        )
    return ray


def connect(address: str | None, options: Mapping[str, Any]) -> bool:
    """Connect this process to a cluster; False if it was connected before, and so stays when the fleet is closed.

    :param address: `auto` for the running cluster, None for one that is started here and ends with the fleet.
    :raises FleetError: if there is no cluster to be reached, or it has another version.
    """
    ray = import_ray()
    if ray.is_initialized():
        return False
    if address not in (None, "auto", "local"):
        _check_reached(address)
    given = {"namespace": NAMESPACE, "log_to_driver": False, **options}
    given["address"] = address or "local"  # without one, Ray connects to a cluster that happens to run here
    if given["address"] == "local":
        given.setdefault("include_dashboard", False)
    try:
        ray.init(**given)
    except ConnectionError as error:
        if "Failed to connect" not in str(error):  # as it says of one that is there
            raise _not_there("no running cluster was found", error) from error
        raise FleetError(
            f"Fleet: the cluster at {address!r} does not let this program in: {_short(error)}; {_TOKEN}"
        ) from error
    except ray.exceptions.AuthenticationError as error:
        raise FleetError(
            f"Fleet: the cluster at {address!r} cannot be used: {error.message}; {_TOKEN}"
        ) from error
    except RuntimeError as error:  # another version of Ray or of Python on the cluster
        raise FleetError(
            f"Fleet: the cluster at {address!r} cannot be used: {_short(error)}; the driver and all nodes need "
            f"the same versions of Ray (here {ray.__version__}) and Python"
        ) from error
    return True


def _check_reached(address: str) -> None:
    """Raise for an address where nobody listens, or something else: Ray itself tries that for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        raise ConfigError(
            f"Fleet: address must be 'auto', 'HOST:PORT' of the cluster's head, or 'local', got {address!r}; the "
            "driver is to run where the nodes can be reached, not behind a Ray client"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), REACH_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0").lower() in ("0", "false", "") and not _is_grpc(connection):
                raise OSError("what listens there is not the head of a Ray cluster")
    except OSError as error:
        raise _not_there(f"the cluster at {address!r} is not reached", error) from error


def _is_grpc(connection: socket.socket) -> bool:
    """Tell whether gRPC is spoken there, which has no TLS."""
    connection.sendall(_HELLO)
    answer = b""
    try:
        while len(answer) < 9 and (more := connection.recv(9 - len(answer))):
            answer += more
    except TimeoutError:
        pass
    return len(answer) == 9 and answer[3] == _SETTINGS


def _not_there(what: str, error: BaseException) -> FleetError:
    return FleetError(
        f"Fleet: {what}: {_short(error)}; start one with `ray start --head`, give its address ('HOST:6379'), or "
        "'local' for one on this machine"
    )


def nodes() -> list[RayNode]:
    """Return the nodes that are alive. Blocking.

    :raises FleetError: if the cluster cannot be asked any more.
    """
    ray = import_ray()
    try:
        draining = _draining()
        return [
            RayNode(
                id=node["NodeID"],
                address=node.get("NodeManagerAddress", ""),
                name=node.get("NodeName") or node.get("NodeManagerHostname") or node["NodeID"][:12],
                resources=dict(node.get("Resources") or {}),
                is_draining=node["NodeID"] in draining,
            )
            for node in ray.nodes()
            if node["Alive"]
        ]
    except Exception as error:  # Ray's own errors, of several modules
        raise FleetError(f"Fleet: the cluster does not answer any more: {_short(error)}") from error


def _draining() -> Collection[str]:
    """Return the ids of the nodes that are drained. Ray has no public way to ask; without this one, nobody knows."""
    try:
        from ray._private.state import state

        return state.get_draining_nodes()
    except (ImportError, AttributeError):
        return ()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
