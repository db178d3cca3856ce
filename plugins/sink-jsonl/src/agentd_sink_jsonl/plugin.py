"""The plugin `jsonl`: keeps a run as JSON lines in a directory or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.protocols import EventSink
from agentd.registry.options import check_options

AGENTD_API = 1


@hookimpl
def agentd_create_event_sink(options: Mapping[str, Any]) -> EventSink:
    """Option `path`, required: a directory, or a file name that ends in `.jsonl`."""
    from agentd_sink_jsonl.jsonl import JsonlSink

    check_options("the event sink 'jsonl'", options, {"path": object})
    path = options.get("path")
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ConfigError(
            f"jsonl sink: path must name a directory or a .jsonl file, got {path!r}; "
            'for example {"path": "runs"}'
        )
    return JsonlSink(path)
