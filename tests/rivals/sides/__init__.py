"""One module for each program: how it is driven, by its own fastest documented way. `SIDES` are a module's objects."""

from __future__ import annotations

import importlib

from rivals.side import Side

__all__ = ["MODULES", "load", "sides"]

MODULES = ("agentd", "pydantic_ai", "fastmcp", "smolagents", "deepagents", "openai_agents", "jupyter")


def sides() -> dict[str, Side]:
    """All sides by name, in the order of the tables. Nothing of theirs is imported."""
    found = {}
    for module in MODULES:
        for side in importlib.import_module(f"rivals.sides.{module}").SIDES:
            found[side.name] = side
    return found


def load(name: str) -> Side:
    """One of them."""
    return sides()[name]
