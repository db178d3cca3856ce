"""What an agent's `approver:` and `policy:` say: how long a call waits for a person, which webhook is asked, too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import attrs
from agentd.errors import ConfigError, suggest
from agentd.registry.options import check_options, split_spec
from agentd_policy.webhook import WebhookApprover

__all__ = ["TIMEOUT_S", "ApproverOptions", "approver_options", "sent_policy"]

HOLD_S: Final = 300.0
TIMEOUT_S: Final = 7 * 86_400.0
"""How long a question waits for its answer, where the policy does not say."""
_NAMES: Final = ("daemon", "webhook")
_KNOWN: Final[dict[str, Any]] = {"hold_s": float, "url": str, "token": str | None}


@attrs.frozen
class ApproverOptions:
    """What `approver:` says.

    :ivar hold_s: seconds that a call waits for an answer before its task is parked.
    :ivar webhook: is asked, too.
    """

    hold_s: float = HOLD_S
    webhook: WebhookApprover | None = None


def approver_options(approver: object) -> ApproverOptions:
    """Read what an agent's `approver:` says. Raises `ConfigError`."""
    if approver is None:
        return ApproverOptions()
    name, options = split_spec(approver, where="approver")
    if name not in _NAMES:
        hint = ": a daemon has no terminal to ask at" if name == "terminal" else f", got {name!r:.80}"
        raise ConfigError(f"must be 'daemon' or 'webhook'{hint}{suggest(name, _NAMES)}")
    check_options(f"the approver {name!r}", options, _KNOWN)
    hold_s = options.pop("hold_s", HOLD_S)
    if hold_s <= 0:
        raise ConfigError(f"option 'hold_s' must be a number of seconds above 0, got {hold_s:g}")
    if name == "webhook" and "url" not in options:
        raise ConfigError("the webhook needs an address: [webhook, {url: 'https://...'}]")
    if "token" in options and "url" not in options:
        raise ConfigError("option 'token' goes with 'url': it is the webhook's")
    return ApproverOptions(hold_s, WebhookApprover(**options) if options else None)


def sent_policy(policy: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy as data that another machine can read: of a file, what is in it.

    :raises ConfigError: if the file cannot be used.
    """
    from agentd_policy.document import read_document
    from agentd_policy.presets import PRESETS
    from agentd_policy.reading import read_policy

    data: Any = policy
    if isinstance(policy, str):
        read_policy(policy)  # says all that is wrong with the file, each with its place
        data = {"preset": policy} if policy in PRESETS else read_document(Path(policy).expanduser()).data
    return {"timeout_s": TIMEOUT_S, **(data if isinstance(data, Mapping) else {"rules": data})}
