"""A fleet on this machine, with a recorded model: needs no key and no cluster. Kill it, and start it again.

pip install "agentd[ray]>=1.0.0rc1", then: python fleet_local.py
"""

import asyncio
import sys
from pathlib import Path

from agentd import tool
from agentd_demo.replay import ReplayServer
from agentd_ray import Fleet

STORE = Path("fleet-store").absolute().as_uri()  # file:///...; all nodes of a real fleet must reach it
LOOK = "```python:execute\nfrom lib.tools import stock\nprint(stock(part='bolt'))\n```\n"
TASKS = 30
WORK = "```bash:execute\nsleep 1; echo done >> log; wc -l < log\n```\n"


@tool(where="driver")
def stock(part: str) -> int:
    """How many of a part there are."""
    return {"bolt": 12}.get(part, 0)  # called here, in this program, whichever machine asks


async def main(address: str = "local") -> None:
    print("opening the fleet; Ray takes some seconds for that")
    async with Fleet(address, store=STORE) as fleet:
        with ReplayServer([LOOK, "There are 12."], order="conversation") as model:
            options = {"base_url": model.base_url, "api_key": "none", "tools": [stock]}
            async with (
                await fleet.session("gpt-5", conversation_id="one", **options) as one,
                await fleet.session("gpt-5", conversation_id="two", **options) as two,
            ):
                for session in (one, two):
                    if not (await session.transcript()).messages:  # else it is there from the last time
                        print(session.conversation_id, (await session.ask("How many bolts?")).text)
                print("sessions:", dict((await fleet.status()).states))
        with ReplayServer([WORK, "Classified."], order="conversation") as model:
            tasks = [{"id": f"task-{number}", "task": f"Classify: {number}"} for number in range(TASKS)]
            options = {"base_url": model.base_url, "api_key": "none", "concurrency": 4}
            async for result in fleet.map(tasks, model="gpt-5", name="first-batch", **options):
                before = " (before)" if result.is_from_journal else ""
                print(f"{result.id}: {result.status}{before}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
