"""Patched OpenAI clients that come and go."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from endurance.model import bash, python, task
from endurance.works.sessions import add
from endurance.works.work import Work

__all__ = ["PatchedClients"]


class PatchedClients(Work):
    """A client is made, patched, asked by both APIs, streamed and not, and closed."""

    name = "patched-clients"
    pause_s = 1.0

    def once(self) -> None:
        folder = self.place.folder(f"facade-{uuid.uuid4().hex[:8]}")
        try:
            self._ask(folder)
        finally:
            shutil.rmtree(folder)

    def _ask(self, folder: Path) -> None:
        from agentd import display_events, patch_openai_with_ptc
        from openai import OpenAI

        said = task(bash("echo here"), python("from lib.tools import add\nprint(add(20, 22))"))
        with OpenAI(base_url=self.world.base_url, api_key="none") as plain:
            client = patch_openai_with_ptc(plain, cwd=folder, tools=[add])
            try:
                stream = client.responses.create(model="scripted", input=said, stream=True)
                outputs = [e.output.strip() for e in display_events(stream) if e.type == "code_execution"]
                assert outputs == ["here", "42"], outputs
                messages = [{"role": "user", "content": said}]
                whole = client.chat.completions.create(model="scripted", messages=messages)
                assert "well" in (whole.choices[0].message.content or ""), whole
            finally:
                client.close()
        self.tally.add(sessions=1, runs=2, turns=6, blocks=4, calls=2)
