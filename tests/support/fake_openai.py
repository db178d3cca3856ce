"""A real HTTP server on loopback that speaks both of OpenAI's APIs and answers from a script, faults
included."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

__all__ = ["Answer", "FakeOpenAI"]


@attrs.define(kw_only=True)
class Answer:
    """One answer of the script.

    `cut_after`: end the stream without its finish marker after so many characters. `malformed_after`: send
    a broken chunk there. `disconnect_after`: close the socket there. `status`: refuse with this code and `error`.
    `wait_after`: wait for `gate` there. `forever`: never stop writing. `items`: further output items before
    the message (responses). `calls`: native calls as (id, name, arguments), for both APIs, behind the text;
    where there are calls and no text, responses have no message. `pieces`: what a stream sends in place of all that,
    as JSON or as bytes; `encoding`: how its bytes are encoded. `thought`: what the model thinks, in a form of
    `THOUGHTS` (`thought_in`), in front of the text.
    """

    text: str = ""
    status: int = 200
    error: dict[str, Any] | None = None
    finish: str | None = None
    cut_after: int | None = None
    malformed_after: int | None = None
    disconnect_after: int | None = None
    wait_after: int | None = None
    gate: threading.Event = attrs.field(factory=threading.Event)
    forever: bool = False
    items: list[dict[str, Any]] = attrs.field(factory=list)
    tool_calls: list[dict[str, Any]] = attrs.field(factory=list)
    calls: list[tuple[str, str, str]] = attrs.field(factory=list)
    cached: int = 0
    reasoning: int = 0
    thought: str = ""
    thought_in: str = ""
    pieces: Iterable[Any] | None = None
    encoding: str = ""


THOUGHTS = {
    "chat": ("reasoning_content", "reasoning", "both", "thinking_blocks", "content", "tags"),
    "responses": ("text", "summary", "both", "item", "tags"),
}
"""The forms in which a server may send what a model thinks, by API."""


class Disconnect(Exception):
    pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what some tests are about."""


