"""The model provider `openai`: the hook. Nothing heavy: the openai SDK is imported with the first request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from agentd.hookspecs import hookimpl
from agentd.protocols import Model
from agentd.registry.options import check_options

__all__ = ["AGENTD_API", "OPTIONS", "agentd_open_model"]

AGENTD_API: Final = 1

OPTIONS: Final = {
    "base_url": str | None,
    "api_key": str | None,
    "api": Literal["chat", "responses"],
    "request": dict,
    "prices": dict | None,
}
"""What every provider is given, with the types."""


@hookimpl
def agentd_open_model(name: str, options: Mapping[str, Any]) -> Model | None:
    """Open a conversation over the openai SDK. This provider is asked last and takes any name."""
    check_options(f"the model {name!r}", options, OPTIONS)
    from agentd_model_openai.routing import client_settings, needs_litellm, open_model, require_litellm

    settings = client_settings(
        name, base_url=options.get("base_url"), api_key=options.get("api_key"), api=options.get("api", "chat")
    )
    if needs_litellm(name, settings["base_url"]):
        require_litellm(name)  # it is not there, or it would have answered
    return open_model(
        settings.pop("model"), options=options.get("request"), prices=options.get("prices"), **settings
    )
