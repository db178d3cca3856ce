"""`models_from_code`: how a session's owner says what code may ask of models and of agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs
from agentd.errors import ConfigError
from agentd.registry.options import check_options, split_spec
from agentd.types import Budgets

from agentd_subagents.settings import NestingSettings

if TYPE_CHECKING:
    from agentd.registry.options import PluginSpec

__all__ = ["ModelsFromCode", "models_from_code", "read_settings"]

_OPTIONS: Final = {
    "model": object,
    "models": list | dict,
    "depth": int,
    "width": int,
    "parallel": int,
    "timeout_s": float,
    "budgets": object,
    "executor": object,
    "executor_options": dict | None,
    "copy_mib": int,
    "instructions": str,
}
_LEAST: Final = {"depth": 0, "width": 1, "parallel": 1, "copy_mib": 1}


@attrs.frozen(kw_only=True)
class ModelsFromCode(NestingSettings):
    """What `models_from_code` returns. A session makes a tool source of it; several sessions may have the same one."""

    async def sampling(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer an MCP server that asks for a model's answer: `{"command": ..., "sampling": models.sampling}`.

        The default model is asked, on the budget of the run whose code has called the server.
        """
        from agentd_subagents.sampling import answer_server

        return await answer_server(self, request)


def models_from_code(
    model: PluginSpec | None = None,
    *,
    models: Sequence[str] | Mapping[str, PluginSpec] = (),
    depth: int = 1,
    width: int = 8,
    parallel: int = 32,
    timeout_s: float = 300.0,
    budgets: Budgets | Mapping[str, Any] | None = None,
    executor: PluginSpec | None = None,
    executor_options: Mapping[str, Any] | None = None,
    copy_mib: int = 1024,
    instructions: str = "",
) -> ModelsFromCode:
    """Let a session's code ask models and start agents: `Session(..., tools=[models_from_code(model="cheap")])`.

    The code then has `ask_model`, `ask_models`, `spawn_agent` and `spawn_agents`. What they spend is part of the run's
    budget; the session's policy is asked about each call, and about what an agent does in turn.

    :param model: what is asked if the code names no model: a name, or a pair of a name and options of its provider
        (`base_url`, `api_key`, `api`, `prices`, `request`). A name alone is asked over the run's own client. By default
        the run's own model.
    :param models: others that the code may name: a list of names, or a mapping of the code's name to name and options.
    :param depth: how deep agents may start agents: 1 if none of them may, 0 for no agents at all.
    :param width: how many agents of one session or agent run at once; the others wait.
    :param parallel: how many questions are under way at once, whoever asks them; the others wait.
    :param timeout_s: seconds that one question may take.
    :param budgets: what each agent may use at most. No agent gets more than the run that starts it has left.
    :param executor: what runs the agents' code; by default what runs that of the session.
    :param executor_options: its options, if it is given, else further ones, which win over the session's.
    :param copy_mib: MiB of a workspace that is copied for an agent at most.
    :param instructions: what each agent is told before its task.
    :raises ConfigError: for a value of another type, or out of range.
    """
    given = {name: value for name, value in locals().items() if name in _OPTIONS}
    given["models"] = models if isinstance(models, Mapping) else list(models)
    return _settings(given)


def read_settings(model: str, options: Mapping[str, Any]) -> ModelsFromCode:
    """Return the settings of the text `models:MODEL` and its options. Raises `ConfigError`."""
    check_options("the tool source 'models'", options, _OPTIONS)
    if model and options.get("model") is not None:
        raise ConfigError(f"models:{model}: the model is given twice, in the text and as the option 'model'")
    return _settings({**options, "model": model or options.get("model")})


def _settings(given: Mapping[str, Any]) -> ModelsFromCode:
    check_options("models_from_code", given, _OPTIONS)
    settings = dict(given)
    for name, least in _LEAST.items():
        if name in settings and settings[name] < least:
            raise ConfigError(f"models_from_code: {name}: must be at least {least}, got {settings[name]}")
    if not settings.get("timeout_s", 1) > 0:
        raise ConfigError(f"models_from_code: timeout_s: must be above 0, got {settings['timeout_s']}")
    models = settings.pop("models", ())
    named = dict(models) if isinstance(models, Mapping) else {name: name for name in models}
    for name, spec in named.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"models_from_code: models: names must be texts, got {name!r}")
        split_spec(spec, where=f"models_from_code: models[{name!r}]")
    model = settings.pop("model", None)
    default = "" if model is None else split_spec(model, where="models_from_code: model")[0]
    choices = (
        named if model is None or (isinstance(model, str) and model in named) else {default: model, **named}
    )
    return ModelsFromCode(
        **{**settings, "budgets": _budgets(settings.get("budgets"))}, default=default, choices=choices
    )


def _budgets(given: object) -> Budgets:
    if given is None or isinstance(given, Budgets):
        return given or Budgets()
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"models_from_code: budgets: must be a Budgets or a mapping, got {type(given).__name__}"
        )
    known = {field.name: object for field in attrs.fields(Budgets)}
    check_options("models_from_code: budgets", given, known)
    return Budgets(**given)
