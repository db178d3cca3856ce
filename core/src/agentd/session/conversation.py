"""The conversation with a session's model: opened late, told what came before, told anew."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs

from agentd.errors import AnswerError, ConfigError
from agentd.protocols import OwnedModel, PreparingModel, ResettableModel, SchemaModel

if TYPE_CHECKING:
    from agentd.events import RunEnd
    from agentd.protocols import AnswerForm, Model
    from agentd.registry.options import PluginSpec
    from agentd.session.acting import Prepared
    from agentd.session.resources import SessionResources
    from agentd.turn.transcript import Transcript

__all__ = ["Conversation"]


@attrs.define(eq=False)
class Conversation:
    """The model of a session, and what it has been told.

    :param wanted: a model's name, with options perhaps, or a `Model`. One that was opened by name is closed here.
    :param options: for the provider of a model that is named.
    :param resources: have the plugins, and the `pictures` that the model is shown (agentd-images') or None.
    :param history: has `over(open_model)`, which returns a model that keeps it short (agentd-history's); pictures, too.
    """

    _wanted: PluginSpec | Model
    _options: Mapping[str, Any]
    _resources: SessionResources
    transcript: Transcript
    _history: Any = None
    _model: Model | None = attrs.field(init=False, default=None)
    prepared: Prepared | None = attrs.field(init=False, default=None)
    _started: bool = attrs.field(init=False, default=False)

    def check(self) -> None:
        """Raise `ConfigError` for what can be no model."""
        if not isinstance(self._wanted, str | tuple) and not hasattr(self._wanted, "start"):
            raise ConfigError(f"model: must be a name or a Model object, got {self._wanted!r}")
        if self._history is not None and not hasattr(self._history, "over"):
            raise ConfigError(f"history: must be a History of agentd-history, got {self._history!r}")

    @property
    def model(self) -> Model:
        """The model, opened when it is first needed."""
        if self._model is None:
            opened: Callable[[], Model] = self._open
            for layer in filter(None, (self._resources.pictures, self._history)):
                opened = partial(layer.over, opened)
            self._model = opened()
        return self._model

    def _open(self) -> Model:
        if not isinstance(self._wanted, str | tuple):
            return self._wanted
        return self._resources.registry().open_model(self._wanted, self._options)

    def tell(self, prepared: Prepared) -> Model:
        """Return the model, told everything that comes before the next task."""
        model = self.model
        if prepared is not self.prepared and prepared.offers is not None:
            if not hasattr(model, "offer"):
                raise ConfigError(
                    f"model: {type(model).__name__} has no offer(), which native tool calls need"
                )
            model.offer(prepared.offers.offered)
        self.prepared = prepared
        if not self._started:
            if prepared.instructions:
                model.start(prepared.instructions)
            self.transcript.replay(model, native=prepared.offers is not None)
            self._started = True
        return model

    def review(self, form: AnswerForm, text: str) -> str:
        """Return what the model is told about a last answer that does not have its form, or an empty string. The next
        one the provider holds to it, if it can."""
        told = form.review(text)
        if told:
            self.hold_to({} if form.schema is None else form.schema)
        return told

    def check_end(self, form: AnswerForm, end: RunEnd) -> None:
        """Raise `AnswerError` if a run did not come to an answer of its form."""
        if end.stop_reason != "answer":
            raise AnswerError(f"the run ended without one ({end.stop_reason})", end.text)
        form.read(end.text)

    def hold_to(self, schema: Mapping[str, Any] | None) -> None:
        """Have the provider hold the next answers to a schema, if it can; None ends that."""
        if isinstance(self.model, SchemaModel):
            self.model.hold_to_schema(schema)

    async def prepare(self) -> None:
        """Do what can be done before the first request."""
        if isinstance(self.model, PreparingModel):
            await self.model.prepare()

    def check_forgets(self) -> None:
        """Raise `ConfigError` for a model that cannot be told anew."""
        if not isinstance(self.model, ResettableModel):
            raise ConfigError(f"model: {type(self.model).__name__} cannot rewind: it has no reset()")

    def tell_anew(self) -> None:
        """Have the next run tell the model the transcript from its beginning. Raises as `check_forgets`."""
        self.check_forgets()
        self.model.reset()  # type: ignore[attr-defined]
        self.prepared = None
        self._started = False

    def take_back(self, why: str) -> str:
        """Take the last task back, with all that followed it, and return it. Raises as `check_forgets`."""
        self.tell_anew()
        return self.transcript.withdraw(why)

    def drop_refused(self, why: str) -> None:
        """Take a task back to which nothing was said: every later one would be refused with it."""
        if self.transcript.messages[-1].role == "task":
            with suppress(ConfigError):  # of a model that cannot forget
                self.take_back(f"not answered: {why}")

    async def aclose(self) -> None:
        """Close the model, if it was opened here."""
        if isinstance(self._model, OwnedModel) and isinstance(self._wanted, str | tuple):
            await self._model.aclose()
