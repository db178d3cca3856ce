"""Files to `DaemonConfig`: several files make one configuration, and all errors are found at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

import attrs
from agentd.registry.config import PluginConfig

from agentd_daemon.config.checks import Finding, agent_findings, agent_warnings, place_findings
from agentd_daemon.config.document import Document, read_document
from agentd_daemon.config.problems import InvalidConfigError, Position, Problem
from agentd_daemon.config.references import Substituted, is_open, revealed
from agentd_daemon.config.structuring import DataPath, UnfitError, find_faults, make_converter, one_of, shown
from agentd_daemon.config.values import AgentConfig, DaemonConfig, Secret

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["Examination", "examine", "load", "unfit_for_places"]

log = logging.getLogger("agentd.daemon")

SECRET_KEYS: Final = frozenset(
    {
        "api_key",
        "env_vars",
        "headers",
        "url",
        "base_url",
        "executor_options",
        "model_options",
        "options",
        "store",
    }
)
"""Keys whose values errors do not show, nor what is below them."""

PLUGIN_LISTS: Final = frozenset({"parsers", "event_sinks", "tools"})
PLUGIN_KEYS: Final = PLUGIN_LISTS | {"model", "executor", "renderer", "snapshots", "approver"}
"""Keys at which plugins are named, with options perhaps, which are not shown either."""

UNNAMED: Final = "unnamed"
"""An agent without a name that can be used, in further checks of a configuration that is wrong."""

_STAND_INS: Final[Mapping[str, Mapping[str, Any]]] = {
    "mcp_servers": {"name": None},
    "subscriptions": {"uri": None, "server": None},
}
"""Lists with items that others in the agent name, or that are compared; and the keys by which they do."""

_MERGED_KEYS: Final = frozenset({"budgets", "history", "on_error", "executor_options", "model_options"})
"""Mappings that agents and defaults have in common key by key; every other key is replaced as a whole."""

_ONCE: Final = ("state_dir", "store")
"""Top-level keys that only one of several files may have, or all the same."""


@attrs.frozen(eq=False)
class Origin:
    """Where an agent's values are written: in its own entry, or in the defaults of a file."""

    document: Document
    index: int
    defaults: Sequence[Document]

    def find(self, path: DataPath) -> tuple[Document, DataPath]:
        """Return the file and the path there of the value at `path` below the agent."""
        own: DataPath = ("agents", self.index, *path)
        for length in range(len(path), 0, -1):  # of what is not written, the nearest that it would stand in
            if own[: 2 + length] in self.document.values:
                break
            for document in reversed(self.defaults):
                if ("defaults", *path[:length]) in document.values:
                    return document, ("defaults", *path)
        return self.document, own

    def problem(self, finding: Finding) -> Problem:
        """Return a finding with its place, and without the value if that came from a reference."""
        document, path = self.find(finding.path)
        referred = any(known[: len(path)] == path for known in document.references)
        return document.problem(path, finding.discreet if referred else finding.message)


@attrs.frozen(kw_only=True)
class Examination:
    """What reading files gave: a configuration, or problems.

    :ivar agents: those of the configuration; if there are problems, what can be read of them, for further checks.
    :ivar plugins: which plugins may be used.
    :ivar origins: for each of `agents`, where its values are written.
    """

    config: DaemonConfig | None
    agents: tuple[AgentConfig, ...] = ()
    plugins: PluginConfig = attrs.field(factory=PluginConfig)
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    origins: tuple[Origin, ...] = ()
    files: tuple[str, ...] = ()

    def with_problems(self, more: Iterable[Problem]) -> tuple[Problem, ...]:
        """Return all problems and some more, in the order of their places."""
        return _in_order([*self.problems, *more], self.files)


