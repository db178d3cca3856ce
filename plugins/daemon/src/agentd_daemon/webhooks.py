"""A webhook that is asked what the daemon's journal asks: as long as nobody has answered, over failures, too."""

from __future__ import annotations

import json
import logging
from typing import Any

import anyio
from agentd_policy.questions import ApproverAnswer, readable
from agentd_policy.webhook import WebhookApprover
from agentd_tools.backoff import Backoff

from agentd_daemon.journal import JournalledQuestion

__all__ = ["ask_webhook", "body_of"]

log = logging.getLogger("agentd.daemon")


async def ask_webhook(webhook: WebhookApprover, body: dict[str, Any], agent: str) -> ApproverAnswer:
    """Post a question until there is an answer. One that fails says nothing: somebody else may still answer."""
    backoff = Backoff(first_s=1.0, longest_s=300.0)
    while True:
        try:
            return await webhook.post(body)
        except Exception as error:  # a stranger's server
            text = str(error) or type(error).__name__
            log.warning("%s: the webhook has not answered the question %s: %s", agent, body["id"], text)
        await anyio.sleep(backoff.next_s())


def body_of(question: JournalledQuestion) -> dict[str, Any]:
    """Return what a webhook is told of a question whose call is gone: what the journal has."""
    arguments: object = None
    if question.kind == "tool":
        try:
            arguments = json.loads(question.arguments)
        except (ValueError, RecursionError):  # or cut
            arguments = question.arguments
    return {
        "id": question.id,
        "kind": question.kind,
        "name": question.name,
        "source": question.source,
        "arguments": arguments,
        "details": readable(question.arguments, 4000),
        "why": question.why,
        "workspace": question.workspace,
    }
