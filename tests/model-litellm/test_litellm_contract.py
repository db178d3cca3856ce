"""The model provider `litellm` keeps the contract of models, over a real server that speaks OpenAI's API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from agentd.protocols import Model
from agentd_model_litellm.models import open_model
from agentd_testing import ModelContract
from fake_openai import Answer, FakeOpenAI

# LiteLLM reads an attribute that pydantic deprecates
pytestmark = pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
CALL = "Add one and two."


def _last(request: dict[str, Any]) -> Any:
    return request["messages"][-1]


def answer(request: dict[str, Any]) -> Answer:
    """Answer with a call of `add` where that is the task, and with a sentence otherwise."""
    if _last(request).get("content") == CALL:
        return Answer(calls=[("call_1", "add", '{"a": 1, "b": 2}')])
    return Answer(text="Hello to you.")


class TestLiteLLM(ModelContract):
    call_task = CALL

    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[None]:
        """The server, for each test."""
        with FakeOpenAI() as self.fake:
            self.fake.decide = answer
            yield

    def make_model(self) -> Model:
        address = {"api_base": self.fake.base_url, "max_retries": 0}
        return open_model("openai/m", api_key="none", options=address)

    def make_refused_model(self) -> Model:
        self.fake.decide = lambda _: Answer(status=401, text="no such key")
        return self.make_model()
