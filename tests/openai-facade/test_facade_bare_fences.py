"""An answer that ends in a fence without an action, in each way of calling a patched client."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agentd_parser_fence.bare import NUDGE
from ways import WAYS, call, text_of

BARE = "I look.\n```bash\necho ran > made; echo one\n```\n"
REAL = BARE.replace("```bash", "```bash:execute")
TOLD = NUDGE.format(language="bash")
RAN = "[result 1 of 1: bash:execute, completed, exit code 0]\none\n[end of result 1]"


@pytest.mark.parametrize("choice", ["nudge", "run", "answer"])
@pytest.mark.parametrize("way", WAYS)
def test_a_patched_client_does_the_same(
    way: str, choice: str, serve: Any, patched: Any, tmp_path: Path
) -> None:
    server = serve(*{"nudge": (BARE, REAL, "Done."), "run": (BARE, "Done."), "answer": (BARE,)}[choice])
    options = [("fence", {"bare_fences": choice})]
    client = patched(server, asynchronous=way.startswith("async"), cwd=tmp_path / "work", parsers=options)
    outcome = call(way, client)
    assert text_of(way, outcome) == (BARE if choice == "answer" else "Done.")
    said = [str(r["messages" if "chat" in way else "input"][-1]["content"]) for r in server.requests]
    assert said == ["go", *{"nudge": [TOLD, RAN], "run": [RAN], "answer": []}[choice]]
    assert (tmp_path / "work" / "made").exists() == (choice != "answer")


@pytest.mark.parametrize("way", [w for w in WAYS if w.startswith("sync")])
def test_a_form_of_the_answer_is_asked_for_after_the_nudge(way: str, serve: Any, patched: Any) -> None:
    server = serve(BARE, REAL, "Here: {}", '{"a": 1}')
    client = patched(server)
    form: dict[str, Any] = {"type": "json_object"}
    more = {"response_format": form} if "chat" in way else {"text": {"format": form}}
    assert text_of(way, call(way, client, **more)) == '{"a": 1}'
    key = "messages" if "chat" in way else "input"
    said = [str(request[key][-1]["content"]) for request in server.requests]
    assert said[:3] == ["go", TOLD, RAN]
    assert "does not have the form" in said[3]
