"""Who is asked: a function, the terminal, a webhook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, suggest
from agentd.registry.options import check_options, shown, split_spec
from agentd_tools.policy import PolicyRequest

from agentd_policy.questions import Question

__all__ = ["TIMEOUT_S", "Approver", "read_approver"]

TIMEOUT_S: Final = 300.0


@attrs.frozen
class Approver:
    """Somebody who is asked.

    :ivar ask: takes a `Question` and returns what `ApproverAnswer.of` reads, or None if it answers later.
    :ivar name: what the record calls it.
    :ivar in_session: its async function runs on the session's event loop, and not on one of agentd's.
    :ivar timeout_s: seconds that an answer may take, where the policy says nothing of that.
    :ivar id_of: returns the id of a question that is to be asked; None for one that is unique in this process. From any
        thread; must neither block nor raise.
    """

    ask: Callable[[Question], Any]
    name: str
    in_session: bool = False
    timeout_s: float = TIMEOUT_S
    id_of: Callable[[PolicyRequest], str] | None = None


def read_approver(approver: object) -> Approver | None:
    """Return who is asked, by what `approver=` says. Raises `ConfigError`."""
    if approver is None or isinstance(approver, Approver):
        return approver
    if callable(approver):
        ask = approver if not hasattr(approver, "ask") else approver.ask
        return Approver(ask, getattr(approver, "__name__", type(approver).__name__), in_session=True)
    if not isinstance(approver, str | tuple | list):
        raise ConfigError(
            f"approver: must be a function, 'terminal' or ('webhook', {{'url': ...}}), got {shown(approver)}"
        )
    name, options = split_spec(approver, where="approver")
    if name not in _MAKERS:
        raise ConfigError(
            f"approver: unknown name {name!r}; there are: {', '.join(map(repr, _MAKERS))}{suggest(name, _MAKERS)}"
        )
    return _MAKERS[name](options)


def _terminal(options: dict[str, Any]) -> Approver:
    from agentd_policy.terminal import TerminalApprover

    check_options("the approver 'terminal'", options, {})
    return Approver(TerminalApprover().ask, "the terminal")


def _webhook(options: dict[str, Any]) -> Approver:
    from agentd_policy.webhook import WebhookApprover

    check_options("the approver 'webhook'", options, {"url": str, "token": str | None})
    if "url" not in options:
        raise ConfigError("approver: the webhook needs an address: ('webhook', {'url': 'https://...'})")
    return Approver(WebhookApprover(**options).ask, "the webhook")


_MAKERS = {"terminal": _terminal, "webhook": _webhook}
