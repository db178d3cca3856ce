"""The driver of a map over a cluster, as a program that a test kills: `fleet_driver.py ADDRESS STORE FOLDER TASKS`.

It prints a line for each result. What the tasks did outside of their workspaces stands in FOLDER/effects.
"""

from __future__ import annotations

import asyncio
import json
import sys

import batch_model
from agentd_ray import Fleet
from batch_model import BatchModel


async def main(address: str, store: str, folder: str, tasks: str) -> None:
    command = f"echo {{task}} >> {folder}/effects; echo {{task}} > kept"
    async with Fleet(address, store=store, executor="subprocess", modules=[batch_model], per_host=8) as fleet:
        run = fleet.map(
            [f"task-{number}" for number in range(int(tasks))],
            name="killed",
            model=lambda: BatchModel(command),
            tools=[],
            lease_s=1.0,
        )
        async for result in run:
            said = {"id": result.id, "text": result.text, "status": result.status, "error": result.error}
            print(json.dumps({**said, "is_from_journal": result.is_from_journal}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
