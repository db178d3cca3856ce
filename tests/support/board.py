"""A small MCP server over stdio whose resources are files; the standard library alone, so it starts at once.

    python -S board.py FOLDER [polled] [stubborn]

`board://NAME` is the file FOLDER/NAME; whoever subscribes hears of changes within milliseconds, unless it is `polled`
(then it offers no subscriptions). `stubborn` ignores TERM and the end of its input. Tools: `post` writes a file, `read`
reads one, `wipe` removes one, `hang` never answers. FOLDER/journal gets a line for each start and each request.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

TEXT = {"type": "string"}


def tool(name: str, *arguments: str) -> dict[str, Any]:
    """Describe a tool whose arguments are texts."""
    schema = {"type": "object", "properties": dict.fromkeys(arguments, TEXT), "required": list(arguments)}
    return {"name": name, "description": f"To {name}.", "inputSchema": schema}


TOOLS = [tool("post", "name", "text"), tool("read", "name"), tool("wipe", "name"), tool("hang")]


class Board:
    """The server."""

    def __init__(self, folder: Path, *, polled: bool) -> None:
        self.folder = folder
        self.polled = polled
        self.lock = threading.Lock()
        self.watched: dict[str, str] = {}

    def note(self, *words: object) -> None:
        """Write a line into the journal."""
        with open(self.folder / "journal", "a", encoding="utf-8") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        with self.lock:
            sys.stdout.buffer.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            sys.stdout.buffer.flush()

    def text(self, uri: str) -> str:
        """Return what the resource holds now."""
        return (self.folder / uri.removeprefix("board://")).read_text(encoding="utf-8")

    def watch(self) -> None:
        """Tell of changes, for ever."""
        while True:
            time.sleep(0.01)
            for uri, before in list(self.watched.items()):
                try:
                    now = self.text(uri)
                except OSError:
                    continue
                if now != before and uri in self.watched:
                    self.watched[uri] = now
                    self.send({"method": "notifications/resources/updated", "params": {"uri": uri}})

    # --- requests --------------------------------------------------------------------------------

    def initialize(self, params: dict[str, Any]) -> dict[str, Any]:
        resources = {} if self.polled else {"subscribe": True}
        return {
            "protocolVersion": "2025-11-25",
            "capabilities": {"tools": {}, "resources": resources, "prompts": {}},
            "serverInfo": {"name": "board", "version": "1"},
        }

    def tools_list(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"tools": TOOLS}

    def tools_call(self, params: dict[str, Any]) -> dict[str, Any]:
        arguments = params.get("arguments") or {}
        path = self.folder / arguments.get("name", "none")
        if params["name"] == "post":
            path.write_text(arguments["text"], encoding="utf-8")
        elif params["name"] == "wipe":
            path.unlink()
        text = path.read_text(encoding="utf-8") if params["name"] == "read" else "done"
        return {"content": [{"type": "text", "text": text}]}

    def resources_list(self, params: dict[str, Any]) -> dict[str, Any]:
        names = sorted(path.name for path in self.folder.iterdir())
        return {"resources": [{"uri": f"board://{name}", "name": name} for name in names]}

    def resources_read(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"contents": [{"uri": params["uri"], "text": self.text(params["uri"])}]}

    def resources_subscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        self.watched[params["uri"]] = self.text(params["uri"])
        return {}

    def resources_unsubscribe(self, params: dict[str, Any]) -> dict[str, Any]:
        self.watched.pop(params["uri"], None)
        return {}

    def prompts_list(self, params: dict[str, Any]) -> dict[str, Any]:
        return {"prompts": [{"name": "greet"}]}

    def prompts_get(self, params: dict[str, Any]) -> dict[str, Any]:
        content = {"type": "text", "text": f"Hello {params['arguments']['who']}"}
        return {"messages": [{"role": "user", "content": content}]}

    def answer(self, message: dict[str, Any]) -> None:
        """Answer one request, unless it is to hang."""
        method, params = message["method"], message.get("params") or {}
        self.note(method, params.get("name", params.get("uri", "")))
        if params.get("name") == "hang":
            return
        function = getattr(self, method.replace("/", "_"), None)
        if function is None or (self.polled and method == "resources/subscribe"):
            error = {"code": -32601, "message": f"unknown: {method}"}
            self.send({"id": message["id"], "error": error})
            return
        try:
            self.send({"id": message["id"], "result": function(params)})
        except OSError as error:
            self.send({"id": message["id"], "error": {"code": -32002, "message": str(error)}})

    def run(self) -> None:
        """Answer until the input ends."""
        threading.Thread(target=self.watch, daemon=True).start()
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "id" in message and "method" in message:
                self.answer(message)


def main() -> None:
    """Behave as the command line says."""
    ways = sys.argv[2:]
    board = Board(Path(sys.argv[1]), polled="polled" in ways)
    if "stubborn" in ways:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    board.note("start", os.getpid())
    board.run()
    while "stubborn" in ways:
        time.sleep(300)


if __name__ == "__main__":
    main()
