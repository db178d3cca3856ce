"""Conversations that code asks for: over the run's own client, or one client for each other provider."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Final, Protocol, cast, runtime_checkable

from agentd.errors import AgentdError, ToolError, ToolInputError, suggest
from agentd.protocols import Model, OwnedModel
from anyio.lowlevel import RunVar

from agentd_subagents.settings import NestingSettings

__all__ = ["ApartModel", "ModelOpener"]

_numbers: Final = itertools.count(1)


@runtime_checkable
class ApartModel(Protocol):
    """What a model also has if others may be asked beside it, over its client, which it goes on owning."""

    name: str
    apart: Callable[..., Model] | None
    """`apart(name="", *, max_tokens=None, streamed=True)`: another conversation, with this or another model."""


class ModelOpener:
    """Opens conversations with the models that code may name. What it opens itself is closed by `aclose`."""

    def __init__(self, settings: NestingSettings) -> None:
        self._settings = settings
        self._opened: RunVar[dict[str, Model]] = RunVar(f"agentd_subagents_{next(_numbers)}")

    def open(
        self, wanted: str | None, run: Any, registry: Any, *, max_tokens: int | None = None, streamed: bool
    ) -> Model:
        """Return a conversation in which nothing was said; to be closed with `done`.

        :param wanted: as the code names it; None for the default.
        :param run: the run for which it is.
        :raises ToolError: if the code may not name it, or it cannot be opened.
        """
        name = self._settings.default if wanted is None else wanted
        if name not in self._settings.choices and (name or wanted):
            known = ", ".join(map(repr, self._settings.choices)) or "none"
            raise ToolInputError(
                f"model: {name!r} is not one that this session lets code ask; there are: {known}"
                f"{suggest(name, self._settings.choices)}"
            )
        try:
            first, as_name = self._first(name, run, registry)
            apart = getattr(first, "apart", None)
            if apart is not None:
                return cast(Model, apart(as_name, max_tokens=max_tokens, streamed=streamed))
            if first is run.model:
                raise ToolError(
                    f"model: {first.name!r} cannot be asked beside the run; the session's owner names a model: "
                    "models_from_code(model=...)"
                )
            if max_tokens is not None:
                raise ToolInputError(f"max_tokens: the provider of {first.name!r} does not take it here")
            self._opened.get().pop(name)  # it is one conversation: the next one has to be opened
            return first
        except ToolError:
            raise
        except AgentdError as error:
            raise ToolError(f"model: {name!r} cannot be asked: {error}") from error

    def _first(self, name: str, run: Any, registry: Any) -> tuple[Model, str]:
        """Return a model that opens others, and the name by which it knows the wanted one."""
        spec = self._settings.choices.get(name, "")
        own = run.model
        if isinstance(spec, str) and getattr(own, "apart", None) is not None and not _is_elsewhere(spec, own):
            return own, spec
        if not name:
            return own, ""
        opened: dict[str, Model] = self._opened.get({})
        self._opened.set(opened)
        if name not in opened:
            opened[name] = registry.open_model(spec, {})
        return opened[name], ""

    def is_kept(self, model: Model) -> bool:
        """Tell whether a model is one that opens others, and is closed with the session."""
        return any(model is kept for kept in self._opened.get({}).values())

    async def done(self, model: Model) -> None:
        """Close a conversation, if it has something of its own."""
        if isinstance(model, OwnedModel) and not self.is_kept(model):
            await model.aclose()

    async def aclose(self) -> None:
        """Close the clients of other providers."""
        opened: dict[str, Model] = self._opened.get({})
        while opened:
            _, model = opened.popitem()
            if isinstance(model, OwnedModel):
                await model.aclose()


def _is_elsewhere(name: str, own: Model) -> bool:
    """Tell whether a name belongs to another provider than the run's model does."""
    for bare in ("claude-", "gemini-"):
        if name.startswith(bare):
            return not own.name.startswith(bare)
    return "/" in name and "/" not in own.name
