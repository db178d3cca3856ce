"""The form that a run's last answer must have: JSON that fits a Python type or a JSON Schema.

It holds for the last answer only: a model that is held to JSON cannot write a block. So the model is told of it in
words, and a provider that can holds it to the schema if the answer does not fit and is asked for again.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from agentd.errors import AnswerError, ConfigError

from agentd_tools.results import refuse_constant
from agentd_tools.schema import Schema, convert, describe_types, is_pydantic, prepare, validate_pydantic

__all__ = ["JsonForm", "form_of", "load_answer", "schema_problem"]

_log: Final = logging.getLogger("agentd.tools")
TOLD: Final = """\
The answer that ends this task, the one without a block, is read by a program: it is {what} alone, without a word \
around it and without a fence. Answers with blocks are free.{schema}"""
AGAIN: Final = "Your answer does not have the form that it must have: {why}. Give it again: {what} alone."
MOST: Final = 600
"""How many characters of what is wrong the model is told."""


class JsonForm:
    """A form of the last answer, of any JSON object. Implements `agentd.protocols.AnswerForm`.

    :param schema: a JSON Schema that it has to fit; None for any JSON object.
    """

    def __init__(self, schema: Mapping[str, Any] | None = None) -> None:
        self.schema = schema

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
        try:
            self._value(text)
        except ValueError as wrong:
            return AGAIN.format(why=str(wrong)[:MOST].rstrip("."), what=self._what)
        return ""

    def read(self, text: str) -> Any:
        """Return an answer's value. Raises `AnswerError`, which has the text."""
        try:
            return self._value(text)
        except ValueError as wrong:
            raise AnswerError(str(wrong), text) from wrong.__cause__

    def _value(self, text: str) -> Any:
        try:
            return self._read(text)
        except ValueError:
            raise
        except Exception as error:  # a validator of the user's own, say; the answer must not be lost by it
            raise ValueError(f"its check raised {type(error).__name__}: {error}") from error

    def _read(self, text: str) -> Any:
        value = load_answer(text)
        if self.schema is not None:
            _check(self.schema, value)
        elif not isinstance(value, dict):
            raise ValueError("it is no JSON object")
        return value


class _TypedForm(JsonForm):
    """The form of a type that msgspec knows: a dataclass, an attrs class, a TypedDict, a list of them, ..."""

    def __init__(self, type_: Any) -> None:
        self._type = prepare(type_)
        (schema,), definitions = describe_types([self._type])
        super().__init__(_whole(schema, definitions))

    def _read(self, text: str) -> Any:
        return convert(load_answer(text), self._type)  # msgspec's errors are ValueErrors


class _PydanticForm(JsonForm):
    """The form of a pydantic model, which describes and reads it itself."""

    def __init__(self, model: Any) -> None:
        self._model = model
        super().__init__(model.model_json_schema())

    def _read(self, text: str) -> Any:
        load_answer(text)
        return validate_pydantic(self._model, text.encode())


def form_of(output: Any) -> JsonForm:
    """Return the form of an answer.

    :param output: a type (a pydantic model, a dataclass, an attrs class, a TypedDict, or what is made of them and of
        JSON's own types), or a JSON Schema as a dict.
    :raises ConfigError: if `output` has no JSON form.
    """
    try:
        if isinstance(output, Mapping):
            _check_schema(output)
            return JsonForm(output)
        return _PydanticForm(output) if is_pydantic(output) else _TypedForm(output)
    except ConfigError:
        raise
    except Exception as exc:  # of pydantic, whose errors about a class are of many kinds
        raise ConfigError(
            f"output: must be a type that has a JSON form, or a JSON Schema as a dict, got {output!r}: {exc}"
        ) from None


def schema_problem(schema: Mapping[str, Any]) -> tuple[tuple[str | int, ...], str] | None:
    """Return what is wrong with a JSON Schema, and where; None if nothing is."""
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import Draft202012Validator

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        return tuple(error.absolute_path), error.message
    return None


def _whole(schema: Schema, definitions: Schema) -> Schema:
    """Return one schema of a schema and what it refers to; providers hold a model to one whose root is an object."""
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    root = cast(Schema, definitions.get(name, schema))
    others = {key: value for key, value in definitions.items() if key != name}
    if f'"#/$defs/{name}"' in json.dumps([root, others]):  # it refers to itself
        others = definitions
    return {**root, "$defs": others} if others else root


def load_answer(text: str) -> Any:
    """Return the value of a text of JSON. Raises `ValueError`."""
    try:
        return json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ValueError(f"it is no JSON ({exc})") from None


def _check_schema(schema: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a schema that is none, or leads nowhere: before anything is asked, and paid for."""
    from jsonschema.exceptions import SchemaError, best_match
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    kind = validator_for(schema, default=Draft202012Validator)
    try:
        json.dumps(schema)
        if (wrong := best_match(kind(kind.META_SCHEMA).iter_errors(schema))) is not None:
            raise ConfigError(f"output: is no JSON Schema: {wrong.json_path}: {wrong.message}")
        own = str(schema.get("$id", ""))
        resolver = Registry().with_resource(own, DRAFT202012.create_resource(schema)).resolver(own)
        for target in _targets(schema):
            try:
                resolver.lookup(target)
            except Unresolvable:
                raise ConfigError(
                    f"output: the schema refers to {target!r}, which it does not have; nothing is fetched"
                ) from None
        best_match(_validator(schema).iter_errors({}))
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(
            "output: the schema refers to itself without an end, or is nested too deeply"
        ) from None
    except (TypeError, ValueError, SchemaError) as error:
        raise ConfigError(f"output: is no JSON Schema: {error}") from None
    except Exception as error:
        _log.debug("a schema cannot be tried: %s", error)  # a pattern that only other engines know, say


def _targets(schema: Mapping[str, Any]) -> set[str]:
    """Return what the parts of a schema refer to, where no part has an address of its own."""
    found: set[str] = set()
    waiting: list[Any] = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            if part is not schema and "$id" in part:
                return set()
            if isinstance(target := part.get("$ref"), str):
                found.add(target)
            waiting += [
                value for key, value in part.items() if key not in ("enum", "const", "default", "examples")
            ]
        elif isinstance(part, list):
            waiting += part
    return found


def _validator(schema: Mapping[str, Any]) -> Any:
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    return validator_for(schema, default=Draft202012Validator)(schema, registry=Registry())


def _check(schema: Mapping[str, Any], value: Any) -> None:
    from jsonschema.exceptions import best_match

    try:
        error = best_match(_validator(schema).iter_errors(value))
    except re.error as wrong:
        _log.warning(
            "an answer could not be held to its schema: it has a pattern that Python cannot read: %s", wrong
        )
        return
    if error is not None:
        raise ValueError(f"{error.json_path}: {error.message}")
