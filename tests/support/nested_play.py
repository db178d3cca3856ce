"""A server that plays a run, the agents that its code starts, and the models that are asked beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentd.session.session import Session
from agentd_subagents import models_from_code
from agentd_subagents.agents import TOLD
from fake_openai import Answer, FakeOpenAI

__all__ = ["PRICES", "Play", "block", "only_output", "opened"]

PRICES = dict.fromkeys(("m", "cheap", "strong"), (1.0, 20_000.0))
"""With the server's 100 + 10 tokens, an answer costs 0.2 dollars, next to nothing of it for what was sent."""


def block(code: str) -> str:
    """An answer that runs some Python."""
    return f"```python:execute\n{code}\n```\n"


class Play(FakeOpenAI):
    """Answers by what it is asked.

    :param code: what the run's first block does; its second answer is `done`.
    :param agent: answers an agent, for its task and how many results it has had.
    :param question: answers a question that is neither's.
    """

    def __init__(
        self,
        code: str,
        *,
        agent: Callable[[str, int], Any] = lambda task, results: "nothing",
        question: Callable[[str], Any] = lambda prompt: f"about {prompt}",
    ) -> None:
        super().__init__()
        self.code, self.agent, self.question = code, agent, question
        self.decide = self._decide

    def _decide(self, request: dict[str, Any]) -> Answer:
        messages = request["messages"]
        system = str(messages[0]["content"]) if messages[0]["role"] == "system" else ""
        said = [m["content"] for m in messages if m["role"] == "user"]
        if TOLD in system:
            found = self.agent(said[0], sum(m["role"] == "assistant" for m in messages))
        elif "python:execute" in system or request.get("tools"):
            found = block(self.code) if len(said) == 1 else "done"
        else:
            found = self.question(said[-1])
        return Answer(text=found) if isinstance(found, str) else found

    def asked(self, model: str) -> list[dict[str, Any]]:
        """Return what this model was asked."""
        return [request for request in self.requests if request["model"] == model]


def opened(server: FakeOpenAI, cwd: Path, *, models: Any = None, **settings: Any) -> Session:
    """Return a session over the server, to be opened. `models` are arguments of `models_from_code`."""
    given: dict[str, Any] = {"executor": "subprocess", "tools": [], "prices": PRICES, **settings}
    given["tools"] = [*given["tools"], models_from_code(**(models or {}))]
    return Session("m", cwd=cwd, base_url=server.base_url, api_key="none", **given)


async def only_output(session: Session) -> str:
    """Run the session's one task, and return what its one block has printed."""
    async with session:
        await session.ask("go")
    (execution,) = session.transcript.executions
    return execution.output
