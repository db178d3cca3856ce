"""`ModelContract`: what every model provider's conversations promise, as tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from typing import ClassVar

import anyio
import pytest
from agentd.errors import ModelError
from agentd.protocols import (
    EstimatingModel,
    Model,
    ModelEvent,
    ModelFinish,
    ModelText,
    ModelToolCall,
    OwnedModel,
    PreparingModel,
    ResettableModel,
    ToolOffer,
    ToolResult,
)
from agentd.types import Usage

__all__ = ["ModelContract"]

ADD = ToolOffer(
    name="add",
    description="Add two numbers.",
    parameters={"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}},
)
LIMIT_S = 60


class ModelContract:
    """Subclass it and say how a conversation is opened:

        class TestMyModel(ModelContract):
            call_task = 'call add {"a": 1, "b": 2}'

            def make_model(self):
                return MyModel("acme-1")

    `call_task` is a task that the model answers with a call of the tool `add`; leave it empty for a model that calls
    no tools natively. `make_refused_model` may return a model whose provider refuses the first request.
    """

    task: ClassVar[str] = "Say hello."
    call_task: ClassVar[str] = ""

    def make_model(self) -> Model:
        """Return a new conversation."""
        pytest.fail("override make_model() in the subclass", pytrace=False)

    def make_refused_model(self) -> Model | None:
        """Return a conversation whose first request is refused, or None if there is none such."""
        return None

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        """Both event loops: a session may run on either."""
        backend = request.param
        assert isinstance(backend, str)
        return backend

    # --- what the tests do ---------------------------------------------------------------------------

    def begun(self, task: str) -> Model:
        """Return a new conversation with a task."""
        model = self.make_model()
        model.start("You are being tested.")
        model.add_task(task)
        return model

    async def answer(self, model: Model) -> list[ModelEvent]:
        """Ask for the next answer and return its events."""
        if isinstance(model, PreparingModel):
            await model.prepare()
        with anyio.fail_after(LIMIT_S):
            async with model.stream() as events:
                return [event async for event in events]

    async def close(self, model: Model) -> None:
        """Close what the model holds."""
        if isinstance(model, OwnedModel):
            with anyio.fail_after(15, shield=True):
                await model.aclose()

    # --- the promises --------------------------------------------------------------------------------

    def test_opening_one_starts_nothing_and_it_has_a_name(self) -> None:
        before = set(threading.enumerate())  # of which some may end meanwhile: other tests were here
        model = self.make_model()
        assert isinstance(model.name, str)
        assert model.name, "a model needs a name: events and prices go by it"
        assert set(threading.enumerate()) <= before, "nothing may start before the first request"

    def test_it_has_what_a_session_calls(self) -> None:
        model = self.make_model()
        wanted = ["start", "add_task", "stream", "add_answer", "add_results"]
        if self.call_task:
            wanted += ["offer", "add_tool_results"]
        lacking = [name for name in wanted if not callable(getattr(model, name, None))]
        assert lacking == [], f"a model has {', '.join(wanted)}"

    @pytest.mark.anyio
    async def test_an_answer_is_text_with_exactly_one_end(self) -> None:
        model = self.begun(self.task)
        try:
            events = await self.answer(model)
            assert all(isinstance(e, ModelText | ModelToolCall | ModelFinish) for e in events)
            assert _text(events), "the answer has no text"
            assert all(isinstance(e.text, str) for e in events if isinstance(e, ModelText))
            (finish,) = [e for e in events if isinstance(e, ModelFinish)]
            assert isinstance(finish.reason, str)
            assert finish.reason, "say why the answer ended: `stop`, `length`, ..."
            assert isinstance(finish.usage, Usage)
            assert finish.usage.requests == 1, "an answer is one request: count it in `usage.requests`"
        finally:
            await self.close(model)

    @pytest.mark.anyio
    async def test_the_conversation_goes_on_with_results(self) -> None:
        model = self.begun(self.task)
        try:
            text = _text(await self.answer(model))
            model.add_answer(text)
            model.add_results(
                "[result 1 of 1: bash:execute, completed, exit code 0]\nhello\n[end of result 1]"
            )
            again = await self.answer(model)
            assert [e for e in again if isinstance(e, ModelFinish)], "the second answer did not end"
            model.add_answer(_text(again))
            model.add_task(self.task)
            assert _text(await self.answer(model)), "a second task was not answered"
        finally:
            await self.close(model)

    @pytest.mark.anyio
    async def test_an_answer_can_be_left_early_and_the_conversation_goes_on(self) -> None:
        """A session leaves when prose follows a block: what the model would go on to say is a guess."""
        model = self.begun(self.task)
        try:
            said = ""
            with anyio.fail_after(LIMIT_S):
                async with model.stream() as events:
                    async for event in events:
                        if isinstance(event, ModelText) and event.text:
                            said = event.text
                            break
            assert said
            if isinstance(model, EstimatingModel):
                assert isinstance(model.estimate(said), Usage)
            model.add_answer(said)
            model.add_results("[result 1 of 1: bash:execute, completed, exit code 0]\n[end of result 1]")
            assert [e for e in await self.answer(model) if isinstance(e, ModelFinish)]
        finally:
            await self.close(model)

    @pytest.mark.anyio
    async def test_native_calls_are_whole_and_their_results_go_back(self) -> None:
        if not self.call_task:
            pytest.skip("this model calls no tools natively; set `call_task` if it does")
        model = self.begun(self.call_task)
        try:
            model.offer([ADD])
            events = await self.answer(model)
            calls = _calls(events)
            assert calls, f"{self.call_task!r} gave no call of a tool"
            for call in calls:
                assert call.name == ADD.name
                assert call.id, "a call needs an id: its result names it"
                json.loads(call.arguments or "{}")
            assert len({call.id for call in calls}) == len(calls), "two calls of an answer share an id"
            model.add_answer(_text(events), calls)
            model.add_tool_results([ToolResult(call_id=call.id, output="3") for call in calls])
            assert [e for e in await self.answer(model) if isinstance(e, ModelFinish)]
        finally:
            await self.close(model)

    @pytest.mark.anyio
    async def test_a_model_that_was_reset_begins_anew(self) -> None:
        model = self.begun(self.task)
        try:
            if not isinstance(model, ResettableModel):
                pytest.skip("this model has no reset(): its sessions cannot go back to a checkpoint")
            model.add_answer(_text(await self.answer(model)))
            model.reset()
            model.start("You are being tested.")
            model.add_task(self.task)
            assert _text(await self.answer(model))
        finally:
            await self.close(model)

    @pytest.mark.anyio
    async def test_a_refusal_is_a_model_error_with_a_message(self) -> None:
        model = self.make_refused_model()
        if model is None:
            pytest.skip("override make_refused_model() to test what a refusal raises")
        try:
            model.start("")
            with pytest.raises(ModelError) as caught:
                await self.answer(model)
            assert model.name in str(caught.value), "say which model refused"
        finally:
            await self.close(model)

    @pytest.mark.anyio
    async def test_closing_works_twice_and_without_a_request(self) -> None:
        model = self.make_model()
        await self.close(model)
        await self.close(model)


def _text(events: Sequence[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, ModelText))


def _calls(events: Sequence[ModelEvent]) -> list[ModelToolCall]:
    return [event for event in events if isinstance(event, ModelToolCall)]
