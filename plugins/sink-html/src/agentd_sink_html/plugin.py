"""The plugin `html`: shows a run as one page."""

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
    """Option `path`, required: a directory, or a file name that ends in `.html`."""
    from agentd_sink_html.sink import HtmlSink

    check_options("the event sink 'html'", options, {"path": object})
    path = options.get("path")
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise ConfigError(
            f"html sink: path must name a directory or an .html file, got {path!r}; such as {{'path': 'pages'}}, or "
            "`-o sink.html.path=pages` of agentd run"
        )
    return HtmlSink(path)
