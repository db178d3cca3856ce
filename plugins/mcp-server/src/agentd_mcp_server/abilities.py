"""What a client says it can be asked, and how it speaks: a server behind is opened accordingly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import mcp_types as types
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

if TYPE_CHECKING:
    from mcp.server.context import ServerRequestContext

__all__ = ["ClientAbilities"]


@attrs.frozen
class ClientAbilities:
    """Those of the client that has made a request. Two with one `key` share connections."""

    able: types.ClientCapabilities
    speaks_handshake: bool

    @classmethod
    def of(cls, context: ServerRequestContext[Any, Any]) -> ClientAbilities:
        """Return those of whoever made a request."""
        said = context.session.client_capabilities or types.ClientCapabilities()
        able = types.ClientCapabilities(
            elicitation=said.elicitation, sampling=said.sampling, roots=said.roots
        )
        return cls(able, context.protocol_version not in MODERN_PROTOCOL_VERSIONS)

    @property
    def key(self) -> tuple[bool, ...]:
        """What makes a difference to a server: at most sixteen."""
        able = self.able
        asked = (able.elicitation is not None, able.sampling is not None, able.roots is not None)
        return (self.speaks_handshake, *asked)

    @property
    def can_be_asked(self) -> bool:
        """True if there is anything that a server may ask of it."""
        return any(self.key[1:])
