"""The form of a call's last answer, as a `response_format` (chat) or `text.format` (responses) describes it.

The requests go without it (`agentd_tools.answer_form` says why), until the answer does not fit and is asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from agentd_tools.answer_form import JsonForm, load_answer
from agentd_tools.schema import pydantic_problems

__all__ = ["RequestedForm", "requested_form"]


@attrs.frozen(kw_only=True)
class RequestedForm:
    """A form, and the arguments of a request that holds the model to it."""

    form: JsonForm
    arguments: dict[str, Any]


class _SdkForm(JsonForm):
    """The form of a type as the SDK reads it: by pydantic, whatever it is."""

    def __init__(self, type: Any, schema: Mapping[str, Any] | None) -> None:
        import pydantic

        self._adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(type)
        super().__init__(schema)

    def _read(self, text: str) -> Any:
        import pydantic

        load_answer(text)
        try:
            return self._adapter.validate_json(text)
        except pydantic.ValidationError as exc:
            raise ValueError(pydantic_problems(exc, "the value")) from None


def requested_form(api: str, arguments: dict[str, Any], type: Any = None) -> RequestedForm | None:
    """Take the form of the last answer out of a request's arguments. None if there is none; what is no form of JSON
    stays where it is.

    :param type: what the caller reads the answer as (a pydantic model, a dataclass), if it said so.
    """
    found = _chat_form(arguments) if api == "chat" else _responses_form(arguments)
    if found is None:
        return None
    schema, held = found
    form = JsonForm(schema) if type is None else _SdkForm(type, schema)
    return RequestedForm(form=form, arguments=held)


Found = tuple[Mapping[str, Any] | None, dict[str, Any]]


def _chat_form(arguments: dict[str, Any]) -> Found | None:
    given = arguments.get("response_format")
    if not isinstance(given, Mapping) or (kind := given.get("type")) not in ("json_object", "json_schema"):
        return None
    schema = given.get("json_schema") if kind == "json_schema" else None
    del arguments["response_format"]
    return (schema or {}).get("schema"), {"response_format": given}


def _responses_form(arguments: dict[str, Any]) -> Found | None:
    text = arguments.get("text")
    given = text.get("format") if isinstance(text, Mapping) else None
    if not isinstance(text, Mapping) or not isinstance(given, Mapping):
        return None
    if (kind := given.get("type")) not in ("json_object", "json_schema"):
        return None
    arguments["text"] = {name: value for name, value in text.items() if name != "format"}
    if not arguments["text"]:
        del arguments["text"]
    schema = given.get("schema") if kind == "json_schema" else None
    return schema, {"text": text}
