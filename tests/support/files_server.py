"""A small MCP server over stdio whose resources are the files of a folder; the standard library alone, so that it
starts in 30 ms.

    python -S files_server.py FOLDER [--polled] [--log FILE]

It speaks the 2025-11-25 revision. `file://FOLDER/NAME` is a file, text or (`*.bin`) binary; the tool `look` gives
its arguments and the text of the file that they name. Who is subscribed is told when the file is written, unless
`--polled`. A file `FOLDER/closed` keeps the server from starting. The log gets a line for each start and request.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

LOOK_S = 0.02
LOOK: dict[str, Any] = {
    "name": "look",
    "inputSchema": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "times": {"type": "integer"},
            "loud": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            "sizes": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "null"}]},
        },
        "required": ["name"],
    },
}


class Server:
    """Answers requests one after the other, and says in a thread of its own what has changed."""

    def __init__(self, folder: Path, log: Path | None, *, polled: bool) -> None:
        self.folder = folder
        self.log = log
        self.polled = polled
        self.lock = threading.Lock()
        self.watched: dict[str, object] = {}

    def note(self, *words: object) -> None:
        if self.log is not None:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(" ".join(map(str, words)) + "\n")

    def send(self, message: dict[str, Any]) -> None:
        data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        with self.lock:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def path(self, uri: str) -> Path:
        return self.folder / uri.rsplit("/", 1)[1]

    def state(self, uri: str) -> object:
        try:
            found = self.path(uri).stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def watch(self) -> None:
        while True:
            time.sleep(LOOK_S)  # what this server does for a living
            for uri, before in list(self.watched.items()):
                now = self.state(uri)
                if now != before and uri in self.watched:
                    self.watched[uri] = now
                    self.send({"method": "notifications/resources/updated", "params": {"uri": uri}})

    def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "initialize":
            offered = {"tools": {}, "resources": {"subscribe": not self.polled}}
            info = {"name": "files", "version": "1"}
            return {"protocolVersion": "2025-11-25", "capabilities": offered, "serverInfo": info}
        if method == "tools/list":
            return {"tools": [LOOK]}
        if method == "resources/list":
            names = sorted(entry.name for entry in self.folder.iterdir() if entry.is_file())
            return {"resources": [{"uri": f"file://{self.folder}/{name}", "name": name} for name in names]}
        if method == "resources/subscribe" and not self.polled:
            self.watched[params["uri"]] = self.state(params["uri"])
            return {}
        if method == "resources/unsubscribe" and not self.polled:
            self.watched.pop(params["uri"], None)
            return {}
        if method == "resources/read":
            return {"contents": [self.content(params["uri"])]}
        if method == "tools/call" and params["name"] == "look":
            arguments = params["arguments"]
            said = f"{json.dumps(arguments)} {(self.folder / arguments['name']).read_text(encoding='utf-8')}"
            return {"content": [{"type": "text", "text": said}]}
        raise LookupError(method)

    def content(self, uri: str) -> dict[str, Any]:
        data = self.path(uri).read_bytes()
        if uri.endswith(".bin"):
            return {"uri": uri, "blob": base64.b64encode(data).decode(), "mimeType": "application/x-test"}
        return {"uri": uri, "text": data.decode()}

    def run(self) -> None:
        threading.Thread(target=self.watch, daemon=True).start()
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "method" not in message or "id" not in message:
                continue
            params = message.get("params") or {}
            self.note(message["method"], params.get("uri", ""))
            try:
                self.send({"id": message["id"], "result": self.answer(message["method"], params)})
            except LookupError:
                error = {"code": -32601, "message": f"unknown: {message['method']}"}
                self.send({"id": message["id"], "error": error})
            except OSError as exc:
                self.send({"id": message["id"], "error": {"code": -32002, "message": str(exc)}})


def main() -> None:
    """Serve until the input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--polled", action="store_true")
    parser.add_argument("--log", type=Path)
    asked = parser.parse_args()
    if (asked.folder / "closed").exists():
        sys.exit("the folder is closed")
    server = Server(asked.folder, asked.log, polled=asked.polled)
    server.note("start", os.getpid())
    server.run()


if __name__ == "__main__":
    main()
