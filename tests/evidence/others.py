"""Tools to fill an offer up with: those of the other data sets, each in the source that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import attrs
from agentd.types import ToolSpec

from evidence.cases import Case, DataSet

__all__ = ["OtherSpecs", "all_others"]

LIBRARY_SIZE = (
    25  # functions that belong to no source are given one for so many: that is what MCP servers have
)


@attrs.frozen
class OtherSpecs:
    """Tools by source, in the order in which they are taken."""

    sources: Mapping[str, Sequence[ToolSpec]]
    _known: dict[str, dict[str, str]] = attrs.field(factory=dict, init=False)

    def fill(self, case: Case, offered: int) -> tuple[frozenset[str], dict[str, list[ToolSpec]]] | None:
        """Return which of the case's own tools to offer, and what others, so that there are `offered` of them.

        The case's own come first: those that its gold calls use, then its others. None if it uses more than that.
        """
        own = self._own(case)
        names = list(dict.fromkeys([*case.names, *own]))
        if len(case.names) > offered:
            return None
        chosen = names[:offered]
        room = offered - len(chosen)
        taken: dict[str, list[ToolSpec]] = {}
        seen = set(chosen)
        for source, specs in self.sources.items():
            if source in own.values():
                continue
            for spec in specs:
                if room and spec.name not in seen:
                    seen.add(spec.name)
                    taken.setdefault(source, []).append(spec)
                    room -= 1
        if room:
            raise AssertionError(f"only {offered - room} tools could be found")
        return frozenset(chosen), taken

    def _own(self, case: Case) -> dict[str, str]:
        """Return the sources of a case's own tools, of those too that are added on the way."""
        if case.id not in self._known:
            world = case.world()
            own = {spec.name: spec.source for spec in world.specs()}
            for turn in range(len(case.turns)):
                if world.begin(turn):
                    own |= {spec.name: spec.source for spec in world.specs()}
            self._known[case.id] = own
        return self._known[case.id]


def all_others(data_sets: Sequence[DataSet], singles: Iterator[ToolSpec]) -> OtherSpecs:
    """Return the tools of all data sets, and behind them functions that belong to no source.

    :param singles: these functions; of those with one name, the first is taken.
    """
    sources: dict[str, Sequence[ToolSpec]] = {}
    for data_set in data_sets:
        sources |= data_set.tools()
    seen = {spec.name for specs in sources.values() for spec in specs}
    library: list[ToolSpec] = []
    for spec in singles:
        if spec.name not in seen:
            seen.add(spec.name)
            library.append(spec)
    for number, start in enumerate(range(0, len(library), LIBRARY_SIZE), 1):
        name = f"library{number:02}"
        sources[name] = [attrs.evolve(s, source=name) for s in library[start : start + LIBRARY_SIZE]]
    return OtherSpecs(sources)
