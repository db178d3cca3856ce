"""The list of tools that a server offers, made such that one odd tool does not take the others along.

The SDK refuses a whole list for one schema without a type, and withholds a result that does not keep its output
schema. Here each tool is mended by itself before the SDK sees it, and its output schema is kept where the SDK does not
check it: the value is the caller's, and the mismatch is told.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from mcp_types.methods import validate_server_result
from mcp_types.version import LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION
from pydantic import ValidationError

__all__ = ["OutputChecks", "mend_tools", "oddity_of", "output_schema_of", "plain_tool"]

_log: Final = logging.getLogger("agentd.mcp")
_ODD: Final = "agentd/odd"
_OUTPUT: Final = "agentd/outputSchema"
_AROUND: Final = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
"""What a list needs on the newest revision beside its tools."""
_NO_PARAMETERS: Final = {"type": "object"}


def mend_tools(tools: list[Any]) -> list[Any]:
    """Return the tools of a list, each as the SDK takes it; what has no name is left out."""
    mended = [one for tool in tools if (one := _mended(tool)) is not None]
    if len(mended) < len(tools):
        _log.warning(
            "%d of %d tools of a server cannot be read and are left out", len(tools) - len(mended), len(tools)
        )
    return mended


def oddity_of(tool: Any) -> str:
    """Return what was odd about a tool of the SDK, or an empty text."""
    return str((tool.meta or {}).get(_ODD, ""))


def output_schema_of(tool: Any) -> Mapping[str, Any] | None:
    """Return the output schema that the server gave for a tool."""
    schema = (tool.meta or {}).get(_OUTPUT)
    return schema if isinstance(schema, Mapping) else tool.output_schema


def plain_tool(tool: Any) -> Any:
    """Return a tool of the SDK as a client of ours is told of it: with the server's output schema, if any client takes
    that, without notes of agentd's own, and never as a task, which agentd makes of its call where it has to."""
    meta = {key: value for key, value in (tool.meta or {}).items() if key not in (_ODD, _OUTPUT)}
    output = output_schema_of(tool)
    is_usual = output is not None and output.get("type") == "object"
    schema = output if is_usual else None
    return tool.model_copy(update={"meta": meta or None, "output_schema": schema, "execution": None})


def _mended(tool: Any) -> dict[str, Any] | None:
    if not isinstance(tool, dict):
        return None
    tool, odd = dict(tool), dict[str, str]()
    output = tool.pop("outputSchema", None)
    while (key := _refused_key(tool)) is not None:
        if key == "inputSchema" and tool.get(key) != _NO_PARAMETERS:
            tool[key], odd[key] = _schema_of_object(tool.get(key), once_more=key in odd)
        elif key != "name" and key in tool:
            del tool[key]
            odd[key] = f"its {key} cannot be read"
        else:
            return None
    ours: dict[str, Any] = {_OUTPUT: output} if isinstance(output, dict) else {}
    if odd:
        ours[_ODD] = "; ".join(odd.values())
    meta = tool.get("_meta")
    return {**tool, "_meta": {**(meta if isinstance(meta, dict) else {}), **ours}} if ours else tool


def _schema_of_object(schema: Any, *, once_more: bool) -> tuple[dict[str, Any], str]:
    """Return a schema that the SDK takes, as near to the given one as can be, and what was wrong with that."""
    if isinstance(schema, dict) and not once_more and schema.get("type", "object") in ("object", None):
        return {**schema, "type": "object"}, 'its inputSchema lacks "type": "object"'
    return dict(
        _NO_PARAMETERS
    ), "its inputSchema does not describe an object, so its parameters are not known"


def _refused_key(tool: dict[str, Any]) -> str | None:
    """Return the key for which the SDK would refuse a tool."""
    for version in (LATEST_HANDSHAKE_VERSION, LATEST_MODERN_VERSION):
        try:
            validate_server_result("tools/list", version, {**_AROUND, "tools": [tool]})
        except ValidationError as error:
            place = error.errors()[0]["loc"]
            return str(place[2]) if len(place) > 2 else "name"
    return None


class OutputChecks:
    """Holds results against the output schemas of their tools."""

    def __init__(self) -> None:
        self.schemas: dict[str, Mapping[str, Any]] = {}
        """By the tools' names."""
        self._validators: dict[str, Any] = {}

    def replace(self, schemas: Mapping[str, Mapping[str, Any]]) -> None:
        """Know these from now on, by the tools' names."""
        self._validators.clear()
        self.schemas.clear()
        self.schemas.update(schemas)

    def mismatch(self, name: str, structured: object) -> str:
        """Return what of a tool's structured content does not keep the schema, or an empty text.

        :param structured: None if the result had none.
        """
        if name not in self.schemas:
            return ""
        if structured is None:
            return f"{name}() promises structured content and sent none"
        from jsonschema.exceptions import SchemaError, best_match
        from jsonschema.validators import validator_for
        from referencing import Registry
        from referencing.exceptions import Unresolvable

        try:
            validator = self._validators.get(name)
            if validator is None:
                schema = self.schemas[name]
                kind = validator_for(schema)
                kind.check_schema(schema)
                validator = self._validators[name] = kind(schema, registry=Registry())
            error = best_match(validator.iter_errors(structured))
        except (SchemaError, Unresolvable) as problem:
            return f"the output schema of {name}() cannot be used: {str(problem).partition(chr(10))[0]}"
        except RecursionError:
            return f"the output schema of {name}() cannot be used: it leads to itself without an end"
        if error is None:
            return ""
        return f"{name}() does not keep its output schema: {error.json_path}: {error.message[:300]}"
