"""Which of OpenAI's two APIs the model's server speaks is the server's business: a request of the other one is carried
to it as a conversation, and its answer is made into that API's objects (`agentd_openai.provided`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from agentd.errors import ConfigError
from agentd.registry.registry import ClientService
from agentd.session.resources import SessionResources
from agentd_model_openai import open_model
from agentd_model_openai.routing import is_openais
from agentd_openai.state import PatchState

__all__ = ["EitherApiState", "carried"]

Api = Literal["chat", "responses"]
_SAME: Final = frozenset(
    (
        *(
            "temperature",
            "top_p",
            "metadata",
            "user",
            "service_tier",
            "parallel_tool_calls",
            "prompt_cache_key",
        ),
        *(
            "safety_identifier",
            "top_logprobs",
            "extra_body",
            "prompt_cache_retention",
            "prompt_cache_options",
        ),
    )
)
_CARRIED_OTHERWISE: Final = frozenset(
    (
        *("tools", "tool_choice", "instructions", "stream_options", "store", "include", "truncation"),
        *("max_tool_calls", "messages", "input", "model", "n"),
    )
)
"""Part of the conversation, said by the facade, or about what only the other API does."""


class EitherApiState(PatchState):
    """A state whose client is asked by one API, whichever the caller speaks.

    :param api: that one; `client`: an `AsyncOpenAI`.
    """

    def __init__(self, resources: SessionResources, client: Any, api: Api) -> None:
        super().__init__(resources)
        self._client = client
        self._api: Api = api

    def service(
        self,
        name: str,
        base_url: str,
        api: str,
        arguments: Mapping[str, Any],
        prices: Mapping[str, tuple[float, ...]] | None = None,
    ) -> ClientService | None:
        """Return what serves a model: a provider's plugin, or the client by its API; None if that is the caller's."""
        service = super().service(name, base_url, api, arguments, prices)
        if service is not None or api == self._api:
            return service
        options = carried(arguments, self._api, is_openai=is_openais(base_url))
        model = open_model(name, client=self._client, api=self._api, options=options, prices=prices)
        return ClientService(model=model)


def carried(arguments: Mapping[str, Any], to: Api, *, is_openai: bool = False) -> dict[str, Any]:
    """Return the arguments of a request as the other API has them.

    :param is_openai: the server is OpenAI's, whose newer models want `max_completion_tokens`; others know `max_tokens`.
    :raises ConfigError: for one that it does not have.
    """
    renamed = _to_responses(arguments) if to == "responses" else _to_chat(arguments, is_openai=is_openai)
    for name in arguments:
        if name not in _SAME | _CARRIED_OTHERWISE | _RENAMED[to]:
            other = "the responses API" if to == "responses" else "chat completions"
            raise ConfigError(f"{name}: is not carried to a server that is asked by {other}; leave it out")
    return {**{name: value for name, value in arguments.items() if name in _SAME}, **renamed}


_RENAMED: Final[Mapping[str, frozenset[str]]] = {
    "responses": frozenset(("max_tokens", "max_completion_tokens", "reasoning_effort", "verbosity")),
    "chat": frozenset(("max_output_tokens", "reasoning", "text")),
}


def _to_responses(given: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name in ("max_tokens", "max_completion_tokens"):
        if name in given:
            made["max_output_tokens"] = given[name]
    if "reasoning_effort" in given:
        made["reasoning"] = {"effort": given["reasoning_effort"]}
    if "verbosity" in given:
        made["text"] = {"verbosity": given["verbosity"]}
    return made


def _to_chat(given: Mapping[str, Any], *, is_openai: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "max_output_tokens" in given:
        made["max_completion_tokens" if is_openai else "max_tokens"] = given["max_output_tokens"]
    reasoning, text = given.get("reasoning"), given.get("text")
    if isinstance(reasoning, Mapping) and reasoning.get("effort"):
        made["reasoning_effort"] = reasoning["effort"]
    if isinstance(text, Mapping) and text.get("verbosity"):
        made["verbosity"] = text["verbosity"]
    if isinstance(text, Mapping) and text.get(
        "format"
    ):  # but for that of an answer with blocks, which is held here
        made |= _format(text["format"])
    return made


def _format(given: object) -> dict[str, Any]:
    if not isinstance(given, Mapping) or given.get("type") in (None, "text"):
        return {}
    if given["type"] != "json_schema":
        return {"response_format": dict(given)}
    schema = {name: value for name, value in given.items() if name != "type"}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
