"""The driver of a map, as a program that a test kills: `batch_driver.py STORE FOLDER TASKS [KEY=VALUE ...]`.

It prints a line for each result. What the tasks did outside of their workspaces stands in FOLDER/effects.
"""

from __future__ import annotations

import asyncio
import json
import sys

from agentd_ray import LocalFleet
from batch_model import BatchModel


async def main(store: str, folder: str, tasks: str, **settings: str) -> None:
    command = f"echo {{task}} >> {folder}/effects; echo {{task}} > kept"
    async with LocalFleet(
        model=lambda: BatchModel(command), executor="subprocess", tools=[], store=store, lease_s=1.0
    ) as fleet:
        run = fleet.map(
            [f"task-{number}" for number in range(int(tasks))],
            name="killed",
            concurrency=int(settings.get("concurrency", "8")),
            lease_s=1.0,
        )
        async for result in run:
            said = {"id": result.id, "text": result.text, "status": result.status, "error": result.error}
            print(json.dumps({**said, "is_from_journal": result.is_from_journal}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], **dict(word.split("=", 1) for word in sys.argv[4:])))
