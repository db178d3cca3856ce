"""The value of `--history`."""

from __future__ import annotations

from typing import Any, Final

import click
from click.shell_completion import CompletionItem

__all__ = ["HistoryRule"]


class HistoryRule(click.ParamType):  # type: ignore[type-arg]  # it takes an argument from click 8.2 on
    """How a long conversation is kept short, as `RULE[:TOKENS]`: a `History` of agentd-history."""

    name = "rule"
    _RULES: Final = ("shorten", "drop", "summarise", "keep")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the `History`. Raises `MissingPluginError` without agentd-history."""
        if not isinstance(value, str):  # it is one
            return value
        from agentd.errors import ConfigError, MissingPluginError

        try:
            from agentd_history import History
        except ImportError as exc:
            raise MissingPluginError("--history", "agentd-history") from exc
        rule, _, tokens = value.partition(":")
        given: dict[str, Any] = {"rule": rule}
        if tokens:
            given["max_tokens"] = int(tokens) if tokens.isdecimal() else tokens
        try:
            return History(**given)
        except ConfigError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete the rules."""
        return [CompletionItem(rule) for rule in self._RULES if rule.startswith(incomplete)]
