"""One question to a model: asked in a conversation of its own, its answer checked, its cost counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import anyio
import attrs
from agentd.errors import AgentdError, AnswerError, ConfigError, ToolError, ToolInputError, ToolTimeoutError
from agentd.protocols import EstimatingModel, Model, ModelFinish, ModelText, SchemaModel
from agentd.turn.reading import end_of
from agentd.turn.spending import Spending, around
from agentd.types import Usage

from agentd_subagents.purse import Purse

if TYPE_CHECKING:
    from agentd.protocols import AnswerForm

__all__ = ["ModelQuestion", "ask", "form_for"]

_TOLD: Final = (
    "\n\nYour whole answer is read by a program: it is JSON alone, without a word around it and without a fence{}"
)  # fmt: skip
_LONGEST: Final = 4 * 1024 * 1024  # characters of an answer


@attrs.frozen(kw_only=True)
class ModelQuestion:
    """What is asked. `form` is None for an answer that is text."""

    prompt: str
    system: str | None = None
    form: AnswerForm | None = None


def form_for(schema: Mapping[str, Any] | None) -> AnswerForm | None:
    """Return the form of a JSON Schema. Raises `ToolInputError` if it is none."""
    if schema is None:
        return None
    from agentd_tools.answer_form import form_of

    try:
        return form_of(schema)
    except ConfigError as error:
        raise ToolInputError(str(error)) from None


async def ask(question: ModelQuestion, model: Model, purse: Purse, *, timeout_s: float) -> Any:
    """Ask a model in which nothing was said, and return its answer: a text, or a value of the question's form.

    An answer that does not fit its form is asked for once more.

    :raises ToolError: if there is no such answer; `data` has the text that there was.
    """
    spending = around.get() or Spending()
    form = question.form
    if question.system:
        model.start(question.system)
    told = "" if form is None else _TOLD.format(_schema_of(form))
    model.add_task(question.prompt + told)
    if form is not None and isinstance(model, SchemaModel):
        model.hold_to_schema({} if form.schema is None else form.schema)
    try:
        with anyio.fail_after(timeout_s):
            text = await _answer(model, purse, spending)
            if form is None:
                return text
            if again := form.review(text):
                model.add_answer(text)
                model.add_results(again)
                text = await _answer(model, purse, spending)
            return form.read(text)
    except TimeoutError:
        raise ToolTimeoutError(f"{model.name!r} did not answer within {timeout_s:g} s") from None
    except AnswerError as error:
        raise ToolError(str(error), data={"text": error.text}) from error
    except ToolError:
        raise
    except AgentdError as error:  # the provider's refusal, say
        raise ToolError(str(error)) from error


def _schema_of(form: AnswerForm) -> str:
    return "." if not form.schema else f" that fits this JSON Schema:\n{json.dumps(form.schema)}"


async def _answer(model: Model, purse: Purse, spending: Spending) -> str:
    async with purse.pay(model, spending) as bill:
        texts: list[str] = []
        length = 0
        finish: ModelFinish | None = None
        begun = False
        try:
            async with model.stream() as events:
                begun = True
                async for event in events:
                    if isinstance(event, ModelFinish):
                        finish = event
                    elif isinstance(event, ModelText) and event.text:
                        texts.append(event.text)
                        length += len(event.text)
                        if length > _LONGEST:
                            break
        finally:
            if begun:  # a request that was refused costs nothing
                bill(_usage(model, finish, "".join(texts)))
    text = "".join(texts)
    if length > _LONGEST:
        raise ToolError(
            f"{model.name!r} answered more than {_LONGEST} characters", data={"text": text[:2000]}
        )
    end = "answer" if finish is None else end_of(finish.reason)
    if end == "cut":
        raise ToolError(f"the answer of {model.name!r} was cut off at the token limit", data={"text": text})
    if end == "refused" or (end == "provider_error" and not text):
        why = (finish and (finish.detail or finish.reason)) or ""
        raise ToolError(f"{model.name!r} refused to answer: {why}", data={"text": text})
    return text


def _usage(model: Model, finish: ModelFinish | None, text: str) -> Usage:
    if finish is not None and finish.usage.total_tokens:
        return finish.usage
    if isinstance(model, EstimatingModel):
        return model.estimate(text)
    return Usage(output_tokens=len(text) // 4, requests=1)
