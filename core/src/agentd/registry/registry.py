"""The registry: the objects that plugins make, a method for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from agentd import protocols
from agentd.errors import ConfigError, MissingPluginError
from agentd.hookspecs import HOOKS
from agentd.notation import Notation
from agentd.registry.official import official_distribution
from agentd.registry.options import PluginSpec, split_spec
from agentd.registry.table import PluginTable, label

__all__ = ["ClientService", "Registry"]

TAUGHT = "fence"
"""The notation that a model is taught where nobody chooses."""
LAST_MODEL = "openai"
"""The model provider that is asked last: it takes any name."""


@attrs.frozen(kw_only=True)
class ClientService:
    """What serves a model in place of a patched client: a function like the SDK's method, or a conversation."""

    create: Callable[..., Any] | None = None
    model: protocols.Model | None = None


class Registry(PluginTable):
    """The installed plugins of one session or program, and what they make.

    Making one reads metadata only (once per process) and imports nothing. Each plugin is imported when it is first
    asked for; one that is broken becomes a record with its error and harms no other. All methods may be called from
    several threads. Wherever a plugin is named, `"name"` and `("name", {options})` are taken.

    :param config: allow and block lists. Those of the environment hold as well: `block` of either wins,
        and where both have an `allow`, both must allow.
    :param environ: the environment to read `AGENTD_PLUGINS_ALLOW` and `AGENTD_PLUGINS_BLOCK` from.
    :param distributions: read these instead of what is installed (for tests).
    :param refresh: scan again, for what was installed since the process first looked.

    The methods raise `UnknownPluginError`; `MissingPluginError` for an official plugin that is not installed;
    `BlockedPluginError`; `PluginLoadError`; and `ConfigError` for options that the plugin does not have.
    """

    def create_executor(
        self, name: PluginSpec, workspace_dir: str | Path, **options: Any
    ) -> protocols.Executor:
        """Make an executor for one session. `workspace_dir` must exist; `options` win over those of a pair."""
        arguments = {"workspace_dir": Path(workspace_dir).resolve(), "make_executor": self.create_executor}
        made: protocols.Executor = self._make_named("executor", name, "executor", options, **arguments)
        return made

    def _make_named(
        self, kind: str, spec: PluginSpec, where: str, options: Mapping[str, Any], **arguments: Any
    ) -> Any:
        name, given = split_spec(spec, where=where)
        return self._make(kind, name, options={**given, **options}, **arguments)

    # --- parsers ---------------------------------------------------------------------------------

    def create_notations(self, names: Sequence[PluginSpec] | None = None) -> list[Notation]:
        """Return the notations of parsers; the model is taught the first, and each one's `parser` reads the answers.

        Those named in `names`, in this order, or every parser that is installed, allowed and loads: `fence` first,
        then in the order of names (one that is broken is logged as a warning).

        Raises `MissingPluginError` that names `agentd-parser-fence` if there is no parser at all, and
        `PluginLoadError` or `BlockedPluginError` if none of those that are there can be used.
        """
        if isinstance(names, str):
            raise ConfigError(f"parsers: must be a list of names, got {names!r}; write [{names!r}]")
        if names is None:
            usable = sorted(self._usable("parser"), key=lambda name: name != TAUGHT)
            chosen: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in usable]
        else:
            chosen = [split_spec(name, where="parsers") for name in names]
        if not chosen and names is not None:
            raise ConfigError("parsers: must name at least one; None is for all that are installed")
        if not chosen:
            raise MissingPluginError(TAUGHT, official_distribution("parser", TAUGHT))
        return [self._notation(name, options) for name, options in chosen]

    def _notation(self, name: str, options: Mapping[str, Any]) -> Notation:
        key = ("parser", name)
        made = self._call(*key, options=options)
        if not isinstance(made, Notation):
            reason = (
                f"agentd_create_parser must return an agentd.notation.Notation, got {type(made).__name__}"
            )
            if hasattr(made, "feed"):
                reason += "; what makes such a parser belongs into it: Notation(parser=...)"
            self._reject(key, reason)
        self._check_product(key, self._guarded(key, HOOKS["parser"], made.parser))
        return made

    # --- tools -----------------------------------------------------------------------------------

    def create_tool_sources(
        self, spec: object, options: Mapping[str, Any] | None = None
    ) -> Sequence[protocols.ToolSource]:
        """Return the tool sources that the first willing plugin makes of `spec`, in the order of names.

        A text `NAME:...` goes to the tool source plugin NAME alone, if there is one of that name.

        Raises `MissingPluginError` that names `agentd-mcp-bridge` if there is no tool source plugin, and
        `ConfigError` if none takes `spec`.
        """
        if isinstance(spec, tuple) and len(spec) == 2 and isinstance(spec[1], Mapping):
            given: Mapping[str, Any] = spec[1]
            spec, options = spec[0], {**given, **(options or {})}
        self.require_tool_sources([spec])
        asked = self._scheme(spec) or self._usable("tool_source")
        for name in asked:
            made = self._call("tool_source", name, about=spec, spec=spec, options=options or {})
            if made is not None:
                if isinstance(made, str) or not isinstance(made, Iterable):
                    self._reject(
                        ("tool_source", name),
                        "agentd_create_tool_sources must return a sequence of tool sources, or None for what is "
                        f"not its own; got {type(made).__name__}",
                    )
                sources: Sequence[protocols.ToolSource] = list(made)
                for source in sources:
                    self._check_product(("tool_source", name), source)
                return sources
        raise ConfigError(f"no tool source plugin takes {label(spec)}; asked: {', '.join(map(repr, asked))}")

    def require_tool_sources(self, specs: Sequence[object]) -> None:
        """Raise `MissingPluginError` that names agentd-mcp-bridge if no plugin could make a source of one of these."""
        for spec in specs:
            if protocols.is_tool_source(spec) or self._scheme(spec) is not None:
                continue
            if set(self._usable("tool_source")) <= {"python", "models"}:  # which take texts that name them
                official = official_distribution("tool_source", "mcp")
                raise MissingPluginError(f"a tool source for {label(spec)}", official)

    def _scheme(self, spec: object) -> list[str] | None:
        """Return the tool source that a text names in front of its colon, if that is one."""
        name, colon, _ = spec.partition(":") if isinstance(spec, str) else ("", "", "")
        if not colon or not self._is_known("tool_source", name):
            return None
        self.load("tool_source", name)  # missing, blocked or broken: say so
        return [name]

    def create_toolbox(
        self, tools: Sequence[object] | None, servers: Sequence[object], events: protocols.ToolEvents
    ) -> protocols.Toolbox:
        """Make what holds the tools of one session or client; agentd-tools brings it. See `agentd_create_toolbox`."""
        made: protocols.Toolbox = self._make(
            "tool_source",
            "python",
            hook="agentd_create_toolbox",
            product="toolbox",
            tools=tools,
            servers=servers,
            make_sources=self.create_tool_sources,
            events=events,
        )
        return made

    def create_skill_renderer(
        self, name: PluginSpec = "agentskills", **options: Any
    ) -> protocols.SkillRenderer:
        """Make a skill renderer for one session."""
        made: protocols.SkillRenderer = self._make_named("skill_renderer", name, "renderer", options)
        return made

    # --- the rest --------------------------------------------------------------------------------

    def create_event_sink(self, name: PluginSpec, **options: Any) -> protocols.EventSink:
        """Make an event sink for one session."""
        made: protocols.EventSink = self._make_named("event_sink", name, "sinks", options)
        return made

    def create_snapshot_store(
        self,
        name: PluginSpec,
        workspace_dir: Path,
        base_dir: Path | None,
        exclude: Callable[[], Sequence[str]],
    ) -> protocols.SnapshotStore:
        """Open the store of a workspace's snapshots. May read the disk."""
        arguments = {"workspace_dir": workspace_dir, "base_dir": base_dir, "exclude": exclude}
        made: protocols.SnapshotStore = self._make_named("snapshot_store", name, "snapshots", {}, **arguments)
        return made

    def create_timeline(self, **arguments: Any) -> protocols.Timeline:
        """Make the checkpoints of a session; agentd-snapshots brings it. See `agentd_create_timeline`."""
        made: protocols.Timeline = self._make(
            "snapshot_store", "packs", hook="agentd_create_timeline", product="timeline", **arguments
        )
        return made

    def create_trigger(self, name: str, options: Mapping[str, Any]) -> Any:
        """Make what wakes an agent of the daemon; the contract is the daemon's."""
        made = self._call("trigger", name, options=options)
        if not hasattr(made, "run"):
            self._reject(
                ("trigger", name), f"agentd_create_trigger returned {type(made).__name__}, which lacks: run"
            )
        return made

    def open_model(self, name: PluginSpec, options: Mapping[str, Any] | None = None) -> protocols.Model:
        """Open a conversation with a model, by the first provider that takes the name, `openai` last.

        Raises `MissingPluginError` that names `agentd-model-openai` if there is no provider, and `ConfigError` if
        none takes the name.
        """
        name, given = split_spec(name, where="model")
        asked = self._model_providers(name)
        if not asked:
            raise MissingPluginError(f"the model {name}", official_distribution("model", LAST_MODEL))
        for provider in asked:
            model = self._opened(provider, name, {**given, **(options or {})})
            if model is not None:
                return model
        raise ConfigError(
            f"no model provider takes {name!r}; asked: {', '.join(map(repr, asked))}; "
            f"pip install {official_distribution('model', LAST_MODEL)} brings one for OpenAI's API"
        )

    def _model_providers(self, name: str) -> list[str]:
        """Return the providers in the order in which they are asked for a model."""
        prefix = name.partition("/")[0]
        return sorted(self._usable("model"), key=lambda n: (n == LAST_MODEL, n != prefix, n))

    def _opened(self, provider: str, name: str, options: Mapping[str, Any]) -> protocols.Model | None:
        made: protocols.Model | None = self._call("model", provider, about=name, name=name, options=options)
        if made is not None:
            self._check_product(("model", provider), made)
        return made

    def serve_client(
        self, name: str, base_url: str, method: str, options: Mapping[str, Any] | None = None
    ) -> ClientService | None:
        """Return what serves a model in place of a patched client, or None if the client itself does.

        The providers are asked in the order of `open_model`, each by `agentd_serve_requests` or, if it does not have
        that, by `agentd_open_model`; `openai` is the client itself and is not asked to open one.

        :param method: `chat`, `responses` or `embeddings`.
        :param options: those of `agentd_open_model`; None if no conversation will do.
        """
        for provider in self._model_providers(name):
            create = self._served(provider, name, base_url, method)
            if create is not None:
                return ClientService(create=create)
            if options is None or provider == LAST_MODEL or self._hook("model", provider, _SERVE) is not None:
                continue
            model = self._opened(provider, name, options)
            if model is not None:
                return ClientService(model=model)
        return None

    def _served(self, provider: str, name: str, base_url: str, method: str) -> Callable[..., Any] | None:
        if self._hook("model", provider, _SERVE) is None:
            return None
        made: Callable[..., Any] | None = self._call(
            "model", provider, hook=_SERVE, about=name, name=name, base_url=base_url, method=method
        )
        if made is not None and not callable(made):
            reason = (
                f"{_SERVE} must return a function, or None for what is not its own; got {type(made).__name__}"
            )
            self._reject(("model", provider), reason)
        return made

    def requirements(self, kind: str, name: str) -> Sequence[protocols.Requirement]:
        """Ask a plugin what it needs of the machine; nothing if it does not say."""
        if self._hook(kind, name, _REQUIREMENTS) is None:
            return ()
        made = self._call(kind, name, hook=_REQUIREMENTS, options={})
        if not isinstance(made, Sequence) or not all(isinstance(one, protocols.Requirement) for one in made):
            self._reject((kind, name), f"{_REQUIREMENTS} must return a list of agentd.protocols.Requirement")
        return made

    def settle_workspace(self, kind: str, name: str, workspace_dir: Path) -> Sequence[str]:
        """Have a plugin finish what it was killed in; it says what it did. May raise what it wants decided."""
        if self._hook(kind, name, _SETTLE) is None:
            return ()
        return list(self._call(kind, name, hook=_SETTLE, workspace_dir=workspace_dir))


_SERVE = "agentd_serve_requests"
_SETTLE = "agentd_settle_workspace"
_REQUIREMENTS = "agentd_list_requirements"
