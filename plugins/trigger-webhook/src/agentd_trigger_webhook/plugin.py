"""The plugin `webhook`: wakes an agent by signed requests to a port that its options name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from agentd.errors import ConfigError
from agentd.hookspecs import hookimpl
from agentd.registry.options import check_options

if TYPE_CHECKING:
    from agentd_trigger_webhook.signatures import SignatureCheck
    from agentd_trigger_webhook.trigger import WebhookTrigger

AGENTD_API = 1

_WHAT: Final = "the trigger 'webhook'"
_KNOWN: Final = {
    "port": int,
    "host": str,
    "path": str,
    "signature": Literal["standard", "github", "slack", "stripe", "gitlab"] | dict,
    "secret": str | list,
    "secret_file": str,
    "max_body_bytes": int,
    "body_s": float,
}
MOST_SECRETS: Final = 4
_BOUNDS: Final = {"port": (0, 65_535), "max_body_bytes": (1, 1_000_000), "body_s": (0.1, 120.0)}


@hookimpl
def agentd_create_trigger(options: Mapping[str, Any]) -> WebhookTrigger:
    """Make the trigger.

    Options: `port`, required. `host` (`127.0.0.1`) and `path` (`/`). `signature`: `standard` (Standard Webhooks,
    default), `github`, `slack`, `stripe`, `gitlab`, or a mapping that describes another form (see `schemes`).
    `secret`: a text, or a list of up to four; or `secret_file`, which nobody else may read and which has up to four,
    one a line: one of the two is required. `max_body_bytes` (262,144). `body_s` (10): seconds that a body may take.
    """
    from agentd_trigger_webhook.trigger import WebhookPlace, WebhookTrigger

    check_options(_WHAT, options, _KNOWN)
    if "port" not in options:
        raise ConfigError(f"option 'port' of {_WHAT} is missing: where to listen")
    for name, (least, most) in _BOUNDS.items():
        if not least <= options.get(name, least) <= most:
            raise ConfigError(
                f"option {name!r} of {_WHAT}: must be from {least:g} to {most:g}, got {options[name]:g}"
            )
    path = options.get("path", "/")
    if not path.startswith("/") or set(path) & set("?#% "):
        raise ConfigError(
            f"option 'path' of {_WHAT}: must begin with '/' and have no '?', '#', '%' or blank, got {path!r}"
        )
    place = WebhookPlace(
        host=options.get("host", "127.0.0.1"),
        port=options["port"],
        path=path,
        max_body_bytes=options.get("max_body_bytes", 262_144),
        body_s=float(options.get("body_s", 10.0)),
    )
    return WebhookTrigger(place, _check(options))


def _check(options: Mapping[str, Any]) -> SignatureCheck:
    from agentd_trigger_webhook.signatures import FileCheck, make_check

    form, given, file = (
        options.get("signature", "standard"),
        options.get("secret"),
        options.get("secret_file"),
    )
    if (given is None) == (file is None):
        raise ConfigError(
            f"option 'secret' of {_WHAT}: must be given, as a reference such as ${{NAME}}, or else 'secret_file'; "
            "one of the two"
        )
    if file is not None:
        return FileCheck(form, file)
    secrets = [given] if isinstance(given, str) else list(given or ())
    if not 1 <= len(secrets) <= MOST_SECRETS or not all(isinstance(secret, str) for secret in secrets):
        raise ConfigError(
            f"option 'secret' of {_WHAT}: must be a text, or a list of 1 to {MOST_SECRETS} texts"
        )
    return make_check(form, secrets)
