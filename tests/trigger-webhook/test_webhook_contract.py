"""The trigger `webhook` keeps the contract of triggers."""

from __future__ import annotations

import base64
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest
from agentd_testing import TriggerContract
from standardwebhooks.webhooks import Webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


class TestWebhook(TriggerContract):
    kind = "webhook"
    wrong_options: ClassVar[Any] = ({}, {"port": 1}, {"port": 1, "secret": "whsec_dG9vIHNob3J0"})
    tells_late = False
    acknowledges = True

    @pytest.fixture(autouse=True)
    def _port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("agentd_cli.http.bounded_server._CLOSE_S", 0.2)  # for requests that wait
        with socket.create_server(("127.0.0.1", 0)) as found:
            self.port = found.getsockname()[1]

    def options(self, place: Path) -> dict[str, Any]:
        return {"port": self.port, "secret": SECRET}

    async def cause(self, place: Path, number: int) -> str:
        at, id, body = datetime.now(UTC), f"msg_{number}", f'{{"delivery": {number}}}'
        headers = {"webhook-id": id, "webhook-timestamp": str(int(at.timestamp()))}
        headers["webhook-signature"] = Webhook(SECRET).sign(id, at, body)
        async with httpx.AsyncClient(timeout=60) as client:
            answer = await client.post(f"http://127.0.0.1:{self.port}/", content=body, headers=headers)
        answer.raise_for_status()
        return body
