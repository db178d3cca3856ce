"""What a model costs: what the caller says, then LiteLLM's table where that is installed, then a small table of ours.

Format of LiteLLM's table: `model_prices_and_context_window.json` in its repository: US dollars for one token, and other
prices for requests above so many tokens (`input_cost_per_token_above_200k_tokens`).
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError
from agentd.types import Usage

__all__ = ["Price", "Prices", "find_price"]

log = logging.getLogger("agentd.models")

Prices = Mapping[str, tuple[float, ...]]
"""US dollars per million tokens by model: `(input, output)` or `(input, output, cached input)`."""

TABLE_DATE: Final = "2026-11-29"
"""When the table below was compared with its sources: the table of LiteLLM 1.83.0, and for Claude Opus also Anthropic's
page of prices, as it stood in public archives that day. Prices that the two do not agree on are left out."""
TABLE: Final[Prices] = {
    "gpt-4.1": (2.0, 8.0, 0.5),
    "gpt-4.1-mini": (0.4, 1.6, 0.1),
    "gpt-4.1-nano": (0.1, 0.4, 0.025),
    "gpt-4o": (2.5, 10.0, 1.25),
    "gpt-4o-mini": (0.15, 0.6, 0.075),
    "gpt-5": (1.25, 10.0, 0.125),
    "gpt-5-mini": (0.25, 2.0, 0.025),
    "gpt-5-nano": (0.05, 0.4, 0.005),
    "gpt-5.1": (1.25, 10.0, 0.125),
    "gpt-5.2": (1.75, 14.0, 0.175),
    "o3": (2.0, 8.0, 0.5),
    "o4-mini": (1.1, 4.4, 0.275),
    "claude-haiku-4-5": (1.0, 5.0, 0.1),
    "claude-opus-4-5": (5.0, 25.0, 0.5),
    "claude-opus-4-6": (5.0, 25.0, 0.5),
}
FORMS: Final = "(input, output) or (input, output, cached input), US dollars per million tokens, none below 0"


@attrs.frozen
class Price:
    """What a million tokens cost, in US dollars. `above` are the tokens of input from which on another price holds."""

    input: float
    output: float
    cached: float
    above: tuple[int, Price] | None = None

    def of(self, usage: Usage) -> float:
        """Return what one request costs."""
        if self.above is not None and usage.input_tokens > self.above[0]:
            return self.above[1].of(usage)
        cached = min(usage.cached_input_tokens, usage.input_tokens)
        whole = (usage.input_tokens - cached) * self.input
        return (whole + cached * self.cached + usage.output_tokens * self.output) / 1e6


def find_price(model: str, prices: Prices | None = None) -> Price | None:
    """Return the price of a model; None, and a line in the log once, if it is unknown.

    :param prices: the caller's, which come first.
    :raises ConfigError: for a price that is none.
    """
    if model in (prices or {}):
        return _given(model, (prices or {})[model])
    live = getattr(
        sys.modules.get("litellm"), "model_cost", None
    )  # newer, or with what the program has added
    for name, provider in _names(model):
        entry = live.get(name) if isinstance(live, dict) else None
        if found := _from_litellm(entry or _entry_in_file(name), provider):
            return found
    return _given(model, TABLE[model]) if model in TABLE else _unknown(model)


def _given(model: str, price: Any) -> Price:
    numbers = list(price) if isinstance(price, list | tuple) else []
    if len(numbers) not in (2, 3) or not all(type(n) in (int, float) and 0 <= n < 1e9 for n in numbers):
        raise ConfigError(f"prices[{model!r}]: must be {FORMS}; got {price!r}")
    return Price(numbers[0], numbers[1], numbers[-1] if len(numbers) == 3 else numbers[0])


@cache
def _unknown(model: str) -> None:
    log.info("no price is known for the model %r, so its cost stays unknown; `prices` may say it", model)


# --- LiteLLM's table -------------------------------------------------------------------------------------


def _names(model: str) -> list[tuple[str, str]]:
    """Return the names under which LiteLLM may have a model, each with the provider that it must then be of."""
    provider, slash, rest = model.partition("/")
    return [(model, ""), (rest, provider)] if slash else [(model, "")]


@cache
def _table_text() -> str:
    """Return the table of an installed LiteLLM, whose import would take seconds; empty without it."""
    try:
        found = find_spec("litellm")
        folder = Path(((found and found.submodule_search_locations) or [""])[0])
        return (folder / "model_prices_and_context_window_backup.json").read_text("utf-8")
    except (OSError, ValueError, ImportError):  # it is not there, or no longer where it was
        return ""


@cache
def _entry_in_file(name: str) -> Any:
    """Return one model's entry. Looked for in the text: to decode all of it takes 20 times as long."""
    found = re.search(re.escape(json.dumps(name)) + r"\s*:\s*(?=\{)", text := _table_text())
    try:
        return json.JSONDecoder().raw_decode(text, found.end())[0] if found else None
    except ValueError:
        return None


def _from_litellm(entry: Any, provider: str) -> Price | None:
    if not isinstance(entry, dict) or (provider and entry.get("litellm_provider") != provider):
        return None
    price = _priced_by(entry, "")
    for key in entry:
        if price and (found := re.fullmatch(r"input_cost_per_token(_above_(\d+)k_tokens)", key)):
            above = _priced_by({**entry, **_suffixed(entry, found[1])}, found[1])
            return attrs.evolve(price, above=(int(found[2]) * 1000, above)) if above else price
    return price


def _suffixed(entry: dict[str, Any], suffix: str) -> dict[str, Any]:
    """Return the prices that hold above the limit, where LiteLLM names none of its own those below it."""
    names = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    return {n + suffix: entry[n] for n in names if n in entry and n + suffix not in entry}


def _priced_by(entry: dict[str, Any], suffix: str) -> Price | None:
    names = ("input_cost_per_token", "output_cost_per_token", "cache_read_input_token_cost")
    numbers = [entry.get(name + suffix) for name in names]
    numbers[2] = numbers[2] or numbers[0]
    known = [round(n * 1e6, 6) for n in numbers if isinstance(n, int | float) and n >= 0]
    return Price(known[0], known[1], known[2]) if len(known) == 3 else None
