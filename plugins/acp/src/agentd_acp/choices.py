"""Choices: what a person may choose for a session in an editor's menus, and has chosen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal, Protocol

from acp.schema import (
    SessionConfigOptionSelect,
    SessionConfigSelectOption,
    SessionMode,
    SessionModeState,
)
from agentd.errors import ConfigError, suggest

from agentd_acp.modes import PolicyModes

__all__ = ["MODE", "MODEL", "choose_mode", "choose_option", "options_of", "state_of"]

MODE: Final = "mode"
MODEL: Final = "model"


class Choosing(Protocol):
    """A session, as far as it is about choices."""

    modes: PolicyModes

    @property
    def model(self) -> str:
        """The name of the model."""

    @property
    def models(self) -> list[str]:
        """The models that there are to choose from."""

    async def choose_model(self, name: str) -> None:
        """Go on with another model."""


def state_of(session: Choosing) -> dict[str, Any]:
    """Return what an editor is told of a session's choices when it is opened: modes as older ones know them, and
    options, which replace them."""
    modes = SessionModeState(
        current_mode_id=session.modes.current,
        available_modes=[
            SessionMode(id=one.id, name=one.name, description=one.about) for one in session.modes.listed
        ],
    )
    return {"modes": modes, "config_options": options_of(session)}


def options_of(session: Choosing) -> list[Any]:
    """Return a session's options with their current values; the model is one if there are several."""
    modes = [
        SessionConfigSelectOption(value=one.id, name=one.name, description=one.about)
        for one in session.modes.listed
    ]
    made = [_select(MODE, "Permissions", "What may be done unasked.", session.modes.current, modes)]
    if len(models := session.models) > 1:
        named = [SessionConfigSelectOption(value=name, name=name) for name in models]
        made.append(_select(MODEL, "Model", "The model of this conversation.", session.model, named))
    return made


def _select(
    id: Literal["mode", "model"],
    name: str,
    about: str,
    current: str,
    options: list[SessionConfigSelectOption],
) -> Any:
    return SessionConfigOptionSelect(
        id=id,
        name=name,
        description=about,
        category=id,
        type="select",
        current_value=current,
        options=options,
    )


def choose_mode(session: Choosing, id: object) -> None:
    """Choose a policy. Raises `ConfigError` for one that there is not."""
    session.modes.current = _one_of("mode", id, [one.id for one in session.modes.listed])


async def choose_option(session: Choosing, id: str, value: object) -> None:
    """Choose a policy or a model. Raises `AgentdError` for what there is not, and if a model cannot be had."""
    if id == MODE:
        choose_mode(session, value)
    elif id == MODEL and len(session.models) > 1:
        await session.choose_model(_one_of("model", value, session.models))
    else:
        known = [option.id for option in options_of(session)]
        raise ConfigError(
            f"configId: there is no option {id!r:.80}; there are: {', '.join(map(repr, known))}"
        )


def _one_of(what: str, value: object, known: Iterable[str]) -> str:
    known = list(known)
    if not isinstance(value, str) or value not in known:
        hint = suggest(value, known) if isinstance(value, str) else ""
        raise ConfigError(f"{what}: must be one of {', '.join(map(repr, known))}, got {value!r:.80}{hint}")
    return value
