"""Both APIs of the model provider `openai` keep the contract of models, over a real server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import pytest
from agentd.protocols import Model
from agentd.registry import Registry
from agentd_testing import ModelContract
from fake_openai import Answer, FakeOpenAI

CALL = "Add one and two."


def _last(request: dict[str, Any]) -> Any:
    if "messages" in request:
        return request["messages"][-1]
    return request["input"][-1]


def answer(request: dict[str, Any]) -> Answer:
    """Answer with a call of `add` where that is the task, and with a sentence otherwise."""
    if _last(request).get("content") == CALL:
        return Answer(calls=[("call_1", "add", '{"a": 1, "b": 2}')])
    return Answer(text="Hello to you.")


class OpenAIModel(ModelContract):
    call_task = CALL
    name: ClassVar[str] = "m"
    api: ClassVar[Literal["chat", "responses"]] = "chat"
    request: ClassVar[dict[str, Any]] = {"max_retries": 0}

    @pytest.fixture(autouse=True)
    def server(self) -> Iterator[None]:
        """The server, for each test."""
        with FakeOpenAI() as self.fake:
            self.fake.decide = answer
            yield

    def make_model(self) -> Model:
        options = {
            "base_url": self.fake.base_url,
            "api_key": "none",
            "api": self.api,
            "request": self.request,
        }
        return Registry().open_model(self.name, options)

    def make_refused_model(self) -> Model:
        self.fake.decide = lambda _: Answer(status=401, text="no such key")
        return self.make_model()


class TestChat(OpenAIModel):
    pass


class TestResponses(OpenAIModel):
    api = "responses"
