"""A tool source plugin: `tools=["rates:EUR=1.0,USD=1.08"]` becomes two tools.

[project.entry-points."agentd.tool_sources"]
rates = "tools_rates"

A text that begins with the plugin's name and a colon comes to it alone. Anything else, such as the mapping
`{"rates": {"EUR": 1.0}}`, is shown to every tool source plugin until one takes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentd.errors import ConfigError, ToolError, UnknownToolError
from agentd.hookspecs import hookimpl
from agentd.protocols import OnProgress, SourceHost
from agentd.registry.options import check_options
from agentd.types import ToolSpec

AGENTD_API = 1

CONVERT: dict[str, object] = {
    "type": "object",
    "properties": {
        "amount": {"type": "number", "description": "How much, in `source`."},
        "source": {"type": "string", "description": "A currency, such as EUR."},
        "target": {"type": "string", "description": "A currency, such as USD."},
    },
    "required": ["amount", "source", "target"],
}


class RatesSource:
    """Tools over a table of exchange rates."""

    name = "rates"

    def __init__(self, rates: Mapping[str, float], *, digits: int = 2) -> None:
        self._rates = dict(rates)
        self._digits = digits

    async def list_tools(self, host: SourceHost | None = None) -> Sequence[ToolSpec]:
        return [
            ToolSpec(
                name="currencies",
                description="List the known currencies.",
                input_schema={"type": "object", "properties": {}},
                output_schema={"type": "array", "items": {"type": "string"}},
                source=self.name,
            ),
            ToolSpec(
                name="convert",
                description="Convert an amount of money.",
                input_schema=CONVERT,
                output_schema={"type": "number"},
                source=self.name,
            ),
        ]

    async def call(
        self, name: str, arguments: Mapping[str, object], on_progress: OnProgress | None = None
    ) -> object:
        if name == "currencies":
            return sorted(self._rates)
        if name != "convert":
            raise UnknownToolError(name, ["convert", "currencies"])
        amount, source, target = (arguments[key] for key in ("amount", "source", "target"))
        assert isinstance(amount, int | float)  # the schema was checked before the call
        return round(amount / self._rate(source) * self._rate(target), self._digits)

    def _rate(self, currency: object) -> float:
        try:
            return self._rates[str(currency)]
        except KeyError:
            known = ", ".join(sorted(self._rates))
            raise ToolError(f"unknown currency {currency!r}; there are: {known}") from None

    async def aclose(self) -> None:
        """Nothing to close."""


@hookimpl
def agentd_create_tool_sources(spec: object, options: Mapping[str, Any]) -> Sequence[RatesSource] | None:
    if isinstance(spec, str) and spec.startswith("rates:"):
        rates = _read(spec.removeprefix("rates:"))
    elif isinstance(spec, Mapping) and set(spec) == {"rates"}:
        rates = spec["rates"]
    else:
        return None  # not ours: say so before looking at the options
    check_options("the tool source 'rates'", options, {"digits": int})
    return [RatesSource(rates, **options)]


def _read(text: str) -> dict[str, float]:
    try:
        return {name: float(rate) for name, rate in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise ConfigError(f"rates: must be CURRENCY=RATE,CURRENCY=RATE,..., got {text!r}") from None
