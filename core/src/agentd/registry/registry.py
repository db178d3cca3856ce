"""The registry: which plugins there are, and the objects that they make."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs
import pluggy

from agentd import hookspecs
from agentd.config import PluginConfig
from agentd.errors import (
    AgentdError,
    BlockedPluginError,
    ConfigError,
    IncompatiblePluginError,
    MissingPluginError,
    PluginError,
    PluginLoadError,
    UnknownPluginError,
    suggest,
)
from agentd.hookspecs import GROUPS
from agentd.protocols import EventSink, Executor, Parser, SkillRenderer, ToolSource
from agentd.registry.loading import Hook, Rejected, describe, import_plugin, missing_members, verify
from agentd.registry.official import OFFICIAL_PLUGINS, official_distribution
from agentd.registry.record import PluginRecord, make_records
from agentd.registry.scan import InstalledDistribution, scan, scan_distributions

__all__ = ["Registry"]

_log = logging.getLogger(__name__)

_Key = tuple[str, str]


class Registry:
    """The installed plugins of one session or program.

    Making one reads metadata only (once per process) and imports nothing. Each plugin is imported when
    it is first asked for; one that is broken becomes a record with its error and harms no other. All
    methods may be called from several threads.

    :param config: allow and block lists. Those of the environment hold as well: `block` of either wins,
        and where both have an `allow`, both must allow.
    :param environ: the environment to read `AGENTD_PLUGINS_ALLOW` and `AGENTD_PLUGINS_BLOCK` from.
    :param distributions: read these instead of what is installed (for tests).
    :param refresh: scan again, for what was installed since the process first looked.
    """

    def __init__(
        self,
        *,
        config: PluginConfig | None = None,
        environ: Mapping[str, str] | None = None,
        distributions: Iterable[InstalledDistribution] | None = None,
        refresh: bool = False,
    ) -> None:
        self._config = config or PluginConfig()
        self._environment = PluginConfig.from_environ(os.environ if environ is None else environ)
        found = scan(refresh=refresh) if distributions is None else scan_distributions(distributions)
        self._chosen, self._others = make_records(found, self._objection)
        self._plugins: dict[_Key, object] = {}
        self._hooks: dict[_Key, Hook] = {}
        self._manager: pluggy.PluginManager | None = None
        self._lock = threading.RLock()

    def _objection(self, kind: str, name: str, distribution: str) -> str:
        return self._config.objection(kind, name, distribution) or self._environment.objection(
            kind, name, distribution, where="the environment"
        )

    # --- what there is -------------------------------------------------------------------------

    def records(self, kind: str | None = None) -> tuple[PluginRecord, ...]:
        """Return all plugins, or those of one kind, in the order of kind, name and distribution.

        Raises `UnknownPluginError` for a kind that does not exist.
        """
        if kind is not None:
            _check_kind(kind)
        with self._lock:
            records = (*self._chosen.values(), *self._others)
        order = list(GROUPS)
        wanted = (r for r in records if kind in (None, r.kind))
        return tuple(sorted(wanted, key=lambda r: (order.index(r.kind), r.name, r.distribution)))

    def check(self, kind: str | None = None) -> tuple[PluginRecord, ...]:
        """Load every plugin (of one kind) that may be loaded and return the records."""
        for record in self.records(kind):
            if record.state == "available":
                try:
                    self.load(record.kind, record.name)
                except PluginError:
                    pass  # the record has it
        return self.records(kind)

    def find(self, kind: str, name: str) -> PluginRecord:
        """Return the plugin that `load` would import, without importing it.

        Raises as `load` does for a plugin that is unknown, missing or blocked, or known to be broken.
        """
        _check_kind(kind)
        with self._lock:
            record = self._find(kind, name)
        if record.state == "blocked":
            raise BlockedPluginError(record.kind, record.name, record.error)
        if record.state not in ("available", "loaded"):
            _raise(record)
        return record

    def load(self, kind: str, name: str) -> object:
        """Return the plugin object, imported and checked; usually a module.

        Raises `UnknownPluginError`; `MissingPluginError` for an official plugin that is not installed;
        `BlockedPluginError`; `PluginLoadError` and, for another `AGENTD_API`, `IncompatiblePluginError`.
        A plugin that failed to load is not tried again by this registry.
        """
        _check_kind(kind)
        key = (kind, name)
        with self._lock:
            if key not in self._plugins:
                self._load(key, self._find(kind, name))
            return self._plugins[key]

    # --- what plugins make -----------------------------------------------------------------------

    def create_executor(self, name: str, workspace_dir: str | Path, **options: Any) -> Executor:
        """Make the executor `name` for one session. `workspace_dir` must exist."""
        workspace_dir = Path(workspace_dir).resolve()
        made: Executor = self._make("executor", name, workspace_dir=workspace_dir, options=options)
        return made

    def create_parser_factories(
        self,
        names: Sequence[str] | None = None,
        *,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> list[Callable[[], Parser]]:
        """Return one cheap factory for each parser; call each anew for every answer of the model.

        `names` in this order, or every parser that is installed, allowed and loads, in the order of
        names (one that is broken is logged as a warning). `options` are by parser name.

        Raises `MissingPluginError` that names `agentd-parser-fence` if there is no parser at all, and
        `PluginLoadError` or `BlockedPluginError` if none of those that are there can be used.
        """
        chosen = self._usable("parser") if names is None else list(names)
        if not chosen:
            raise MissingPluginError("fence", official_distribution("parser", "fence"))
        return [self._parser_factory(name, (options or {}).get(name, {})) for name in chosen]

    def create_tool_sources(
        self, spec: object, options: Mapping[str, Any] | None = None
    ) -> Sequence[ToolSource]:
        """Return the tool sources that the first willing plugin makes of `spec`, in the order of names.

        Raises `MissingPluginError` that names `agentd-mcp-bridge` if there is no tool source plugin, and
        `ConfigError` if none takes `spec`.
        """
        asked = self._usable("tool_source")
        if not asked:
            what = f"a tool source for {_label(spec)}"
            raise MissingPluginError(what, official_distribution("tool_source", "mcp"))
        for name in asked:
            made = self._call("tool_source", name, about=spec, spec=spec, options=options or {})
            if made is not None:
                sources: Sequence[ToolSource] = list(made)
                for source in sources:
                    self._check_product(("tool_source", name), source)
                return sources
        raise ConfigError(f"no tool source plugin takes {_label(spec)}; asked: {', '.join(map(repr, asked))}")

    def create_skill_renderer(self, name: str = "agentskills", **options: Any) -> SkillRenderer:
        """Make the skill renderer `name` for one session."""
        made: SkillRenderer = self._make("skill_renderer", name, options=options)
        return made

    def create_event_sink(self, name: str, **options: Any) -> EventSink:
        """Make the event sink `name` for one session."""
        made: EventSink = self._make("event_sink", name, options=options)
        return made

    # --- finding and loading ---------------------------------------------------------------------

    def _find(self, kind: str, name: str) -> PluginRecord:
        record = self._chosen.get((kind, name))
        if record is not None:
            return record
        if distribution := official_distribution(kind, name):
            raise MissingPluginError(name, distribution)
        installed = [r.name for r in self._chosen.values() if r.kind == kind]
        raise UnknownPluginError(kind, name, installed, hint=_install_hint(kind, name, installed))

    def _load(self, key: _Key, record: PluginRecord) -> None:
        if record.state == "blocked":
            raise BlockedPluginError(record.kind, record.name, record.error)
        if record.state != "available":
            _raise(record)
        manager = self._manager = self._manager or _new_manager()
        plugin: object = None
        try:
            plugin = import_plugin(record)
            self._hooks[key] = verify(plugin, record, manager)
        except (Exception, SystemExit) as error:  # a plugin's boundary
            # pluggy <= 1.6 leaves a plugin that it rejected half registered
            if plugin is not None and manager.is_registered(plugin) and not self._in_use(plugin):
                manager.unregister(plugin)
            incompatible = isinstance(error, Rejected) and error.incompatible
            failed = attrs.evolve(
                record, state="incompatible" if incompatible else "failed", error=describe(error)
            )
            self._chosen[key] = failed
            _raise(failed, error)
        self._plugins[key] = plugin
        self._chosen[key] = attrs.evolve(record, state="loaded")

    def _in_use(self, plugin: object) -> bool:
        return any(plugin is other for other in self._plugins.values())

    def _usable(self, kind: str) -> list[str]:
        """Return the names of this kind that load, sorted; raise if there are some and none does."""
        usable: list[str] = []
        refused: list[PluginError] = []
        for name in sorted(n for k, n in self._chosen if k == kind):
            try:
                self.load(kind, name)
            except PluginError as error:
                refused.append(error)
            else:
                usable.append(name)
        broken = [error for error in refused if isinstance(error, PluginLoadError)]
        if refused and not usable:
            raise (broken or refused)[0]
        for skipped in broken:
            _log.warning("%s", skipped)  # the others work, but nobody asked for this one by name
        return usable

    # --- calling ---------------------------------------------------------------------------------

    def _make(self, kind: str, name: str, **arguments: Any) -> Any:
        made = self._call(kind, name, **arguments)
        self._check_product((kind, name), made)
        return made

    def _call(self, kind: str, name: str, *, about: object = None, **arguments: Any) -> Any:
        key = (kind, name)
        self.load(kind, name)
        hook = self._hooks[key]
        try:
            made = hook.function(**{a: arguments[a] for a in hook.arguments})
        except AgentdError:
            raise
        except (Exception, SystemExit) as error:  # a plugin's boundary
            self._hook_failed(key, hook, error, about)
        self._note(key, "")
        return made

    def _parser_factory(self, name: str, options: Mapping[str, Any]) -> Callable[[], Parser]:
        """Return a factory that costs one call more than the hook itself: it runs for every answer."""
        key = ("parser", name)
        self.load(*key)
        hook = self._hooks[key]
        function = hook.function
        arguments = {"options": options} if hook.arguments else {}
        checked = False

        def make() -> Parser:
            nonlocal checked
            try:
                parser: Parser = function(**arguments)
            except AgentdError:
                raise
            except (Exception, SystemExit) as error:  # a plugin's boundary
                self._hook_failed(key, hook, error, None)
            if not checked:
                self._check_product(key, parser)
                checked = True
            return parser

        return make

    def _check_product(self, key: _Key, product: object) -> None:
        if lacking := missing_members(key[0], product):
            hook = self._hooks[key]
            reason = f"{hook.name} returned {type(product).__name__}, which lacks: {', '.join(lacking)}"
            self._note(key, reason)
            _raise(self._chosen[key])

    def _hook_failed(self, key: _Key, hook: Hook, error: BaseException, about: object) -> NoReturn:
        for_what = "" if about is None else f" for {_label(about)}"
        self._note(key, f"{hook.name} raised{for_what} {describe(error)}")
        _raise(self._chosen[key], error)

    def _note(self, key: _Key, error: str) -> None:
        """Keep the error of a hook with its record, until the hook succeeds. It stays loaded."""
        with self._lock:
            if self._chosen[key].error != error:
                self._chosen[key] = attrs.evolve(
                    self._chosen[key], state="failed" if error else "loaded", error=error
                )


def _new_manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("agentd")
    manager.add_hookspecs(hookspecs)
    return manager


def _check_kind(kind: str) -> None:
    if kind not in GROUPS:
        raise UnknownPluginError("kind of plugin", kind, GROUPS)


def _install_hint(kind: str, name: str, installed: Iterable[str]) -> str:
    if suggest(name, installed):
        return ""
    absent = [n for k, n in OFFICIAL_PLUGINS if k == kind and n not in installed]
    if not (hint := suggest(name, absent)):
        return ""
    close = next(n for n in absent if repr(n) in hint)
    return f"{hint} It comes with: pip install {official_distribution(kind, close)}"


def _label(spec: object) -> str:
    """Name a tool source's specification without showing what may be secret in it."""
    if isinstance(spec, str):
        return repr(spec.partition("?")[0][:80])
    name = spec.get("name") if isinstance(spec, Mapping) else getattr(spec, "name", None)
    named = f" {name!r}" if isinstance(name, str) and name else ""
    return f"a {type(spec).__name__}{named}"


def _raise(record: PluginRecord, cause: BaseException | None = None) -> NoReturn:
    error = IncompatiblePluginError if record.state == "incompatible" else PluginLoadError
    raise error(record.kind, record.name, record.distribution, record.error) from cause
