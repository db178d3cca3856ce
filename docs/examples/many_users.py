"""Each of many users has a workspace, a sandbox and a conversation."""

import asyncio
from collections import defaultdict
from hashlib import sha256
from pathlib import Path

from agentd import Budgets, Session, Transcript

USERS = Path("users")
LIMITS = Budgets(max_turns=10, max_tokens=100_000, wall_time_s=120)
turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)


async def answer(user: str, task: str) -> str:
    """Go on with a user's conversation; one task of theirs runs at a time."""
    home = USERS / sha256(user.encode()).hexdigest()  # a name is no path
    said = home / "transcript.json"  # outside of what code can read
    async with turns[user]:
        home.mkdir(parents=True, exist_ok=True)
        session = Session(
            "gpt-4.1",
            executor="native",
            cwd=home / "workspace",
            transcript=Transcript.load(said) if said.exists() else None,
            budgets=LIMITS,
        )
        async with session:
            try:
                return (await session.ask(task)).text
            finally:
                session.transcript.save(said)


async def main() -> None:
    hers, his = await asyncio.gather(
        answer("ada", "Write your name to name.txt."),
        answer("../ada", "Which files are there?"),
    )
    print(hers, his, sep="\n")


if __name__ == "__main__":
    asyncio.run(main())
