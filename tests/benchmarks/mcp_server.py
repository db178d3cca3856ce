"""An MCP server on standard input and output, for both generations of the SDK. Standard library only.

    mcp_server.py NAME COUNT [LOG]

It has COUNT tools: `NAME_echo` (integer `x`, gives it back as text) and others of a usual size. Each call's
arrival (CLOCK_MONOTONIC, seconds) is appended to LOG. Its own time for a call is some 50 microseconds, so
that what is measured is the client.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

NOUNS = ("issue", "branch", "release", "comment", "label", "review", "file", "user", "team", "project")
VERBS = ("create", "list", "update", "delete", "search")


def tools(name: str, count: int) -> list[dict[str, Any]]:
    """Return `count` tools: an echo, then what a tracker's server has."""
    echo = {
        "name": f"{name}_echo",
        "description": "Give back what it got.",
        "inputSchema": {
            "type": "object",
            "properties": {"x": {"type": "integer", "description": "Anything."}},
            "required": ["x"],
        },
    }
    return [echo, *(_usual(name, number) for number in range(count - 1))]


def _usual(name: str, number: int) -> dict[str, Any]:
    noun, verb = NOUNS[number % len(NOUNS)], VERBS[number // len(NOUNS) % len(VERBS)]
    page = number // (len(NOUNS) * len(VERBS))
    return {
        "name": f"{name}_{verb}_{noun}{page or ''}",
        "description": f"{verb.capitalize()} a {noun} of a repository and return its number, state, author and "
        "address. Needs write access for changes; large results come page by page.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "owner": {"type": "string", "description": "The account that owns the repository."},
                "repository": {"type": "string", "description": "The repository's name without its owner."},
                "state": {"type": "string", "enum": ["open", "closed", "all"], "default": "open"},
                "limit": {
                    "type": "integer",
                    "minimum": 1,
                    "maximum": 100,
                    "description": "Results for a page.",
                },
            },
            "required": ["owner", "repository"],
        },
    }


def main() -> None:
    """Answer requests until the input ends."""
    name, count = sys.argv[1], int(sys.argv[2])
    log = open(sys.argv[3], "a", buffering=1) if len(sys.argv) > 3 else None  # noqa: SIM115
    listed = tools(name, count)
    for line in sys.stdin:
        arrived = time.monotonic()
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        method, params = message["method"], message.get("params") or {}
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message["id"]}
        if method == "initialize":
            answer["result"] = {
                "protocolVersion": params["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": name, "version": "1"},
            }
        elif method == "tools/list":
            answer["result"] = {"tools": listed}
        elif method == "tools/call":
            if log is not None:
                log.write(f"{arrived}\n")
            arguments = params.get("arguments") or {}
            answer["result"] = {"content": [{"type": "text", "text": str(arguments.get("x", "ok"))}]}
        elif method == "ping":
            answer["result"] = {}
        else:
            answer["error"] = {"code": -32601, "message": f"there is no {method}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
