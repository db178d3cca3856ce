"""The hook of the parser plugin `fence`. Nothing heavy: the parser is imported inside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl

if TYPE_CHECKING:
    from agentd_parser_fence.parser import FenceParser

__all__ = ["AGENTD_API", "agentd_create_parser"]

AGENTD_API: Final = 1


@hookimpl
def agentd_create_parser(options: Mapping[str, Any]) -> FenceParser:
    """Make a parser for one answer. There are no options; `ConfigError` for any."""
    from agentd_parser_fence.parser import FenceParser

    if options:
        raise ConfigError(f"the parser 'fence' has no options, got {', '.join(map(repr, sorted(options)))}")
    return FenceParser()
