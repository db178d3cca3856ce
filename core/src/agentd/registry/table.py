"""The installed plugins: their records, loading each by itself, and calling its hooks."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, NoReturn

import attrs

from agentd import errors
from agentd.hookspecs import GROUPS, HOOKS
from agentd.registry.config import PluginConfig
from agentd.registry.loading import Hook, Rejected, describe, missing_members, verify
from agentd.registry.official import OFFICIAL_PLUGINS, official_distribution
from agentd.registry.record import PluginRecord, make_records
from agentd.registry.scan import InstalledDistribution, import_object, scan, scan_distributions

__all__ = ["PluginTable", "label"]

_log = logging.getLogger(__name__)

_Key = tuple[str, str]


class PluginTable:
    """The installed plugins of one session or program; `Registry`, which adds what they make, tells of all of it."""

    def __init__(
        self,
        *,
        config: PluginConfig | None = None,
        environ: Mapping[str, str] | None = None,
        distributions: Iterable[InstalledDistribution] | None = None,
        refresh: bool = False,
    ) -> None:
        environment = PluginConfig.from_environ(os.environ if environ is None else environ)
        found = scan(refresh=refresh) if distributions is None else scan_distributions(distributions)
        chosen, self._others = make_records(found, config or PluginConfig(), environment)
        self._chosen = dict(chosen)
        self._plugins: dict[_Key, object] = {}
        self._hooks: dict[_Key, dict[str, Hook]] = {}
        self._usable_names: dict[str, list[str]] = {}
        self._lock = threading.RLock()

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
                except errors.PluginError:
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
            raise errors.BlockedPluginError(record.kind, record.name, record.error)
        if record.state not in ("available", "loaded"):
            _raise(record)
        return record

    def load(self, kind: str, name: str) -> object:
        """Return the plugin object, imported and checked; usually a module.

        Raises `UnknownPluginError`; `MissingPluginError` for an official plugin that is not installed;
        `BlockedPluginError`; `PluginLoadError` and, for another `AGENTD_API`, `IncompatiblePluginError`.
        A plugin that failed to load is not tried again by this registry.
        """
        key = (kind, name)
        with self._lock:
            if key not in self._plugins:
                self._load(key, self.find(kind, name))
            return self._plugins[key]

    # --- finding and loading ---------------------------------------------------------------------

    def _is_known(self, kind: str, name: str) -> bool:
        return (kind, name) in self._chosen or bool(official_distribution(kind, name))

    def _find(self, kind: str, name: str) -> PluginRecord:
        record = self._chosen.get((kind, name))
        if record is not None:
            return record
        if distribution := official_distribution(kind, name):
            raise errors.MissingPluginError(name, distribution)
        installed = [r.name for r in self._chosen.values() if r.kind == kind]
        raise errors.UnknownPluginError(kind, name, installed, hint=_install_hint(kind, name, installed))

    def _load(self, key: _Key, record: PluginRecord) -> None:
        try:
            plugin = import_object(record.value)
            self._hooks[key] = verify(plugin, record)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin's boundary, where nothing can be cancelled: no `await` here
            incompatible = isinstance(error, Rejected) and error.incompatible
            failed = attrs.evolve(
                record, state="incompatible" if incompatible else "failed", error=describe(error)
            )
            self._chosen[key] = failed
            _raise(failed, error)
        self._plugins[key] = plugin
        self._chosen[key] = attrs.evolve(record, state="loaded")

    def _usable(self, kind: str) -> list[str]:
        """Return the names of this kind that load, sorted; raise if there are some and none does."""
        if kind in self._usable_names:  # none is tried again
            return self._usable_names[kind]
        usable: list[str] = []
        refused: list[errors.PluginError] = []
        for name in sorted(n for k, n in self._chosen if k == kind):
            try:
                self.load(kind, name)
            except errors.PluginError as error:
                refused.append(error)
            else:
                usable.append(name)
        broken = [error for error in refused if isinstance(error, errors.PluginLoadError)]
        if refused and not usable:
            raise (broken or refused)[0]
        for skipped in broken:
            _log.warning("%s", skipped)  # the others work, but nobody asked for this one by name
        self._usable_names[kind] = usable
        return usable

    # --- calling ---------------------------------------------------------------------------------

    def _make(self, kind: str, plugin: str, /, *, hook: str = "", product: str = "", **arguments: Any) -> Any:
        made = self._call(kind, plugin, hook=hook, **arguments)
        self._check_product((kind, plugin), made, hook=hook, product=product)
        return made

    def _call(
        self, kind: str, plugin: str, /, *, hook: str = "", about: object = None, **arguments: Any
    ) -> Any:
        found = self._hook(kind, plugin, hook)
        assert found is not None
        taken = {name: arguments[name] for name in found.arguments}
        made = self._guarded((kind, plugin), found.name, partial(found.function, **taken), about)
        self._note((kind, plugin), "")
        return made

    def _guarded(self, key: _Key, hook: str, function: Callable[[], Any], about: object = None) -> Any:
        """Call a hook of a plugin, or something that it has returned. agentd's own errors pass unchanged."""
        try:
            return function()
        except errors.AgentdError:
            raise
        except (Exception, SystemExit) as error:  # a plugin's boundary
            for_what = "" if about is None else f" for {label(about)}"
            self._note(key, f"{hook} raised{for_what} {describe(error)}")
            _raise(self._chosen[key], error)

    def _hook(self, kind: str, name: str, hook: str = "") -> Hook | None:
        """Return a hook of a plugin, loaded if need be: that of its kind, or another one if it has that."""
        self.load(kind, name)
        return self._hooks[kind, name].get(hook or HOOKS[kind])

    def _check_product(self, key: _Key, made: object, *, hook: str = "", product: str = "") -> None:
        if lacking := missing_members(product or key[0], made):
            name = hook or HOOKS[key[0]]
            self._reject(key, f"{name} returned {type(made).__name__}, which lacks: {', '.join(lacking)}")

    def _reject(self, key: _Key, reason: str) -> NoReturn:
        self._note(key, reason)
        _raise(self._chosen[key])

    def _note(self, key: _Key, error: str) -> None:
        """Keep the error of a hook with its record, until the hook succeeds. It stays loaded."""
        with self._lock:
            if self._chosen[key].error != error:
                self._chosen[key] = attrs.evolve(
                    self._chosen[key], state="failed" if error else "loaded", error=error
                )


def _check_kind(kind: str) -> None:
    if kind not in GROUPS:
        raise errors.UnknownPluginError("kind of plugin", kind, GROUPS)


def _install_hint(kind: str, name: str, installed: Iterable[str]) -> str:
    if errors.suggest(name, installed):
        return ""
    absent = [n for k, n in OFFICIAL_PLUGINS if k == kind and n not in installed]
    if not (hint := errors.suggest(name, absent)):
        return ""
    close = next(n for n in absent if repr(n) in hint)
    return f"{hint} It comes with: pip install {official_distribution(kind, close)}"


def label(spec: object) -> str:
    """Name a tool source's specification without showing what may be secret in it."""
    if isinstance(spec, str):
        return repr(spec.partition("?")[0][:80])
    name = spec.get("name") if isinstance(spec, Mapping) else getattr(spec, "name", None)
    named = f" {name!r}" if isinstance(name, str) and name else ""
    kind = type(spec).__name__
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}{named}"


def _raise(record: PluginRecord, cause: BaseException | None = None) -> NoReturn:
    error = errors.IncompatiblePluginError if record.state == "incompatible" else errors.PluginLoadError
    raise error(record.kind, record.name, record.distribution, record.error) from cause
