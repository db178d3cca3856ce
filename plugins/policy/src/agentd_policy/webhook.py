"""`WebhookApprover`: posts a question to an address and takes the response for the answer. Nothing listens here."""

from __future__ import annotations

import json
from typing import Any, Final

from agentd.errors import AgentdError, ConfigError

from agentd_policy.questions import ApproverAnswer, Question

__all__ = ["WebhookApprover", "WebhookFailedError", "body_about"]

MAX_ANSWER_BYTES: Final = 64 * 1024
CONNECT_S: Final = 20.0


class WebhookFailedError(AgentdError):
    """A webhook has answered, but with nothing that is an answer."""


class WebhookApprover:
    """Posts `{"id", "kind", "name", "source", "arguments", "details", "why", "workspace"}` as JSON and waits for a
    response 200 with `{"answer": "once" | "session" | "always" | "deny", "reason": "..."}`, as long as the question
    lasts. Anything else is a no. Redirects are not followed.

    :param url: where to; `https`, or `http` on this machine or in a network that you trust.
    :param token: sent as a bearer token, so that the other side knows who asks.
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        if not url.startswith(("https://", "http://")):
            raise ConfigError(
                f"approver: the webhook's url must begin with https:// or http://, got {url!r:.80}"
            )
        self._url = url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}

    async def ask(self, question: Question) -> ApproverAnswer:
        """Ask and wait for the response. Raises what httpx does if there is none."""
        try:
            return await self.post(body_about(question))
        except WebhookFailedError as error:
            return ApproverAnswer(False, reason=str(error))

    async def post(self, body: dict[str, Any]) -> ApproverAnswer:
        """Post a question as JSON and wait for the answer. Raises `WebhookFailedError`, or what httpx does."""
        import httpx

        time_out = httpx.Timeout(None, connect=CONNECT_S)  # the question has one of its own
        async with (
            httpx.AsyncClient(timeout=time_out, follow_redirects=False, headers=self._headers) as client,
            client.stream("POST", self._url, json=body) as response,
        ):
            if response.status_code != 200:
                raise WebhookFailedError(f"the webhook answered with status {response.status_code}")
            content = b""
            async for part in response.aiter_bytes():
                content += part
                if len(content) > MAX_ANSWER_BYTES:
                    raise WebhookFailedError("the webhook's answer is too long")
        return _read(content)


def body_about(question: Question) -> dict[str, Any]:
    """Return what a webhook is told of a question."""
    return {
        "id": question.id,
        "kind": question.kind,
        "name": question.name,
        "source": question.source,
        "arguments": question.arguments() if question.kind == "tool" else None,
        "details": question.details(),
        "why": question.why,
        "workspace": str(question.workspace),
    }


def _read(content: bytes) -> ApproverAnswer:
    try:
        said = json.loads(content)
        answer, reason = said["answer"], str(said.get("reason", ""))
        if answer == "deny":
            return ApproverAnswer(False, reason=reason[:1000])
        return ApproverAnswer.of(answer)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise WebhookFailedError(
            "the webhook's answer is not {'answer': 'once', 'session', 'always' or 'deny'}"
        ) from None
