"""Which tools a set has: functions and what the sources list, under one Python name each."""

from __future__ import annotations

import json
import logging
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from agentd.errors import AgentdError, ToolError
from agentd.events import Approval, SourceLog, ToolProgress
from agentd.protocols import SourceHost, ToolSource
from agentd.types import ToolSpec

from agentd_tools.call import Entry
from agentd_tools.decorator import decorated_tools
from agentd_tools.naming import Binding, bind
from agentd_tools.reports import LogReport, Tell
from agentd_tools.resources import NAME as RESOURCES, Resources, offers_something
from agentd_tools.sources import ResourceSource

if TYPE_CHECKING:
    from agentd_tools.function import FunctionTool

__all__ = ["Listing"]

_log: Final = logging.getLogger("agentd.tools")
LIST_S: Final = 120.0
"""How long a source may take to start and to list its tools; it may have to be downloaded first."""

_OFFERS_S: Final = 15.0
_TAKEN: Final = frozenset({"local", RESOURCES})


@attrs.frozen
class _Listed:
    """What a source said when it was last asked."""

    source: ToolSource
    specs: tuple[ToolSpec, ...]
    offers: bool  # it has resources or prompts


class Listing:
    """Functions and sources, and the names under which their tools can be called.

    Readers in other threads see the old tools or the new, never half of them. Only one of the async
    methods may run at a time.

    :param changed: called with a source's name when it says that its list has changed.
    :param tell: gets the events of sources.
    """

    def __init__(
        self,
        functions: Iterable[Callable[..., Any]] | None,
        sources: Sequence[ToolSource],
        *,
        timeout_s: float,
        changed: Callable[[str], None],
        tell: Tell,
    ) -> None:
        self._all_decorated = functions is None
        self._functions = decorated_tools() if functions is None else tuple(functions)
        self.sources = _with_unique_names(sources)
        self.failures: dict[str, Exception] = {}
        self._timeout_s = timeout_s
        self.changed = changed
        self.tell = tell
        self._hosts: dict[str, _Host] = {}
        self._listed: dict[str, _Listed] = {}
        self._offered = False
        self._catalog: bytes | None = None
        self.bindings: tuple[Binding, ...] = ()
        self.entries: dict[str, Entry] = {}
        self.build()

    # --- asking the sources --------------------------------------------------------------------

    async def ask(
        self, names: Collection[str] | None = None, *, strict: bool, within_s: float | None = None
    ) -> None:
        """Ask sources for their tools, all at once; without `names`, every one."""
        sources = {n: s for n, s in self.sources.items() if names is None or n in names}
        listed, self.failures = await self._ask(sources, within_s or LIST_S)
        self._listed.update(listed)
        if strict:
            _raise_first(self.failures)
        self.build()

    async def replace(
        self, functions: Iterable[Callable[..., Any]] | None, sources: Sequence[ToolSource]
    ) -> None:
        """Have these functions and sources from now on; only new sources are asked. Raises if one fails, and
        then nothing has changed."""
        named = _with_unique_names(sources)
        known = {n: e for n, e in self._listed.items() if n in named and e.source is named[n]}
        listed, failures = await self._ask({n: s for n, s in named.items() if n not in known}, LIST_S)
        _raise_first(failures)
        self._all_decorated = functions is None
        self._functions = decorated_tools() if functions is None else tuple(functions)
        self.sources, self._listed = named, {**known, **listed}
        self.build()

    async def _ask(
        self, sources: Mapping[str, ToolSource], within_s: float
    ) -> tuple[dict[str, _Listed], dict[str, Exception]]:
        listed: dict[str, _Listed] = {}
        failures: dict[str, Exception] = {}

        async def one(name: str, source: ToolSource) -> None:
            failures[name] = ToolError(f"{name!r} did not list its tools within {within_s:g} s")
            with anyio.move_on_after(within_s):
                try:
                    listed[name] = await _list(source, name, self._host(name))
                    del failures[name]
                except Exception as error:  # a source is a plugin's: keep its error, not its trouble
                    _log.debug("listing the tools of %r failed", name, exc_info=True)
                    failures[name] = error

        async with anyio.create_task_group() as group:
            for name, source in sources.items():
                group.start_soon(one, name, source)
        return listed, {name: failures[name] for name in sources if name in failures}

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = _Host(name, weakref.ref(self))
        return self._hosts[name]

    def log(self, source: str, level: str, text: str) -> None:
        """Log something in the name of a source."""
        self._host(source).log(level, text)

    # --- functions -----------------------------------------------------------------------------

    def update(self) -> bool:
        """Take in functions that `@tool` marked since, if all are wanted; tell whether there are any."""
        if not self._all_decorated or (functions := decorated_tools()) == self._functions:
            return False
        self._functions = functions
        return True

    # --- names ---------------------------------------------------------------------------------

    def build(self) -> None:
        """Give every tool its name. The tools of `resources` stand before those of the sources: a server that
        comes later renames none of them."""
        from agentd_tools.function import described

        functions = [described(f) for f in self._functions]
        specs = [f.spec for f in functions]
        owners: list[FunctionTool | ToolSource] = list(functions)
        groups = [(self.sources[n], e.specs) for n, e in self._in_order()]
        resources = self._resources()
        if resources is not None:
            groups.insert(0, (resources, resources.specs))
        for source, listed in groups:
            specs += listed
            owners += [source] * len(listed)
        bindings = bind(specs)
        entries: dict[str, Entry] = {}
        for binding, owner in zip(bindings, owners, strict=True):
            entries[binding.python_name] = Entry.of(binding, owner, self._timeout_s)
        for entry in list(entries.values()):  # a tool's own name works too, where no other has it
            entries.setdefault(entry.binding.spec.name, entry)
        if bindings != self.bindings:  # the same tools stay the same tuple
            self.bindings, self._catalog = bindings, None
        self.entries = entries

    def name_of(self, source: ToolSource, tool: str) -> str | None:
        """Return the Python name of a source's tool, or None; of two with one name, that of the first."""
        for name, entry in self.entries.items():
            if entry.source is source and entry.binding.spec.name == tool:
                return name
        return None

    def _in_order(self) -> list[tuple[str, _Listed]]:
        """The sources that could be listed, in their order, not that of their answers."""
        return [(name, self._listed[name]) for name in self.sources if name in self._listed]

    def _resources(self) -> Resources | None:
        listed = self._in_order()
        # Once there, they stay: a server that has just removed its last resource may add another.
        self._offered = self._offered or any(e.offers for _, e in listed)
        having = {name: e.source for name, e in listed if isinstance(e.source, ResourceSource)}
        return Resources(having, self.log) if self._offered and having else None

    def instructions(self) -> dict[str, str]:
        """Return what sources say on how their tools belong together, by the source's name."""
        texts = {n: getattr(e.source, "instructions", None) for n, e in self._in_order()}
        return {name: text for name, text in texts.items() if isinstance(text, str) and text.strip()}

    def catalog(self) -> bytes:
        """Return the tools as a JSON array of name, source, tool, description and schemas."""
        if self._catalog is None:
            self._catalog = f"[{', '.join(map(_catalog_entry, self.bindings))}]".encode()
        return self._catalog


