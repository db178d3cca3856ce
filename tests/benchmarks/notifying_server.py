"""An MCP server on standard input and output whose resource changes when it is told to. Standard library only.

    notifying_server.py SOCKET

It connects to the Unix socket. For each line that it gets there it changes what its tool `board` returns, sends
`notifications/resources/updated` to whoever has subscribed, and answers with the time at which it began to
(CLOCK_MONOTONIC, seconds). It speaks revisions up to 2025-11-25, which agentd 0.8.6 and this version both know.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from typing import Any

__all__ = ["URI"]

URI = "tool://board/"
TOOL = {
    "name": "board",
    "description": "What stands on the board.",
    "inputSchema": {"type": "object", "properties": {}},
}


class Server:
    """The server's state; both threads write messages."""

    def __init__(self) -> None:
        self.changes = 0
        self._uris: list[str] = []
        self._lock = threading.Lock()

    def send(self, message: dict[str, Any]) -> None:
        with self._lock:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
            sys.stdout.flush()

    def change(self, orders: socket.socket) -> None:
        """Change as often as one is told."""
        with orders, orders.makefile("rwb", buffering=0) as lines:
            for _ in lines:
                self.changes += 1
                began = time.monotonic()
                for uri in self._uris:
                    self.send({"method": "notifications/resources/updated", "params": {"uri": uri}})
                lines.write(f"{began}\n".encode())

    def answer(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        match method:
            case "initialize":
                return {
                    "protocolVersion": params["protocolVersion"],
                    "capabilities": {"tools": {}, "resources": {"subscribe": True}},
                    "serverInfo": {"name": "board", "version": "1"},
                }
            case "tools/list":
                return {"tools": [TOOL]}
            case "tools/call":
                return {"content": [{"type": "text", "text": f"state {self.changes}"}]}
            case "resources/list":
                return {"resources": []}
            case "resources/subscribe":
                self._uris = [*self._uris, params["uri"]]
                return {}
            case "ping":
                return {}
        return None


def main() -> None:
    """Answer requests until the input ends."""
    server = Server()
    orders = socket.socket(socket.AF_UNIX)
    orders.connect(sys.argv[1])
    threading.Thread(target=server.change, args=(orders,), daemon=True).start()
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        result = server.answer(message["method"], message.get("params") or {})
        error = {"code": -32601, "message": f"there is no {message['method']}"}
        server.send({"id": message["id"], **({"error": error} if result is None else {"result": result})})


if __name__ == "__main__":
    main()
