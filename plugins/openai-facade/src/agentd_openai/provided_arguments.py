"""What of a caller's arguments goes to the model of a provider plugin, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from agentd.errors import ConfigError
from agentd.protocols import ToolOffer
from agentd_model_openai.routing import is_openais

__all__ = ["options_for_provider", "own_offers", "refuse_unknown"]

_OURS: Final = ("tools", "tool_choice", "stream_options", "instructions", "n", "mcp_servers")
"""Arguments that are carried in another way than as options of the provider's requests."""
_KEPT_ELSEWHERE: Final = ("previous_response_id", "conversation", "prompt", "background")
"""Arguments that name something which OpenAI's server keeps."""
_SPOKEN: Final = ("audio", "functions", "function_call")


def options_for_provider(arguments: Mapping[str, Any], base_url: str) -> dict[str, Any]:
    """Return the options of `agentd_open_model` for a call: what of the caller's arguments the provider is to send.

    The client's key is for its own server. Its address is told, unless it is OpenAI's: a provider leaves to a
    gateway what is meant for that.
    """
    left_out = (*_OURS, *_KEPT_ELSEWHERE, *_SPOKEN, "modalities")
    request = {name: value for name, value in arguments.items() if name not in left_out}
    options = {} if is_openais(base_url) else {"base_url": base_url}
    if "api_key" in request:
        options["api_key"] = request.pop("api_key")
    return {**options, "request": request} if request else options


def refuse_unknown(model: str, arguments: Mapping[str, Any]) -> None:
    """Raise for arguments that mean something else than text, or something that this provider does not keep."""
    for name in (*_KEPT_ELSEWHERE, *_SPOKEN):
        if arguments.get(name):
            way_out = "send the whole conversation instead" if name in _KEPT_ELSEWHERE else "leave it out"
            raise ConfigError(
                f"{name}: is not carried to the model {model!r} of a provider plugin; {way_out}"
            )
    if list(arguments.get("modalities") or ["text"]) != ["text"]:
        raise ConfigError(f"modalities: the model {model!r} of a provider plugin gives text alone")
    if arguments.get("tool_choice", "auto") not in ("auto", None):
        raise ConfigError(f"tool_choice: must be 'auto' for the model {model!r} of a provider plugin")


def own_offers(tools: Sequence[Any], model: str) -> list[ToolOffer]:
    """Return the caller's own tools, of either API."""
    offers = []
    for number, tool in enumerate(tools):
        plain = tool if isinstance(tool, Mapping) else getattr(tool, "to_dict", dict)()
        function = plain.get("function")
        inner = function if isinstance(function, Mapping) else plain
        if plain.get("type") != "function":
            raise ConfigError(
                f"tools[{number}]: must be a function for the model {model!r} of a provider plugin, "
                f"got {plain.get('type')!r}"
            )
        offers.append(
            ToolOffer(
                name=str(inner.get("name")),
                description=str(inner.get("description") or ""),
                parameters=dict(inner.get("parameters") or {"type": "object", "properties": {}}),
                strict=bool(inner.get("strict")),
            )
        )
    return offers