class _Host:
    """What one source of a set may tell it. See `agentd.protocols.SourceHost`.

    A source must not keep alive what uses it: whoever drops a client without a word wants it closed.
    """

    def __init__(self, source: str, listing: weakref.ref[Listing]) -> None:
        self._source = source
        self._listing = listing
        self._report = LogReport(source, self._tell)

    def _tell(self, event: Approval | ToolProgress | SourceLog) -> None:
        if (listing := self._listing()) is not None:
            listing.tell(event)

    def changed(self) -> None:
        listing = self._listing()
        try:
            if listing is not None:
                listing.changed(self._source)
        except Exception:
            _log.exception("a change of the tools of %r could not be told", self._source)

    def log(self, level: str, text: str) -> None:
        self._report(level, text)


async def _list(source: ToolSource, name: str, host: SourceHost) -> _Listed:
    specs = tuple(attrs.evolve(s, source=name) for s in await source.list_tools(host))
    offers = False
    with anyio.move_on_after(_OFFERS_S):
        offers = await offers_something(source)
    return _Listed(source, specs, offers)


def _raise_first(failures: Mapping[str, Exception]) -> None:
    for name, error in failures.items():
        if isinstance(error, AgentdError) and name in str(error):
            raise error
        raise ToolError(f"the tools of {name!r} could not be listed: {error}") from error


def _with_unique_names(sources: Sequence[ToolSource]) -> dict[str, ToolSource]:
    """Key sources by name; of two with one name, the later is called NAME-2."""
    named: dict[str, ToolSource] = {}
    for source in sources:
        name, number = source.name, 1
        while name in named or name in _TAKEN:
            number += 1
            name = f"{source.name}-{number}"
        named[name] = source
    return named


def _catalog_entry(binding: Binding) -> str:
    spec = binding.spec
    entry = {
        "name": binding.python_name,
        "source": spec.source,
        "tool": spec.name,
        "description": spec.description,
        "input_schema": spec.input_schema,
        "output_schema": spec.output_schema,
    }
    try:
        return json.dumps(entry)
    except RecursionError:  # a schema nested too deep; the tool can be called all the same
        return json.dumps({**entry, "input_schema": {"type": "object"}, "output_schema": None})
