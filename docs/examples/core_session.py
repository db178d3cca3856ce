"""The core API: a session on asyncio. On trio, `trio.run(main)` runs the same function."""

import asyncio
import math

from agentd import Session


def square_root(number: float) -> float:
    """The square root of a number.

    number: must not be negative
    """
    return math.sqrt(number)


async def main() -> None:
    async with Session("gpt-4.1", cwd="./workspace", tools=[square_root]) as session:
        async for event in session.run("List the files, then calculate the square root of 144."):
            match event.type:
                case "text_delta":
                    print(event.text, end="", flush=True)
                case "code_output":
                    print(event.text, end="", flush=True)  # while the code runs
                case "code_execution":
                    print(f"[{event.target}: exit code {event.exit_code}]")
                case "run_end":
                    print(f"\n{event.stop_reason} after {event.turns} turns")
        print(f"{session.usage.total_tokens} tokens, {len(session.transcript.executions)} blocks")


if __name__ == "__main__":
    asyncio.run(main())
