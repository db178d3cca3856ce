"""An agent of pydantic-ai with code mode, for one task: reads it as JSON, and prints how it went in one line of JSON.

Runs in the environment that `tests/rivals` makes for pydantic-ai.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from pydantic_ai import Agent, capture_run_messages
from pydantic_ai.capabilities import LocalWorkspace
from pydantic_ai.exceptions import AgentRunError
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.usage import UsageLimits
from pydantic_ai_harness import CodeMode, FileSystem, Shell


async def main(order: dict[str, Any]) -> dict[str, Any]:
    """Let the agent do the task."""
    model = OpenAIChatModel("local", provider=OpenAIProvider(base_url=order["address"], api_key="none"))
    agent = Agent(
        model,
        instructions=order["instructions"],
        capabilities=[CodeMode(), FileSystem(), Shell(), LocalWorkspace(order["folder"])],
        model_settings=order["settings"],
    )
    with capture_run_messages() as messages:
        try:
            result = await agent.run(order["text"], usage_limits=UsageLimits(request_limit=order["turns"]))
            answer, reason = result.output, "end"
        except AgentRunError as error:
            answer, reason = "", type(error).__name__
    if order["verbose"]:
        print("\n".join(f"--- {message}" for message in messages))
    answers = [message for message in messages if isinstance(message, ModelResponse)]
    tokens = sum(one.usage.input_tokens + one.usage.output_tokens for one in answers)
    return {"answer": answer, "turns": len(answers), "tokens": tokens, "stop_reason": reason}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.load(sys.stdin)))))
