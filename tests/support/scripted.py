"""A small MCP server over stdio that misbehaves on demand; the standard library alone, so it starts at once.

    python -S scripted.py [START] [--journal FILE]

START: `well` (default), `polled` (no subscriptions), `odd` (tools that are described oddly), `half` (agrees on
2026-07-28 and wants a handshake all the same), `once` (refuses whatever follows a question it refused), `strict` (ends
at a question before the handshake), `dies`, `garbage`, `silent`, `halves` (descriptions that are no valid
Unicode), `banner`, `flood`, `stubborn` (ignores TERM and the end of its input). The journal gets a line for
each start, request, notification, child, and request that has a result.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

INTEGER = {"type": "integer"}
EMPTY: dict[str, Any] = {"type": "object", "properties": {}}
PROMISED: dict[str, Any] = {"type": "object", "properties": {"n": INTEGER}, "required": ["n"]}


DISCOVERED: dict[str, Any] = {
    "resultType": "complete",
    "supportedVersions": ["2026-07-28"],
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "scripted", "version": "1"},
    "ttlMs": 0,
    "cacheScope": "private",
}


class Raw(str):
    """A line to send as it is, each character a byte; `ID` in it becomes the request's id."""


def tool(name: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Describe a tool."""
    return {"name": name, "inputSchema": {"type": "object", "properties": properties or {}}, **more}


class Server:
    """Answers requests, each in a thread of its own."""

    def __init__(self, journal: str | None) -> None:
        self.journal = journal
        self.lock = threading.Lock()
        self.out = sys.stdout.buffer
        self.answers: dict[object, Any] = {}
        self.tools = [
            tool("echo", {"text": {"type": "string"}}),
            tool("wait", {"seconds": {"type": "number"}}),
            tool("die", {"code": INTEGER}),
            tool("look_and_die", annotations={"readOnlyHint": True}),
            tool("repeat_and_die", annotations={"idempotentHint": True}),
            tool("big", {"mib": INTEGER}),
            tool("close_output"),
            tool("change"),
            tool("progress"),
            tool("log"),
            tool("ask"),
            tool("sample"),
            tool("roots"),
            tool("fail"),
            tool("refuse"),
            tool("content", {"parts": {"type": "array"}}),
            tool("raw", {"text": {"type": "string"}}),
            tool("structured", {"result": {"type": "object"}}, outputSchema=PROMISED),
            tool("environment"),
            tool("children"),
            tool("meet", {"number": INTEGER}),
            tool("touch", {"uri": {"type": "string"}}),
        ]
        self.meeting = threading.Barrier(8)
        self.polled = False
        self.start = "well"
        self.initialized = self.refused = False

    def note(self, *words: object) -> None:
        """Write a line into the journal."""
        if self.journal:
            with open(self.journal, "a", encoding="utf-8") as file:
                file.write(" ".join(map(str, words)) + "\n")

    def send(self, message: dict[str, Any]) -> None:
        """Send a message."""
        data = json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"
        with self.lock:
            self.out.write(data)
            self.out.flush()

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Ask the client something and wait for its answer."""
        number = f"s{len(self.answers)}"
        arrived = threading.Event()
        self.answers[number] = arrived
        self.send({"id": number, "method": method, "params": params})
        arrived.wait(10)
        return self.answers[number]

    # --- tools -----------------------------------------------------------------------------------

    def call(self, name: str, arguments: dict[str, Any], params: dict[str, Any]) -> Any:
        """Carry out a call; returns what the result is to be made of."""
        if not hasattr(self, f"do_{name}"):
            return {"error": {"code": -32602, "message": f"unknown tool: {name}"}}
        function: Callable[..., Any] = getattr(self, f"do_{name}")
        return function(params=params, **arguments)

    def do_echo(self, text: str, **_: Any) -> str:
        return text

    def do_given(self, params: Any, **_: Any) -> str:
        return json.dumps(params["arguments"])

    def do_wait(self, seconds: float, **_: Any) -> str:
        time.sleep(seconds)
        return "waited"

    def do_die(self, code: int = 3, **_: Any) -> str:
        sys.stderr.write("fatal: told to die\n")
        sys.stderr.flush()
        os._exit(code)

    def do_look_and_die(self, **_: Any) -> str:
        with open(self.journal or "", encoding="utf-8") as file:
            starts = file.read().count("start ")
        return "second life" if starts > 1 else self.do_die()

    do_repeat_and_die = do_look_and_die

    def do_big(self, mib: int, **_: Any) -> None:
        with self.lock:
            self.out.write(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"')
            for _number in range(mib):
                self.out.write(b"x" * (1 << 20))
            self.out.write(b'"}]}}\n')
            self.out.flush()

    def do_close_output(self, **_: Any) -> None:
        os.close(1)
        time.sleep(60)

    def do_change(self, **_: Any) -> str:
        self.tools = [tool("echo", {"text": {"type": "string"}}), tool("brand_new")]
        self.send({"method": "notifications/tools/list_changed"})
        return "changed"

    def do_progress(self, params: dict[str, Any], **_: Any) -> str:
        token = params.get("_meta", {}).get("progressToken")
        for done in (1, 2):
            update = {"progressToken": token, "progress": done, "total": 2, "message": f"step {done}"}
            self.send({"method": "notifications/progress", "params": update})
        time.sleep(0.05)  # the client handles notifications in tasks of their own
        return "done"

    def do_log(self, **_: Any) -> str:
        note = {"level": "warning", "logger": "db", "data": {"rows": 3}}
        self.send({"method": "notifications/message", "params": note})
        return "logged"

    def do_ask(self, **_: Any) -> Any:
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        return self.request("elicitation/create", {"message": "Where?", "requestedSchema": schema})

    def do_sample(self, **_: Any) -> Any:
        message = {"role": "user", "content": {"type": "text", "text": "Say hi"}}
        return self.request("sampling/createMessage", {"messages": [message], "maxTokens": 9})

    def do_roots(self, **_: Any) -> Any:
        return self.request("roots/list", {})

    def do_fail(self, **_: Any) -> dict[str, Any]:
        return {"content": [{"type": "text", "text": "the disk is full"}], "isError": True}

    def do_refuse(self, **_: Any) -> dict[str, Any]:
        return {"error": {"code": -32602, "message": "no such thing"}}

    def do_content(self, parts: list[Any], **_: Any) -> dict[str, Any]:
        return {"content": parts}

    def do_raw(self, text: str, params: dict[str, Any], **_: Any) -> Raw:
        return Raw(text.replace("DEEP", "[" * 200_000 + "]" * 200_000))

    def do_structured(self, result: dict[str, Any], **_: Any) -> dict[str, Any]:
        return result

    def do_environment(self, **_: Any) -> dict[str, Any]:
        return {"content": [], "structuredContent": {"env": dict(os.environ), "cwd": os.getcwd()}}

    def do_children(self, **_: Any) -> dict[str, Any]:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
        command = [sys.executable, "-S", "-c", code]
        plain = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        away = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        self.note("child", plain.pid)
        self.note("child", away.pid)
        return {"content": [], "structuredContent": {"pids": [plain.pid, away.pid]}}

    def do_meet(self, number: int, **_: Any) -> str:
        self.meeting.wait(10)
        return str(number)

    def do_touch(self, uri: str, **_: Any) -> str:
        self.send({"method": "notifications/resources/updated", "params": {"uri": uri}})
        return "touched"

    # --- the protocol ----------------------------------------------------------------------------

    def answer(self, message: dict[str, Any]) -> None:
        """Answer one request."""
        method, params = message["method"], message.get("params") or {}
        reply: dict[str, Any]
        if self.polled and method == "resources/subscribe":
            method = "none"
        if self.start == "half" and method == "server/discover":
            self.send({"id": message["id"], "result": DISCOVERED})
            return
        if (self.start == "half" and not self.initialized and method != "initialize") or self.refused:
            error = {"code": -32600, "message": "Bad Request: Server not initialized"}
            self.send({"id": message["id"], "error": error})
            return
        if self.start == "strict" and method == "server/discover":
            sys.stderr.write(f"Error: expect initialize, but received: {method}\n")
            sys.stderr.flush()
            os._exit(1)
        if self.start == "once" and method == "server/discover":
            self.refused = True
            self.send({"id": message["id"], "error": {"code": -32601, "message": "unknown: server/discover"}})
            return
        if method == "initialize":
            self.initialized = True
            capabilities = {
                "tools": {"listChanged": True},
                "logging": {},
                "resources": {"subscribe": True},
                "prompts": {},
            }
            reply = {
                "protocolVersion": "2025-11-25",
                "capabilities": capabilities,
                "serverInfo": {"name": "scripted", "version": "1"},
                "instructions": "Use echo first.",
            }
        elif method == "tools/list":
            first = "cursor" not in params
            half = len(self.tools) // 2
            reply = {"tools": self.tools[:half] if first else self.tools[half:]}
            if first:
                reply["nextCursor"] = "more"
        elif method == "resources/list":
            reply = {"resources": [{"uri": "note://1", "name": "one"}], "nextCursor": "again"}
        elif method == "resources/read":
            reply = {"contents": [{"uri": params["uri"], "blob": "aGk=", "mimeType": "x/y"}]}
        elif method in ("resources/subscribe", "resources/unsubscribe"):
            if params["uri"].startswith("none:"):
                self.send({"id": message["id"], "error": {"code": -32002, "message": "no such resource"}})
                return
            if params["uri"].startswith("mute:"):
                return
            reply = {}
        elif method == "prompts/list":
            reply = {"prompts": [{"name": "greet"}]}
        elif method == "prompts/get":
            text = f"Hello {params['arguments']['who']}"
            reply = {"messages": [{"role": "user", "content": {"type": "text", "text": text}}]}
        elif method == "tools/call":
            made = self.call(params["name"], params.get("arguments") or {}, params)
            if isinstance(made, dict) and "error" in made and "code" in made["error"]:
                self.send({"id": message["id"], **made})
                return
            if isinstance(made, str) and not isinstance(made, Raw):
                made = {"content": [{"type": "text", "text": made}]}
            if isinstance(made, Raw):
                with self.lock:
                    self.out.write(made.replace("ID", json.dumps(message["id"])).encode("latin-1") + b"\n")
                    self.out.flush()
                return
            if made is None:
                return
            reply = made
        else:
            error = {"code": -32601, "message": f"unknown: {method}"}
            self.send({"id": message["id"], "error": error})
            return
        self.send({"id": message["id"], "result": reply})
        self.note("answered", method, params.get("name", ""))

    def run(self, *, answering: bool = True) -> None:
        """Read messages until the input ends."""
        for line in sys.stdin.buffer:
            message = json.loads(line)
            if "method" not in message:
                arrived = self.answers[message["id"]]
                shown = json.dumps({k: message[k] for k in ("result", "error") if k in message})
                self.answers[message["id"]] = {"content": [{"type": "text", "text": shown}]}
                arrived.set()
                continue
            self.note(message["method"], json.dumps(message.get("params", {})))
            if "id" in message and answering:
                threading.Thread(target=self.answer, args=(message,), daemon=True).start()


def main() -> None:
    """Behave as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("start", nargs="?", default="well")
    parser.add_argument("--journal")
    asked = parser.parse_args()
    server = Server(asked.journal)
    server.note("start", os.getpid())
    server.polled = asked.start == "polled"
    server.start = asked.start
    if asked.start == "defaults":
        text, level = {"type": "string"}, {"type": "string", "default": "info"}
        server.tools = [tool("given", {"level": level, "text": text})]
        server.tools[0]["inputSchema"]["required"] = ["level", "text"]
    if asked.start == "odd":
        server.tools = [
            tool("echo", {"text": {"type": "string"}}),
            {"name": "untyped", "inputSchema": {"properties": {"text": {"type": "string"}}}},
            {"name": "empty", "inputSchema": {}},
            {"name": "bare"},
            {"name": "listed", "inputSchema": {"type": "array"}},
            {"name": "hinted", "inputSchema": EMPTY, "annotations": {"readOnlyHint": "perhaps"}, "title": 7},
            {"description": "has no name"},
            "a text",
        ]
    if asked.start == "halves":
        for described in server.tools:
            described["description"] = "half a character: \ud83d"
    if asked.start == "dies":
        sys.stderr.write("cannot open the database\n")
        sys.exit(7)
    if asked.start == "garbage":
        for _ in range(5000):
            print("Welcome to the server!")
        sys.stdout.flush()
    if asked.start == "banner":
        print("Welcome to the server!", flush=True)
    if asked.start == "flood":
        server.do_big(100)
    if asked.start == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server.run(answering=asked.start not in ("silent", "garbage"))
    if asked.start == "stubborn":
        time.sleep(300)


if __name__ == "__main__":
    main()
