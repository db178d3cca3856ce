"""The plugin `models` of the group `agentd.tool_sources`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentd.hookspecs import hookimpl
from agentd.protocols import ToolSource

AGENTD_API: Final = 1
SCHEME: Final = "models:"


@hookimpl
def agentd_create_tool_sources(spec: object, options: Mapping[str, Any]) -> Sequence[ToolSource] | None:
    """Take what `models_from_code` returns, and the text `models:NAME`: the model that is asked by default, or none.

    :param options: beside a text, the arguments of `models_from_code`.
    """
    from agentd_subagents.from_code import ModelsFromCode, read_settings

    if isinstance(spec, str) and spec.startswith(SCHEME):
        settings = read_settings(spec.removeprefix(SCHEME), options)
    elif isinstance(spec, ModelsFromCode):
        settings = spec
    else:
        return None
    from agentd_subagents.source import ModelsSource

    return [ModelsSource(settings)]
