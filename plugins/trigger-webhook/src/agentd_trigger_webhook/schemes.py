"""How senders sign: one table of schemes, the scheme that a mapping of options describes, and what both must have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs
from agentd.errors import ConfigError
from agentd.registry.options import check_options

__all__ = ["SCHEMES", "SignatureScheme", "scheme_of"]

_WHAT: Final = "the mapping"
_HEADER: Final = re.compile(r"[A-Za-z0-9-]{1,100}")
_LONGEST_TOLERANCE_S: Final = 3600.0

Algorithm = Literal["sha256", "sha384", "sha512", "sha1"]
Encoding = Literal["hex", "base64"]


@attrs.frozen(kw_only=True)
class SignatureScheme:
    """What a sender signs, and where it says so.

    :ivar name: goes into the names of deliveries.
    :ivar header: has the signature.
    :ivar separator: between several signatures in that header; empty: it has one.
    :ivar prefix: stands before a signature.
    :ivar algorithm: of the HMAC. `none`: nothing is signed, and the header has the secret itself.
    :ivar signed: what is signed: a text with `{body}`, and with `{timestamp}` if the time is signed, too.
    :ivar timestamp_header: has the time, in seconds since the epoch.
    :ivar timestamp_prefix: or what stands before the time in `header`.
    :ivar tolerance_s: so many seconds that time may be from ours.
    :ivar id_field: what in the body, if that is JSON, names the delivery; else the whole body does.
    :ivar id_header: names the delivery where nothing is signed, so that this is as good as the rest.
    :ivar event_header: what the agent is told with the event, as not signed.
    :ivar has_challenge: the sender asks first whether we are there, as Slack does (`url_verification`).
    """

    name: str
    header: str
    separator: str = ""
    prefix: str = ""
    algorithm: Algorithm | Literal["none"] = "sha256"
    encoding: Encoding = "hex"
    signed: str = "{body}"
    timestamp_header: str = ""
    timestamp_prefix: str = ""
    tolerance_s: float = 300.0
    id_field: str = ""
    id_header: str = ""
    event_header: str = ""
    has_challenge: bool = False

    @property
    def has_time(self) -> bool:
        """Whether a time is signed."""
        return "{timestamp}" in self.signed

    @property
    def needed(self) -> str:
        """What a request must have, for who sends it."""
        if self.algorithm == "none":
            return f"{self.header} with the secret"
        of = "the body" if self.signed == "{body}" else f"`{self.signed}`"
        begins = f"`{self.prefix}` and " if self.prefix else ""
        return f"{self.header}, {begins}the HMAC-{self.algorithm.upper()} of {of} in {self.encoding}"


SCHEMES: Final[Mapping[str, SignatureScheme]] = {
    scheme.name: scheme
    for scheme in (
        # GitHub Docs, "Validating webhook deliveries".
        SignatureScheme(
            name="github",
            header="X-Hub-Signature-256",
            prefix="sha256=",
            event_header="X-GitHub-Event",
        ),
        # Slack API, "Verifying requests from Slack". What is sent again has another time and the same event_id.
        SignatureScheme(
            name="slack",
            header="X-Slack-Signature",
            prefix="v0=",
            signed="v0:{timestamp}:{body}",
            timestamp_header="X-Slack-Request-Timestamp",
            id_field="event_id",
            has_challenge=True,
        ),
        # Stripe Docs, "Verify webhook signatures manually". What is sent again has another time, perhaps another
        # number of `pending_webhooks`, and the same id. With two secrets there are two `v1`; `v0` never counts.
        SignatureScheme(
            name="stripe",
            header="Stripe-Signature",
            separator=",",
            prefix="v1=",
            signed="{timestamp}.{body}",
            timestamp_prefix="t=",
            id_field="id",
        ),
        # GitLab Docs, "Webhooks": a secret token is sent as it is. Its signing tokens are Standard Webhooks.
        SignatureScheme(
            name="gitlab",
            header="X-Gitlab-Token",
            algorithm="none",
            id_header="Idempotency-Key",
            event_header="X-Gitlab-Event",
        ),
    )
}
"""`standard` is not here: the library `standardwebhooks` has it."""

_KEYS: Final = {
    "header": str,
    "separator": str,
    "prefix": str,
    "algorithm": Algorithm,
    "encoding": Encoding,
    "signed": str,
    "timestamp_header": str,
    "timestamp_prefix": str,
    "tolerance_s": float,
    "id_field": str,
    "event_header": str,
}


def scheme_of(form: str | Mapping[str, Any]) -> SignatureScheme:
    """Return the scheme of a name in `SCHEMES`, or the one that a mapping describes.

    :raises ConfigError: the mapping describes none.
    """
    if isinstance(form, str):
        return SCHEMES[form]
    try:
        return _described(form)
    except ConfigError as error:
        told = (f"option 'signature' of the trigger 'webhook': {line}" for line in str(error).splitlines())
        raise ConfigError("\n".join(told)) from None


def _described(form: Mapping[str, Any]) -> SignatureScheme:
    check_options(_WHAT, form, _KEYS)
    if "header" not in form:
        raise ConfigError(f"option 'header' of {_WHAT} is missing: which header has the signature")
    scheme = SignatureScheme(name="custom", **form)
    for key in ("header", "timestamp_header", "event_header"):
        if key in form and not _HEADER.fullmatch(form[key]):
            raise ConfigError(
                f"option {key!r} of {_WHAT}: must be a header's name, such as X-Signature, got {form[key]!r}"
            )
    rest = scheme.signed.replace("{timestamp}", "", 1).replace("{body}", "", 1)
    if "{body}" not in scheme.signed or set(rest) & set("{}"):
        raise ConfigError(
            f"option 'signed' of {_WHAT}: must have {{body}} once, and {{timestamp}} at most once, "
            f"got {scheme.signed!r}"
        )
    places = [place for place in (scheme.timestamp_header, scheme.timestamp_prefix) if place]
    if len(places) != scheme.has_time or (scheme.timestamp_prefix and not scheme.separator):
        raise ConfigError(
            f"option 'signed' of {_WHAT}: {{timestamp}} goes with 'timestamp_header', or with 'timestamp_prefix' and "
            "'separator' where the time stands in the signature's header, and each of them with it: a time that is "
            "not signed says nothing"
        )
    if not 1 <= scheme.tolerance_s <= _LONGEST_TOLERANCE_S:
        raise ConfigError(
            f"option 'tolerance_s' of {_WHAT}: must be from 1 to {_LONGEST_TOLERANCE_S:g}, got {scheme.tolerance_s:g}"
        )
    return scheme
