"""The form that a run's last answer must have: JSON that a `response_format` (chat) or `text.format` (responses)
describes.

It holds for the last answer only: a model that is held to JSON cannot write a block. So the requests go without it,
the model is told of it in words, and the provider holds the model to it if the answer does not fit and is asked for
again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import attrs

__all__ = ["AnswerForm", "answer_form"]

TOLD: Final = """\
The answer that ends this task, the one without a block, is read by a program: it is {what} alone, without a word \
around it and without a fence. Answers with blocks are free.{schema}"""
AGAIN: Final = "Your answer does not have the form that it must have: {why}. Give it again: {what} alone."
MOST: Final = 600
"""How many characters of what is wrong the model is told."""


@attrs.frozen(kw_only=True)
class AnswerForm:
    """A form of the last answer.

    :param arguments: the arguments of a request that holds the model to it.
    :param schema: a JSON Schema; None for any JSON object.
    :param type: what the caller reads the answer as, if it said so (a pydantic model, a dataclass).
    """

    arguments: dict[str, Any]
    schema: Mapping[str, Any] | None = None
    type: Any = None

    @property
    def instructions(self) -> str:
        """What the model is told from the beginning."""
        schema = "" if self.schema is None else f" Its JSON Schema:\n\n{json.dumps(self.schema)}"
        return TOLD.format(what=self._what, schema=schema)

    @property
    def _what(self) -> str:
        return "one JSON object" if self.schema is None else "JSON that fits the schema"

    def review(self, text: str) -> str:
        """Return what the model is told about an answer that does not fit, or an empty string."""
        why = self._misfit(text)
        return AGAIN.format(why=why[:MOST].rstrip("."), what=self._what) if why else ""

    def _misfit(self, text: str) -> str:
        try:
            value = json.loads(text)
        except ValueError as exc:
            return f"it is no JSON ({exc})"
        if self.type is not None:
            return _misfit_of_type(self.type, text)
        if self.schema is not None:
            return _misfit_of_schema(self.schema, value)
        return "" if isinstance(value, dict) else "it is no JSON object"


def _misfit_of_type(type: Any, text: str) -> str:
    import pydantic

    try:
        pydantic.TypeAdapter(type).validate_json(text)
    except pydantic.ValidationError as exc:
        told = [f"{'.'.join(map(str, e['loc'])) or 'the value'}: {e['msg']}" for e in exc.errors()]
        return "; ".join(told)
    return ""


def _misfit_of_schema(schema: Mapping[str, Any], value: Any) -> str:
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    try:
        error = best_match(Draft202012Validator(schema, registry=Registry()).iter_errors(value))
    except (SchemaError, Unresolvable):
        return ""  # what is wrong with a schema is the provider's to say
    return "" if error is None else f"{error.json_path}: {error.message}"


def answer_form(api: str, arguments: dict[str, Any], type: Any = None) -> AnswerForm | None:
    """Take the form of the last answer out of a request's arguments. None if there is none; what is no form of JSON
    stays where it is.

    :param type: what the caller reads the answer as.
    """
    form = _chat_form(arguments) if api == "chat" else _responses_form(arguments)
    return form if form is None or type is None else attrs.evolve(form, type=type)


def _chat_form(arguments: dict[str, Any]) -> AnswerForm | None:
    given = arguments.get("response_format")
    if not isinstance(given, Mapping) or (kind := given.get("type")) not in ("json_object", "json_schema"):
        return None
    schema = given.get("json_schema") if kind == "json_schema" else None
    del arguments["response_format"]
    return AnswerForm(arguments={"response_format": given}, schema=(schema or {}).get("schema"))


def _responses_form(arguments: dict[str, Any]) -> AnswerForm | None:
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
    return AnswerForm(arguments={"text": text}, schema=schema)
