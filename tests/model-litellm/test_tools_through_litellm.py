"""The JSON tool loop with the model of another provider, through LiteLLM."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import openai
import pytest
from agentd_openai import patch_openai_with_mcp
from kit import add, ask, offered, results
from ways import WAYS, call, text_of

if find_spec("litellm") is None:  # only looked for: the import is agentd's, which keeps it off the network
    pytest.skip("install agentd[litellm]", allow_module_level=True)
# LiteLLM reads attributes of pydantic's that are on their way out
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_calling_offers_tools_to_another_providers_model(
    way: str, serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(ask(("add", {"a": 20, "b": 22}), ("nope", {}), text="I add."), "It is 42.")
    monkeypatch.setenv("DEEPSEEK_API_BASE", server.base_url)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "key-of-the-provider")
    kind = openai.AsyncOpenAI if way.startswith("async") else openai.OpenAI
    client: Any = patch_openai_with_mcp(kind(api_key="key-of-openai"), tools=[add])
    outcome = call(way, client, model="deepseek/somebody")
    assert text_of(way, outcome) == "It is 42."
    assert [offered(r) for r in server.requests] == [["add"]] * 2
    assert [text[:16] for _, text in results(server.requests[1])] == ["42", "UnknownToolError"]
    client.cleanup_mcp()
    if kind is openai.OpenAI:
        client.close()
