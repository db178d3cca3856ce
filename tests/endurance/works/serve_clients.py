"""Clients of `agentd serve`: whole and streamed, in sessions and without, and some that go away in the middle."""

from __future__ import annotations

import json
import socket
from typing import Any
from urllib.parse import urlsplit

from endurance.model import bash, python, task
from endurance.works.work import Work

__all__ = ["ServeClients"]

SESSIONS = 6
CHAIN = 4


class ServeClients(Work):
    """An OpenAI client for each piece: a session, a chain of responses, a stream, and a socket that hangs up."""

    name = "serve-clients"
    lane = "serve"
    needs = ("serve",)
    pause_s = 1.0

    def once(self) -> None:
        from openai import OpenAI

        self.number += 1
        url = self.place.programs["serve"].address
        with OpenAI(base_url=url, api_key="none", max_retries=5) as client:
            self._in_a_session(client)
            self._in_a_chain(client)
            self._streamed(client)
        self._goes_away(url)
        self.tally.add(clients=2)

    def _in_a_session(self, client: Any) -> None:
        name = f"s{self.number % SESSIONS}"
        said = [
            {
                "role": "user",
                "content": task(bash("n=$(cat n 2>/dev/null || echo 0); echo $((n + 1)) > n; cat n")),
            }
        ]
        done = client.chat.completions.create(
            model="scripted", messages=said, extra_headers={"X-Agentd-Session": name}
        )
        assert "well" in done.choices[0].message.content, done
        self.tally.add(runs=1, turns=2, blocks=1)

    def _in_a_chain(self, client: Any) -> None:
        previous = None
        for number in range(CHAIN):
            code = python(f"from pathlib import Path\nprint(Path('n').write_text('{number}'))")
            more = {} if previous is None else {"previous_response_id": previous}
            done = client.responses.create(model="scripted", input=task(code), **more)
            assert "well" in done.output_text, done
            previous = done.id
        client.responses.delete(previous)
        self.tally.add(runs=CHAIN, turns=2 * CHAIN, blocks=CHAIN)

    def _streamed(self, client: Any) -> None:
        said = [{"role": "user", "content": task("I look.\n\n" + bash("seq 300"))}]
        stream = client.chat.completions.create(model="scripted", messages=said, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
        assert text.endswith("well"), text
        self.tally.add(runs=1, turns=2, blocks=1)

    def _goes_away(self, url: str) -> None:
        parts = urlsplit(url)
        body = {"model": "scripted", "stream": True}
        body["messages"] = [{"role": "user", "content": task("I wait.\n\n" + bash("sleep 876543"))}]
        data = json.dumps(body).encode()
        head = f"POST {parts.path}/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
        assert parts.hostname is not None
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=60) as opened:
            opened.sendall(head.encode() + data)
            opened.recv(4096)
        self.tally.add(hung_up=1)