class FakeOpenAI:
    """Use as a context manager. `answers` are used up one after the other; the last one is repeated if
    `repeat`."""

    def __init__(self, *answers: str | Answer, piece: int = 4, repeat: bool = False) -> None:
        self.answers = [Answer(text=a) if isinstance(a, str) else a for a in answers]
        self.piece = piece
        self.repeat = repeat
        self.requests: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.paths: list[str] = []
        self.hung_up = threading.Event()
        self.characters_sent = 0
        self.reject_stream_options = False
        self.decide: Callable[[dict[str, Any]], Answer] | None = None
        self._lock = threading.Lock()
        self._http_clients: list[Any] = []
        self._server = QuietServer(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> FakeOpenAI:
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for answer in self.answers:
            answer.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        for http in self._http_clients:
            http.close()

    def client(self, **settings: Any) -> Any:
        """A client whose connections are closed with this."""
        import openai

        made = openai.OpenAI(base_url=self.base_url, api_key="none", **{"max_retries": 0, **settings})
        self._http_clients.append(made._client)  # of itself, tests may see the end
        return made

    def async_client(self, **settings: Any) -> Any:
        import openai

        return openai.AsyncOpenAI(base_url=self.base_url, api_key="none", **{"max_retries": 0, **settings})

    def next_answer(self, request: dict[str, Any]) -> Answer:
        with self._lock:
            if self.decide is not None:
                return self.decide(request)
            if self.repeat and len(self.answers) == 1:
                return self.answers[0]
            return self.answers.pop(0) if self.answers else Answer(status=500, text="the script is over")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = 0

            def log_message(self, *args: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                request = json.loads(body)
                server.bodies.append(body)
                server.requests.append(request)
                server.paths.append(self.path)
                if server.reject_stream_options and "stream_options" in request:
                    self._json(400, {"error": {"message": "unknown field stream_options"}})
                elif self.path.endswith("/embeddings"):
                    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
                    usage = {"prompt_tokens": 1, "total_tokens": 1}
                    self._json(
                        200, {"object": "list", "data": data, "model": request["model"], "usage": usage}
                    )
                else:
                    self._answer(request, server.next_answer(request))

            def _answer(self, request: dict[str, Any], answer: Answer) -> None:
                if answer.status != 200:
                    error = answer.error or {"message": answer.text or "no", "type": "x"}
                    self._json(answer.status, {"error": error})
                    return
                wire = Responses if "responses" in self.path else Chat
                api = wire(request, answer, len(server.requests))
                if request.get("stream"):
                    self._stream(api, answer)
                else:
                    self._json(200, api.whole())

            def _json(self, status: int, data: Any) -> None:
                body = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def _stream(self, api: Any, answer: Answer) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                if answer.encoding:
                    self.send_header("Content-Encoding", answer.encoding)
                self.end_headers()
                try:
                    for data in self._pieces(api, answer):
                        line = (
                            data
                            if isinstance(data, bytes)
                            else b"data: " + json.dumps(data).encode() + b"\n\n"
                        )
                        if isinstance(data, dict) and "type" in data:
                            line = b"event: " + data["type"].encode() + b"\n" + line
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.write(b"0\r\n\r\n")
                except (Disconnect, OSError) as exc:
                    if isinstance(exc, OSError):
                        server.hung_up.set()
                    self.close_connection = True

            def _pieces(self, api: Any, answer: Answer) -> Iterator[Any]:
                if answer.pieces is not None:
                    yield from answer.pieces
                    return
                yield from api.begin()
                for start in range(0, len(answer.thought), server.piece):
                    yield from api.thought(answer.thought[start : start + server.piece])
                yield from api.message()
                sent = 0
                limits = (
                    answer.cut_after,
                    answer.malformed_after,
                    answer.disconnect_after,
                    answer.wait_after,
                )
                while sent < len(answer.text) or answer.forever:
                    step = server.piece
                    for limit in limits:
                        if limit is not None and sent < limit < sent + step:
                            step = limit - sent
                    text = answer.text[sent : sent + step] or "more "
                    if answer.cut_after == sent:
                        return
                    if answer.malformed_after == sent:
                        yield b'data: {"id": \n\n'
                        return
                    if answer.disconnect_after == sent:
                        raise Disconnect
                    if answer.wait_after == sent:
                        answer.gate.wait(30)
                    yield api.delta(text)
                    sent += len(text)
                    server.characters_sent += len(text)
                yield from api.end()

        return Handler


class Chat:
    def __init__(self, request: dict[str, Any], answer: Answer, number: int) -> None:
        self.request, self.answer, self.number = request, answer, number
        self.tool_calls = [
            *answer.tool_calls,
            *(
                {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
                for id, name, arguments in answer.calls
            ),
        ]
        self.reason = answer.finish or ("tool_calls" if self.tool_calls else "stop")
        if answer.thought_in == "tags" and answer.thought:
            answer.text, answer.thought = f"<think>{answer.thought}</think>\n{answer.text}", ""

    def _thought(self, text: str) -> dict[str, Any]:
        """Return the fields of a message or delta."""
        fields: dict[str, Any] = {
            "reasoning_content": text,
            "reasoning": text,
            "thinking_blocks": [{"type": "thinking", "thinking": text}],
            "content": [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}],
        }
        form = self.answer.thought_in
        names = ("reasoning", "reasoning_content") if form == "both" else (form,)
        return {name: fields[name] for name in names} if text else {}

    def thought(self, text: str) -> Iterator[Any]:
        yield self._chunk(self._thought(text))

    def message(self) -> Iterator[Any]:
        yield from ()

    def _usage(self) -> dict[str, Any]:
        return {
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "prompt_tokens_details": {"cached_tokens": self.answer.cached},
            "completion_tokens_details": {"reasoning_tokens": self.answer.reasoning},
        }

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.answer.text}
        thought = self._thought(self.answer.thought)
        if parts := thought.pop("content", None):
            message["content"] = [*parts, {"type": "text", "text": self.answer.text}]
        message |= thought
        if self.tool_calls:
            message["tool_calls"] = self.tool_calls
            message["content"] = self.answer.text or None
        return {
            "id": f"chatcmpl-{self.number}",
            "object": "chat.completion",
            "created": 1,
            "model": self.request["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": self.reason, "logprobs": None}],
            "usage": self._usage(),
        }

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.number}",
            "object": "chat.completion.chunk",
            "created": self.number,
            "model": self.request["model"],
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
        }

    def begin(self) -> Iterator[Any]:
        yield self._chunk({"role": "assistant", "content": ""})

    def delta(self, text: str) -> Any:
        return self._chunk({"content": text})

    def end(self) -> Iterator[Any]:
        for index, call in enumerate(self.tool_calls):
            inner = call.get("function")
            if inner is None:
                yield self._chunk({"tool_calls": [{"index": index, **call}]})
                continue
            arguments = inner["arguments"]
            begun = {**call, "function": {**inner, "arguments": ""}}
            yield self._chunk({"tool_calls": [{"index": index, **begun}]})
            for start in range(0, len(arguments), 5):
                piece = {"index": index, "function": {"arguments": arguments[start : start + 5]}}
                yield self._chunk({"tool_calls": [piece]})
        yield self._chunk({}, self.reason)
        if (self.request.get("stream_options") or {}).get("include_usage"):
            yield {**self._chunk({}), "choices": [], "usage": self._usage()}
        yield b"data: [DONE]\n\n"


