"""The arguments of a request that hold a model's answer to a JSON Schema.

Source: OpenAI API reference, `response_format` (chat completions) and `text.format` (responses).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentd_model_openai.strict_schema import strict_schema

__all__ = ["chat_format", "is_refused", "responses_format"]

NAME = "answer"


def chat_format(schema: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments for chat completions; `{}` as a schema is any JSON object, None no form at all."""
    if schema is None:
        return {}
    return {"response_format": {"type": "json_schema", "json_schema": _named(schema)} if schema else _ANY}


def responses_format(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the `text.format` for the responses API, likewise."""
    if schema is None:
        return None
    return {"type": "json_schema", **_named(schema)} if schema else _ANY


_ANY = {"type": "json_object"}


def _named(schema: Mapping[str, Any]) -> dict[str, Any]:
    strict = strict_schema(schema) if _requires_all(schema) else None
    return {
        "name": NAME,
        "schema": dict(schema) if strict is None else strict,
        "strict": strict is not None,
    }


def _requires_all(node: Any) -> bool:
    """Tell whether a schema has no optional properties: in its strict form, they would become null."""
    if isinstance(node, list):
        return all(map(_requires_all, node))
    if not isinstance(node, Mapping):
        return True
    properties = node.get("properties")
    if isinstance(properties, Mapping) and not set(properties) <= set(node.get("required") or ()):
        return False
    return all(map(_requires_all, node.values()))


def is_refused(exc: Exception) -> bool:
    """Tell whether a server says that it does not know such a form."""
    said = str(exc)
    named = any(word in said for word in ("response_format", "json_schema", "text.format", "json_object"))
    return getattr(exc, "status_code", None) in (400, 422) and named
