"""What would go wrong with a fleet, before it is opened: a task asks each node, and no host is started."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd.errors import AgentdError
from agentd.registry.config import PluginConfig

from agentd_ray.connecting import RayNode, connect, import_ray, nodes
from agentd_ray.errors import FleetError, not_opened
from agentd_ray.hosting import refusal
from agentd_ray.opening import executor_fault

if TYPE_CHECKING:
    from agentd_daemon.places import PlaceReport

__all__ = ["NodeQuestion", "ask_node", "check_fleet"]

NODES_S: Final = 30.0
"""How long nodes may take to answer, all together; the first task of a node starts a process there."""
_PROBE: Final = re.compile("probe-[0-9a-f]{16}")  # its own on each node: what is told of it is the same
SHOWN: Final = 10
"""Nodes that are told of by name, of those with the same trouble."""


@attrs.frozen(kw_only=True)
class NodeQuestion:
    """What a node is asked.

    :ivar store, storage_options, key: as those of `Fleet`.
    :ivar executor: what all agents run their code with; None if they differ.
    :ivar executors: what each does then, by its name.
    :ivar commands, folders: what is to be there.
    """

    store: str
    storage_options: Mapping[str, Any] | None = None
    key: str | None = None
    executor: Any = None
    executors: Mapping[str, Any] = attrs.field(factory=dict)
    commands: Sequence[str] = ()
    folders: Sequence[str] = ()


def ask_node(question: Mapping[str, Any], plugins: PluginConfig | None = None) -> dict[str, Any]:
    """Answer a question, on the node. Plain data: the two ends may be of different versions."""
    from agentd_store.opened import try_store

    asked = NodeQuestion(**question)
    store, is_new = "", False
    try:
        is_new = not try_store(asked.store, key=asked.key, storage_options=asked.storage_options)
    except AgentdError as error:
        store = str(error)
    with tempfile.TemporaryDirectory(prefix="agentd-check-") as folder:

        def tried(executor: Any) -> str | None:
            return executor_fault(executor, Path(folder), plugins=plugins)

        return {
            "agentd": version("agentd-core"),
            "store": store,
            "is_new": is_new,
            "host": tried(asked.executor),
            "sessions": {name: fault for name, one in asked.executors.items() if (fault := tried(one))},
            "commands": [name for name in asked.commands if shutil.which(name) is None],
            "folders": [name for name in asked.folders if not Path(name).is_dir()],
        }


def check_fleet(
    address: str,
    question: NodeQuestion,
    *,
    plugins: PluginConfig | None = None,
    ray_options: Mapping[str, Any] | None = None,
    host_options: Mapping[str, Any] | None = None,
) -> PlaceReport:
    """Look at a cluster and its nodes. Blocking. For `local`, no cluster is started: this machine is asked.

    :param plugins: which a node may load; `host_options` say so to nodes of a cluster.
    """
    from agentd_daemon.places import PlaceReport

    try:
        import_ray()
        if address == "local":
            here = RayNode(id="local", address="", name=socket.gethostname(), resources={})
            return _report([(here, ask_node(attrs.asdict(question), plugins))])
        is_ours = connect(address, ray_options or {})
        try:
            return _report(_asked(nodes(), question, host_options or {}))
        finally:
            if is_ours:
                import_ray().shutdown()
    except AgentdError as error:
        return PlaceReport(faults=[str(error)])


_Answer = tuple[RayNode, dict[str, Any] | Exception]


def _asked(found: Sequence[RayNode], question: NodeQuestion, options: Mapping[str, Any]) -> list[_Answer]:
    """Ask all nodes at once, and return the answers; of a node that gives none, why."""
    ray = import_ray()
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    asked: dict[Any, RayNode] = {}
    for node in found:
        strategy = NodeAffinitySchedulingStrategy(node.id, soft=False)
        given = {**options, "num_cpus": 0, "max_retries": 0, "scheduling_strategy": strategy}
        asked[ray.remote(ask_node).options(**given).remote(attrs.asdict(question))] = node
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=NODES_S) if asked else ([], [])
    answers: list[_Answer] = []
    for reference in ready:
        try:
            answers.append((asked[reference], ray.get(reference)))
        except Exception as error:  # of Ray, of the node's installation
            answers.append((asked[reference], error))
    for reference in late:
        ray.cancel(reference, force=True)
        answers.append((asked[reference], FleetError(f"it has not answered for {NODES_S:g} s")))
    return sorted(answers, key=lambda answer: str(answer[0]))


def _report(answers: Sequence[_Answer]) -> PlaceReport:
    from agentd_daemon.places import MissingThing, PlaceReport

    refused, faults, warnings = list[str](), list[str](), list[str]()
    missing: list[MissingThing] = []
    stores: dict[str, list[RayNode]] = {}
    usable = list[RayNode]()
    is_new = False
    for node, answer in answers:
        if isinstance(answer, Exception):
            refused.append(refusal(node, answer))
            continue
        if answer["store"]:
            stores.setdefault(_PROBE.sub("probe", answer["store"]), []).append(node)
        if answer["host"] is not None:
            refused.append(refusal(node, FleetError(answer["host"])))
            continue
        usable.append(node)
        is_new = is_new or answer["is_new"]
        faults += [not_opened(node, name, why) for name, why in answer["sessions"].items()]
        missing += [MissingThing(kind="command", name=one, where=str(node)) for one in answer["commands"]]
        missing += [MissingThing(kind="folder", name=one, where=str(node)) for one in answer["folders"]]
        if answer["agentd"] != (here := version("agentd-core")):
            warnings.append(
                f"the node {node} has agentd {answer['agentd']}, and {here} is here: install the same everywhere"
            )
    (warnings if usable else faults).extend(_capped(refused))
    faults += _capped(
        text if len(on) == len(answers) else f"{text} (on {_names(on)})" for text, on in stores.items()
    )
    found = list[str]()
    if usable:
        many = "1 node" if len(usable) == 1 else f"{len(usable)} nodes"
        found.append(f"the fleet has {many}: {_names(usable)}")
    if usable and not stores:
        found.append("the store can be written" + ("; nothing is kept there yet" if is_new else ""))
    return PlaceReport(faults=faults, warnings=warnings, missing=missing, found=found)


def _names(on: Sequence[RayNode]) -> str:
    more = len(on) - SHOWN
    return ", ".join(map(str, on[:SHOWN])) + (f" and {more} more" if more > 0 else "")


def _capped(lines: Iterable[str]) -> list[str]:
    lines = list(lines)
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"{more} further nodes likewise"] if more > 0 else lines