@attrs.frozen(kw_only=True)
class _Part:
    """One file's share: its top-level keys, and which of them, or which agents, cannot be used.

    :ivar misspelt: the places of keys that are there, but misspelt.
    """

    document: Document
    top: dict[str, Any]
    faults: Sequence[DataPath]
    spoilt: set[DataPath]
    misspelt: set[DataPath]

    def entries(self) -> Iterator[tuple[int, dict[str, Any]]]:
        agents = self.top.get("agents")
        for index, entry in enumerate(agents if isinstance(agents, list) else ()):
            if isinstance(entry, dict):
                yield index, entry

    def usable(self, path: DataPath) -> bool:
        return path not in self.spoilt and path[:1] not in self.spoilt

    def sound(self, path: DataPath, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keys of a mapping in which nothing is wrong, with stand-ins for wrong items of `_STAND_INS`."""
        wrong = {fault[len(path)] for fault in self.faults if fault[:-1][: len(path)] == path}
        if "executor" in wrong:
            wrong.add("executor_options")  # whose they are is not known
        sound = {key: value for key, value in entry.items() if key not in wrong}
        for key in _STAND_INS:
            if key in wrong and isinstance(items := entry.get(key), list):
                at = (*path, key)
                sound[key] = [self._sound_item((*at, index), item) for index, item in enumerate(items)]
        return sound

    def _sound_item(self, path: DataPath, item: Any) -> Any:
        """Return an item of a list, or in its place one about which nothing is wrong."""
        wrong = [fault[len(path) :] for fault in self.faults if fault[: len(path)] == path]
        if not wrong:
            return item
        known = item if isinstance(item, Mapping) and () not in wrong else {}
        spoilt = {fault[0] for fault in wrong if fault}
        kept = _STAND_INS[str(path[-2])]
        read = {key: known[key] for key in kept if key in known and key not in spoilt}
        return {
            **kept,
            **({"uri": f"{UNNAMED}:{path[-1]}"} if "uri" in kept else {"command": UNNAMED}),
            **read,
        }


def load(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    environ: Mapping[str, str] | None = None,
) -> DaemonConfig:
    """Read the configuration from one or several files.

    Agents of all files come together. `defaults` of all files come together, too, and hold for the agents
    of every file: of one key in several files, the last file's counts. The lists under `plugins.block` are
    joined; `plugins.allow`, `state_dir` and `store` may be in one file only.

    An agent's own key replaces that of the defaults, except for the mappings `budgets`, `history`, `on_error`,
    `executor_options` and `model_options`, which are put together key by key. (`executor_options` of the defaults
    are for their own executor: an agent that names another one, or names one with options, does not get them.)

    :param environ: the environment of `${NAME}`; default the process's.
    :raises InvalidConfigError: with a line for everything that is wrong. Warnings are logged.
    """
    found = examine(paths, environ=environ)
    for warning in found.warnings:
        log.warning("%s", warning)
    if found.config is None:
        raise InvalidConfigError(found.problems)
    return found.config


def examine(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    environ: Mapping[str, str] | None = None,
) -> Examination:
    """Read files as `load` does, and return what is wrong with them instead of raising."""
    files = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    documents = [read_document(Path(file), os.environ if environ is None else environ) for file in files]
    return _Reading(documents).examine()


def unfit_for_places(found: Examination) -> Iterator[Problem]:
    """Yield a problem for each key of an agent that goes with sessions of this machine alone."""
    for agent, origin in zip(found.agents, found.origins, strict=True):
        yield from map(origin.problem, place_findings(agent))


class _Reading:
    """The reading of some files into one configuration."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._documents = documents
        self._converter = _make_converter()
        self._problems = [problem for document in documents for problem in document.problems]
        self._warnings: list[Problem] = []

    def examine(self) -> Examination:
        parts = [part for document in self._documents if (part := self._part(document)) is not None]
        self._same_names(parts)
        defaults, agents, origins = self._agents(parts)
        top = self._top_keys(parts)
        self._warn_of_open_files()
        if not any(part.top.get("agents") for part in parts) and not self._problems:
            names = ", ".join(document.file for document in self._documents) or "the configuration"
            self._problems.append(Problem(file=names, message="there is no agent; `agents:` lists them"))
        config = None
        if not self._problems:
            config = self._converter.structure({**top, "defaults": defaults}, DaemonConfig)
            config = attrs.evolve(config, agents=tuple(agents))
        files = tuple(document.file for document in self._documents)
        return Examination(
            config=config,
            agents=tuple(agents),
            plugins=self._converter.structure(top["plugins"], PluginConfig),
            problems=_in_order(self._problems, files),
            warnings=_in_order(self._warnings, files),
            origins=tuple(origins),
            files=files,
        )

    def _part(self, document: Document) -> _Part | None:
        """Note what in a file does not fit the classes."""
        if not isinstance(document.data, dict):
            if not document.problems:
                got = "it is empty" if document.data is None else f"got {shown(document.data)}"
                self._problems.append(document.problem((), f"must be a mapping that has `agents:`; {got}"))
            return None
        # `x-...` is a place for anchors
        top = {key: value for key, value in document.data.items() if not key.startswith("x-")}
        _, faults = find_faults(top, DaemonConfig, self._converter)
        misspelt = {fault.meant for fault in faults}
        for fault in faults:
            if fault.kind == "missing" and fault.path in misspelt:  # one mistake, told once
                continue
            if fault.path not in document.broken:
                text = fault.discreet if _is_secret(fault.path) else fault.message
                self._problems.append(document.problem(fault.path, text, key=fault.kind == "unknown"))
        wrong = [*(fault.path for fault in faults), *document.broken]
        return _Part(
            document=document,
            top=top,
            faults=wrong,
            spoilt={path[:2] for path in wrong} | {path[:1] for path in wrong if path[:1] != ("agents",)},
            misspelt=misspelt,
        )

    def _agents(self, parts: Sequence[_Part]) -> tuple[dict[str, Any], list[AgentConfig], list[Origin]]:
        """Return the defaults of all files, and the agents, as far as their entries can be used; note what is wrong."""
        defaults: dict[str, Any] = {}
        unread: set[str] = set()
        known = len(parts) == len(self._documents)
        for part in parts:
            known = known and part.usable(("defaults",))
            if isinstance(own := part.top.get("defaults", {}), dict):
                sound = part.sound(("defaults",), own)
                unread |= own.keys() - sound.keys()
                defaults = merge(defaults, sound)
        agents: list[AgentConfig] = []
        origins: list[Origin] = []
        for part in parts:
            for index, entry in part.entries():
                sound = part.sound(("agents", index), entry)
                read = {"name": UNNAMED, **sound}
                agents.append(agent := self._converter.structure(merge(defaults, read), AgentConfig))
                origins.append(origin := Origin(part.document, index, self._documents))
                left_out = (unread | entry.keys()) - sound.keys()
                findings = list(agent_findings(agent, entry, left_out))
                missing = not agent.model and known and "model" not in left_out
                if missing and ("agents", index, "model") not in part.misspelt:
                    findings.append(Finding(("model",), "is missing; give it here or under `defaults:`"))
                self._problems += map(origin.problem, findings)
                self._warnings += map(origin.problem, agent_warnings(agent))
        return defaults, agents, origins

    def _same_names(self, parts: Iterable[_Part]) -> None:
        # Upper and lower case are one folder on some file systems.
        seen: dict[str, Problem] = {}
        for part in parts:
            for index, entry in part.entries():
                name = entry.get("name")
                if isinstance(name, str):
                    here = part.document.problem(("agents", index, "name"), "")
                    first = seen.setdefault(name.casefold(), here)
                    if first is not here:
                        message = f"there is an agent {name!r} already, at {first.position}"
                        self._problems.append(attrs.evolve(here, message=message))

    def _top_keys(self, parts: Iterable[_Part]) -> dict[str, Any]:
        """Return `plugins`, `state_dir` and `store` of all files together."""
        block: list[Any] = []
        once: dict[DataPath, tuple[Any, Position | None]] = {}
        for part in parts:
            plugins = part.top.get("plugins", {}) if part.usable(("plugins",)) else {}
            block += plugins.get("block", ())
            for path, holder in ((("plugins", "allow"), plugins), *(((key,), part.top) for key in _ONCE)):
                if path[-1] not in holder:
                    continue
                value = holder[path[-1]]
                first, position = once.setdefault(path, (value, part.document.position(path)))
                if first != value:
                    message = f"another file says otherwise, at {position}; one of them must go"
                    self._problems.append(part.document.problem(path, message))
        top: dict[str, Any] = {"plugins": {"block": block}}
        if ("plugins", "allow") in once:
            top["plugins"]["allow"] = once["plugins", "allow"][0]
        return top | {key: once[key,][0] for key in _ONCE if (key,) in once}

    def _warn_of_open_files(self) -> None:
        for document in self._documents:
            for path, text in document.references.items():
                if _is_secret(path):
                    for file in filter(is_open, text.files):
                        message = f"others can read the secret in {file}; chmod 600 {file}"
                        self._warnings.append(document.problem(path, message))


def merge(defaults: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of both, those of `own` first; see `load` for the rule."""
    merged = dict(defaults)
    executor = own.get("executor")
    # Without an executor in the defaults, their options are for whatever that is by default.
    theirs = (_name_of(merged["executor"]),) if "executor" in merged else ("auto", "subprocess")
    if isinstance(executor, list) or executor not in (None, *theirs):
        merged.pop("executor_options", None)
    for key, value in own.items():
        if key in _MERGED_KEYS and isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = {**merged[key], **value}
        else:
            merged[key] = value
    return merged


def _name_of(plugin: object) -> object:
    """Return the name of a plugin that may have options, as it is written."""
    return plugin[0] if isinstance(plugin, list) and plugin else plugin


def _is_secret(path: DataPath) -> bool:
    return any(part in SECRET_KEYS for part in path) or _is_option(path)


def _is_option(path: DataPath) -> bool:
    """Tell whether this is in the options of a plugin: `executor[1]`, `parsers[0][1]`."""
    for index, part in enumerate(path):
        if part in PLUGIN_KEYS:
            places = path[index + 1 :]
            return 1 in (places[1:2] if part in PLUGIN_LISTS else places[:1])
    return False


def _in_order(problems: Iterable[Problem], files: Sequence[str]) -> tuple[Problem, ...]:
    """Sort by place; what is wrong in the defaults is one problem, not one of each agent."""
    return tuple(sorted(dict.fromkeys(problems), key=lambda problem: _rank(problem, files)))


def _rank(problem: Problem, order: Sequence[str]) -> tuple[int, int, int]:
    where = problem.position
    file = order.index(problem.file) if problem.file in order else -1
    return (file, where.line, where.column) if where is not None else (file, 0, 0)


# --- texts from references -----------------------------------------------------------------------


@cache  # it writes and compiles code for each class
def _make_converter() -> Converter:
    """Return a converter that takes a reference for a number, too: `poll_interval: ${SECONDS}`."""
    converter = make_converter()
    for scalar in (int, float, bool):
        converter.register_structure_hook(
            scalar, _from_reference(scalar, converter.get_structure_hook(scalar))
        )
    text = converter.get_structure_hook(str)
    converter.register_structure_hook(str, lambda value, kind: text(_plain(value), kind))
    converter.register_structure_hook_factory(_is_choice, lambda target: _choice(one_of(get_args(target))))
    converter.register_structure_hook(Secret, _secret)
    converter.register_structure_hook_factory(
        lambda target: target is Any, lambda _: lambda value, _: revealed(value)
    )
    return converter


def _from_reference(scalar: type, hook: Any) -> Any:
    words = {"int": "a whole number", "float": "a number", "bool": "true or false"}[scalar.__name__]

    def read(value: object, kind: Any) -> Any:
        if not isinstance(value, Substituted) or not value.whole:
            return hook(value, kind)
        from agentd_daemon.config.scalars import BadScalarError, read_plain

        try:
            return hook(read_plain(str(value), scalar.__name__), kind)
        except (BadScalarError, UnfitError):
            raise UnfitError(f"must be {words}", value) from None

    return read


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Substituted) else value


def _is_choice(target: Any) -> bool:
    origin: object = get_origin(target)
    return origin is Literal


def _choice(hook: Any) -> Any:
    def read(value: object, kind: Any) -> Any:
        try:
            return hook(_plain(value), kind)
        except UnfitError as error:
            hint = "" if isinstance(value, Substituted) else error.hint
            raise UnfitError(error.must, value, hint) from None

    return read


def _secret(value: object, _: object) -> Secret:
    if not isinstance(value, str):
        raise UnfitError("must be a string", value)
    if not value:
        raise UnfitError("must not be empty", value)
    return Secret(str(value))
