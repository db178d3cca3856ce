"""Models without latency for the sides' own agent loops, below the OpenAI SDK. Standard library only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.scripted import Answer, ScriptedModel

from rivals.side import Turn

__all__ = ["Told", "counted"]


class Told(ScriptedModel):
    """Answers with what `say` was given last, one after the other. `left` is how many answers nobody asked for."""

    def __init__(self) -> None:
        super().__init__(["nothing was said"])
        self.left = 0

    def say(self, *answers: Answer) -> None:
        """Give the answers of the next run."""
        self._script = list(answers)
        self._at = 0
        self.left = len(answers)

    def _reply(self, http: Any, body: dict[str, Any]) -> Any:
        if not self.left:
            raise RuntimeError("the agent asked once more than there are answers")
        self.left -= 1
        return super()._reply(http, body)


def counted(
    model: ScriptedModel, run: Callable[[], Awaitable[object]], script: Sequence[Answer]
) -> Callable[[], Awaitable[Turn]]:
    """Return one run of an agent that must ask its model once for each answer of the script."""

    async def turn() -> Turn:
        requests, sent = model.requests, model.sent_bytes
        await run()
        made = model.requests - requests
        if made != len(script):
            raise RuntimeError(
                f"the agent asked its model {made} times, the script has {len(script)} answers"
            )
        return Turn(made, model.sent_bytes - sent)

    return turn
