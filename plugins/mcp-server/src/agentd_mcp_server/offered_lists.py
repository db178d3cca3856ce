"""What the servers behind offer, under names that no two of them share."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import attrs
import mcp_types as types
from agentd_mcp_bridge.offered import plain_tool
from agentd_mcp_bridge.passing import Kind
from mcp.shared.uri_template import UriTemplate

__all__ = ["RESULTS", "GivenNames", "Offer", "OfferPlace", "OfferedList", "fits_template", "of_servers"]

_log = logging.getLogger("agentd.mcp")
_PAGE: Final = 500
_MOST: Final = 10_000
"""Of one server and kind; what comes behind is left out."""
_MOST_NAMES: Final = 100_000
_NAME_CHARACTERS: Final = 1000
_ODD: Final = re.compile(r"[^A-Za-z0-9_.-]+")


@attrs.frozen
class Offer:
    """What of the servers behind clients are offered: any of `tools`, `prompts` and `resources`.

    :param own_tools: names of tools that are agentd's own.
    """

    kinds: frozenset[str] = frozenset()
    own_tools: Collection[str] = ()


@attrs.frozen
class OfferPlace:
    """Where something is: the number of its server, and its name there."""

    server: int
    name: str


@attrs.frozen
class OfferedList:
    """All of a kind, as a client is told of it, and where each is."""

    items: Sequence[Any] = ()
    places: Mapping[str, OfferPlace] = attrs.field(factory=dict)

    def page(self, cursor: str | None) -> tuple[list[Any], str | None]:
        """Return a page and the cursor of the next one. :raises ValueError: for a cursor that is none."""
        start = 0 if cursor is None else int(cursor)
        if not 0 <= start <= len(self.items) or (cursor is not None and str(start) != cursor):
            raise ValueError(cursor)
        end = start + _PAGE
        return list(self.items[start:end]), str(end) if end < len(self.items) else None


class GivenNames:
    """The names under which clients were told of things. Each stays its own thing's: a call never reaches another
    server because the one that was meant is away, or does not offer it any more.

    :param most: how many are kept; beyond, those that nothing is offered under any more are forgotten.
    """

    def __init__(self, most: int = _MOST_NAMES) -> None:
        self._most = most
        self._names: dict[OfferPlace, str] = {}
        self._places: dict[str, OfferPlace] = {}

    def name(self, place: OfferPlace, server: str, used: Collection[str]) -> str:
        """Return the name of something: the one that it has had, or one that nothing else has."""
        known = self._names.get(place)
        if known is not None and known not in used:
            return known
        public = stem = place.name
        number = 1
        while public in used or self._places.get(public, place) != place:
            if public == stem == place.name:
                public = stem = f"{_ODD.sub('_', server).strip('_') or 'server'}_{place.name}"
            else:
                number += 1
                public = f"{stem}_{number}"
        self._names[place], self._places[public] = public, place
        return public

    def forget_all_but(self, offered: Collection[str]) -> None:
        """Make room, if there are too many."""
        if len(self._places) > self._most:
            self._places = {name: place for name, place in self._places.items() if name in offered}
            self._names = {place: name for name, place in self._places.items()}


def of_servers(
    kind: Kind,
    servers: Iterable[tuple[int, str, Sequence[Any]]],
    taken: Iterable[str] = (),
    names: GivenNames | None = None,
) -> OfferedList:
    """Return what is offered of a kind.

    A tool or a prompt keeps its name unless something else has that name; then it is called `SERVER_NAME`, or
    that with a number. Resources have addresses, which stay as they are: of two with one address, the first counts.
    Of two with one name in one server, too.

    :param servers: number, name and offers of each.
    :param taken: names that are not theirs to have.
    :param names: those of former lists, which stay.
    """
    names = GivenNames() if names is None else names
    items: list[Any] = []
    places: dict[str, OfferPlace] = {}
    used = set(taken)
    key = _key_of(kind)
    for number, server, offers in servers:
        own: set[str] = set()
        for item in _bounded(offers, kind, server):
            name = key(item)
            if not name or len(name) > _NAME_CHARACTERS:
                _log.info(
                    "%s: a name has 1 to %d characters: %.80r is left out of its %s",
                    server,
                    _NAME_CHARACTERS,
                    name,
                    kind,
                )
                continue
            if name in own:
                continue
            own.add(name)
            public = name
            if kind in ("tools", "prompts"):
                public = names.name(OfferPlace(number, name), server, used)
                given = plain_tool(item) if kind == "tools" else item
                items.append(given if public == name else given.model_copy(update={"name": public}))
            elif name in used:
                continue
            else:
                items.append(item)
            used.add(public)
            places[public] = OfferPlace(number, name)
    names.forget_all_but(places)
    return OfferedList(items, places)


def fits_template(uri: str, template: str) -> bool:
    """Tell whether a resource may be one of a template's (RFC 6570). One that cannot be read, or that begins with a
    variable and so claims everything, fits nothing."""
    prefix = template.partition("{")[0]
    if not prefix or not uri.startswith(prefix):
        return False
    try:
        return UriTemplate.parse(template).match(uri) is not None
    except ValueError:
        return False


def _key_of(kind: Kind) -> Callable[[Any], str]:
    if kind == "resources":
        return lambda item: str(item.uri)
    if kind == "resource_templates":
        return lambda item: str(item.uri_template)
    return lambda item: str(item.name)


def _bounded(offers: Sequence[Any], kind: Kind, server: str) -> Sequence[Any]:
    if len(offers) > _MOST:
        _log.warning("%s has %d %s; the first %d are offered", server, len(offers), kind, _MOST)
    return offers[:_MOST]


RESULTS: Final[Mapping[Kind, Callable[..., types.PaginatedResult]]] = {
    "tools": types.ListToolsResult,
    "prompts": types.ListPromptsResult,
    "resources": types.ListResourcesResult,
    "resource_templates": types.ListResourceTemplatesResult,
}
