"""Methods that docs/facade.md says are passed through: a patched client asks what a bare one asks, and nothing more."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import openai
import pytest
from agentd_openai import patch_openai_with_ptc

GO: Any = [{"role": "user", "content": "go"}]
RUN = {"thread_id": "thread_1", "assistant_id": "asst_1"}
# What makes a model answer, beside what is patched; and what begins that for later.
PASSED: dict[str, dict[str, Any]] = {
    "completions.create": {"model": "m", "prompt": "go"},
    "responses.compact": {"model": "m", "input": "go"},
    "responses.retrieve": {"response_id": "resp_1"},
    "responses.cancel": {"response_id": "resp_1"},
    "responses.input_tokens.count": {"model": "m", "input": "go"},
    "beta.responses.create": {"model": "m", "input": "go"},
    "beta.responses.compact": {"model": "m", "input": "go"},
    "beta.threads.create_and_run": {"assistant_id": "asst_1"},
    "beta.threads.runs.create": RUN,
    "batches.create": {"completion_window": "24h", "endpoint": "/v1/responses", "input_file_id": "file_1"},
    "evals.runs.create": {"eval_id": "eval_1", "data_source": {"type": "completions", "model": "m"}},
    "fine_tuning.jobs.create": {"model": "m", "training_file": "file_1"},
    "images.generate": {"prompt": "go"},
    "audio.speech.create": {"model": "m", "input": "go", "voice": "alloy"},
    "audio.transcriptions.create": {"model": "m", "file": ("a.wav", b"RIFF")},
    "videos.create": {"prompt": "go"},
    "moderations.create": {"input": "go"},
    "realtime.client_secrets.create": {},
    "embeddings.create": {"model": "m", "input": "go"},
    "chat.completions.retrieve": {"completion_id": "c_1"},
}
CELLS = [(kind, name) for kind in ("sync", "async") for name in PASSED]


@attrs.frozen
class Recorded:
    """A server that answers the same to all, and the requests that it was sent."""

    url: str
    requests: list[tuple[str, str, Any]]


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    requests: list[tuple[str, str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            is_json = "json" in (self.headers.get("Content-Type") or "")
            requests.append((self.command, self.path, json.loads(body) if is_json and body else len(body)))
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            made = json.dumps({"id": "x", "object": "y", "status": "completed", "data": data, "output": []})
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(made)))
            self.end_headers()
            self.wfile.write(made.encode())

        do_GET = do_POST = answer

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield Recorded(f"http://127.0.0.1:{server.server_address[1]}/v1", requests)
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, kind: str, name: str, workspace: Path | None) -> Any:
    """Call a method of a new client, patched if there is a workspace; return the type of what it gave."""
    make = openai.OpenAI if kind == "sync" else openai.AsyncOpenAI
    client: Any = make(base_url=url, api_key="none", max_retries=0)
    if workspace is not None:
        patch_openai_with_ptc(client, cwd=workspace, executor="subprocess", tools=[])
    method = client
    for part in name.split("."):
        method = getattr(method, part, None)
    if method is None:
        pytest.skip(f"openai {openai.__version__} has no {name}")

    async def wait() -> Any:
        async with client:
            made = method(**PASSED[name])
            return await made if inspect.isawaitable(made) else made

    if kind == "async":
        made = asyncio.run(wait())
    else:
        with client:
            made = method(**PASSED[name])
    if workspace is not None:
        client.cleanup_ptc()
    return type(made)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:")  # which the SDK has for some of its methods
@pytest.mark.parametrize(("kind", "name"), CELLS)
def test_a_patched_client_asks_what_a_bare_one_asks(
    kind: str, name: str, recorded: Recorded, tmp_path: Path
) -> None:
    given = [ask(recorded.url, kind, name, place) for place in (None, tmp_path)]
    assert given[0] is given[1]
    bare, patched = recorded.requests
    if name != "audio.transcriptions.create":  # its body has a boundary that is made up
        assert bare == patched
    assert bare[:2] == patched[:2]
    assert "You act by writing code" not in str(patched)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("name", ["responses.connect", "realtime.connect", "beta.realtime.connect"])
def test_what_speaks_over_a_socket_is_the_sdks_own(name: str, kind: str, tmp_path: Path) -> None:
    make = openai.OpenAI if kind == "sync" else openai.AsyncOpenAI
    bare: Any = make(api_key="none")
    patched: Any = patch_openai_with_ptc(make(api_key="none"), cwd=tmp_path, executor="subprocess", tools=[])
    methods = []
    for method in (bare, patched):
        for part in name.split("."):
            method = getattr(method, part, None)
        methods.append(method)
    if methods[0] is None:
        pytest.skip(f"openai {openai.__version__} has no {name}")
    assert methods[0].__func__ is methods[1].__func__
    patched.cleanup_ptc()
    if kind == "sync":
        bare.close()
        patched.close()