class Responses:
    def __init__(self, request: dict[str, Any], answer: Answer, number: int) -> None:
        self.request, self.answer, self.number = request, answer, number
        if answer.thought_in == "tags" and answer.thought:
            answer.text, answer.thought = f"<think>{answer.thought}</think>\n{answer.text}", ""
        self.thoughts = [self._reasoning()] if answer.thought else []
        self.index = len(answer.items) + len(self.thoughts)
        self.sequence = 0
        self.has_message = bool(answer.text) or answer.forever or not answer.calls

    def _reasoning(self) -> dict[str, Any]:
        form, text = self.answer.thought_in, self.answer.thought
        item: dict[str, Any] = {"id": f"rs_{self.number}", "type": "reasoning", "summary": []}
        if form in ("summary", "item", "both"):
            item["summary"] = [{"type": "summary_text", "text": text}]
        if form in ("text", "both"):
            item["content"] = [{"type": "reasoning_text", "text": text}]
        return item

    def thought(self, text: str) -> Iterator[Any]:
        place = {"item_id": f"rs_{self.number}", "output_index": len(self.answer.items)}
        if self.answer.thought_in in ("text", "both"):
            yield self._event("response.reasoning_text.delta", **place, content_index=0, delta=text)
        if self.answer.thought_in in ("summary", "both"):
            yield self._event("response.reasoning_summary_text.delta", **place, summary_index=0, delta=text)

    def message(self) -> Iterator[Any]:
        for item in self.thoughts:
            place = {"output_index": len(self.answer.items)}
            yield self._event("response.output_item.done", **place, item=item)
        if self.has_message:
            begun = self._message("", "in_progress")
            yield self._event("response.output_item.added", output_index=self.index, item=begun)
            yield self._event("response.content_part.added", **self._place(), part=self._part(""))

    def _calls(self, status: str = "completed") -> list[dict[str, Any]]:
        return [
            {
                "id": f"fc_{self.number}_{id}",
                "type": "function_call",
                "call_id": id,
                "name": name,
                "arguments": arguments,
                "status": status,
            }
            for id, name, arguments in self.answer.calls
        ]

    def _output(self) -> list[dict[str, Any]]:
        message = [self._message(self.answer.text)] if self.has_message else []
        return [*self.answer.items, *self.thoughts, *message, *self._calls()]

    def _usage(self) -> dict[str, Any]:
        return {
            "input_tokens": 100,
            "output_tokens": 10,
            "total_tokens": 110,
            "input_tokens_details": {"cached_tokens": self.answer.cached},
            "output_tokens_details": {"reasoning_tokens": self.answer.reasoning},
        }

    def _message(self, text: str, status: str = "completed") -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": []}
        content = [part] if text else []
        return {
            "id": f"msg_{self.number}",
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _response(self, status: str, output: list[Any], usage: Any = None) -> dict[str, Any]:
        incomplete = {"reason": self.answer.finish} if status == "incomplete" else None
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": 1,
            "status": status,
            "incomplete_details": incomplete,
            "error": None,
            "model": self.request["model"],
            "output": output,
            "usage": usage,
            "instructions": self.request.get("instructions"),
            "metadata": self.request.get("metadata"),
            "previous_response_id": self.request.get("previous_response_id"),
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "temperature": 1,
            "top_p": 1,
        }

    def whole(self) -> dict[str, Any]:
        status = "incomplete" if self.answer.finish else "completed"
        return self._response(status, self._output(), self._usage())

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = {"type": kind, "sequence_number": self.sequence, **fields}
        self.sequence += 1
        return event

    def begin(self) -> Iterator[Any]:
        yield self._event("response.created", response=self._response("in_progress", []))
        yield self._event("response.in_progress", response=self._response("in_progress", []))
        for index, item in enumerate(self.answer.items):
            yield self._event("response.output_item.added", output_index=index, item=item)
            yield self._event("response.output_item.done", output_index=index, item=item)
        for item in self.thoughts:
            place = {"output_index": len(self.answer.items)}
            begun = {"id": item["id"], "type": "reasoning", "summary": []}
            yield self._event("response.output_item.added", **place, item=begun)

    def _place(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.number}", "output_index": self.index, "content_index": 0}

    def _part(self, text: str) -> dict[str, Any]:
        return {"type": "output_text", "text": text, "annotations": []}

    def delta(self, text: str) -> Any:
        return self._event("response.output_text.delta", **self._place(), delta=text, logprobs=[])

    def end(self) -> Iterator[Any]:
        text = self.answer.text
        if self.has_message:
            yield self._event("response.output_text.done", **self._place(), text=text, logprobs=[])
            yield self._event("response.content_part.done", **self._place(), part=self._part(text))
            yield self._event("response.output_item.done", output_index=self.index, item=self._message(text))
        begun = self._calls("in_progress")
        for number, item in enumerate(self._calls()):
            yield from self._call_events(
                self.index + self.has_message + number, {**begun[number], "arguments": ""}, item
            )
        status = "incomplete" if self.answer.finish else "completed"
        yield self._event(
            f"response.{status}", response=self._response(status, self._output(), self._usage())
        )

    def _call_events(self, index: int, begun: dict[str, Any], item: dict[str, Any]) -> Iterator[Any]:
        place = {"item_id": item["id"], "output_index": index}
        yield self._event("response.output_item.added", output_index=index, item=begun)
        for start in range(0, len(item["arguments"]), 5):
            delta = item["arguments"][start : start + 5]
            yield self._event("response.function_call_arguments.delta", **place, delta=delta)
        yield self._event(
            "response.function_call_arguments.done",
            **place,
            arguments=item["arguments"],
            name=item["name"],
        )
        yield self._event("response.output_item.done", output_index=index, item=item)
