"""Events as JSON lines on a stream, for `--json`."""

from __future__ import annotations

import json
from typing import TextIO

from agentd.events import Event, as_dict
from agentd_sink_jsonl.strict_json import strict_json

__all__ = ["JsonLines"]


class JsonLines:
    """A sink that writes each event as one line and flushes it, so that a reader sees it at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def emit(self, event: Event) -> None:
        # ensure_ascii: one line whatever the event holds, in any encoding of the stream
        self._stream.write(json.dumps(json.loads(strict_json(as_dict(event)))) + "\n")
        self._stream.flush()

    def close(self) -> None:
        pass
