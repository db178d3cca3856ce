"""Whether a request comes from who knows the secret, and which delivery it is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs
from agentd.errors import AgentdError, ConfigError

from agentd_trigger_webhook.schemes import SignatureScheme, scheme_of
from agentd_trigger_webhook.secret import read_secrets, stamp_of

__all__ = [
    "BadSignatureError",
    "FileCheck",
    "SchemeCheck",
    "SignatureCheck",
    "SignedDelivery",
    "StandardCheck",
    "make_check",
]

log = logging.getLogger("agentd.daemon.webhook")

_LEAST_SECRET: Final = 16
_WHSEC: Final = re.compile(r"whsec_([A-Za-z0-9+/]{22,}={0,2})")
_SECONDS: Final = re.compile(r"[0-9]{1,12}", re.ASCII)
_WHAT: Final = "option 'secret' of the trigger 'webhook'"
_LONGEST_CHALLENGE: Final = 1000
_LONGEST_HEADER: Final = 100
_MOST_SIGNATURES: Final = 16
"""Of one header, that are compared."""


class BadSignatureError(AgentdError):
    """The request is not signed as it must be; the text says what to look at, and nothing of the secret."""


@attrs.frozen(kw_only=True)
class SignedDelivery:
    """A request whose signature is right.

    :ivar id: names the delivery. A repetition has the same one.
    :ivar said: what an unsigned header says of it, for the model; or empty.
    :ivar challenge: what to answer if the sender only asks whether we are there; None for an event.
    """

    id: str
    said: str = ""
    challenge: str | None = None


class SignatureCheck(Protocol):
    """A form of signatures, and the secrets that are taken."""

    def delivery(self, headers: Mapping[str, str], body: bytes) -> SignedDelivery:
        """Return the delivery.

        :param headers: by their names in small letters.
        :raises BadSignatureError: it is not signed, or for another time.
        """
        ...


class StandardCheck:
    """Standard Webhooks: HMAC-SHA256 over id, time and body (https://www.standardwebhooks.com), also by Svix's headers.

    The time may be five minutes from ours; within these, an id is known.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        from standardwebhooks.webhooks import Webhook

        if not all(map(_WHSEC.fullmatch, secrets)):  # the library would leave out what is no base64
            raise ConfigError(
                f"{_WHAT}: must be `whsec_` and at least 16 bytes in base64; this makes one: "
                'printf "whsec_%s\\n" "$(head -c 32 /dev/urandom | base64)"'
            )
        self._webhooks = [Webhook(secret) for secret in secrets]

    def delivery(self, headers: Mapping[str, str], body: bytes) -> SignedDelivery:
        """Return the delivery; see `SignatureCheck`."""
        from standardwebhooks.webhooks import WebhookVerificationError

        given = {
            f"webhook-{name}": headers.get(f"webhook-{name}") or headers.get(f"svix-{name}", "")
            for name in ("id", "timestamp", "signature")
        }
        refused = ""
        for webhook in self._webhooks:
            try:
                webhook.verify(body, given, json_parse=False)
            except WebhookVerificationError as error:
                refused = (
                    f"{str(error).lower()}; needed: webhook-id, webhook-timestamp (five minutes from now at most) and "
                    "webhook-signature (v1)"
                )
            except ValueError:  # a signature that is no `v1,BASE64`, a body that is no UTF-8
                refused = "webhook-signature must be `v1,` and base64, and the body text in UTF-8"
            else:
                return SignedDelivery(id=f"standard:{given['webhook-id']}")
        raise BadSignatureError(refused)


class SchemeCheck:
    """A scheme of the table, or a person's own.

    Where the time is signed, a request of another time is refused, and within it the delivery is known. Where it is
    not, anyone who has caught a request could send it again at any time: what is signed, the body, names the delivery,
    and the same body is taken once.

    :param now: gives the time, in seconds since the epoch.
    """

    def __init__(
        self, scheme: SignatureScheme, secrets: Sequence[str], *, now: Callable[[], float] = time.time
    ) -> None:
        if any(len(secret) < _LEAST_SECRET for secret in secrets):
            raise ConfigError(f"{_WHAT}: must have at least {_LEAST_SECRET} characters")
        self._scheme = scheme
        self._secrets = [secret.encode() for secret in secrets]
        self._now = now

    def delivery(self, headers: Mapping[str, str], body: bytes) -> SignedDelivery:
        """Return the delivery; see `SignatureCheck`."""
        scheme = self._scheme
        value = headers.get(scheme.header.lower(), "")
        parts = [part.strip() for part in value.split(scheme.separator)] if scheme.separator else [value]
        if scheme.timestamp_prefix:
            begins = scheme.timestamp_prefix
            at = next((part.removeprefix(begins) for part in parts if part.startswith(begins)), "")
        else:
            at = headers.get(scheme.timestamp_header.lower(), "")
        given = [part for part in parts if part.startswith(scheme.prefix)][:_MOST_SIGNATURES]
        expected = [self._expected(secret, at, body) for secret in self._secrets]
        matching = [_same(one, other) for one in expected for other in given]  # each is compared, to its end
        if not any(matching):
            raise BadSignatureError(f"no matching signature; needed: {scheme.needed}")
        if scheme.has_time and not self._is_now(at):
            where = scheme.timestamp_header or f"{scheme.header} ({scheme.timestamp_prefix})"
            raise BadSignatureError(
                f"the time is not within {scheme.tolerance_s:g} s of now; needed: {where} with seconds since 1970, "
                "and right clocks"
            )
        fields = _json(body) if scheme.id_field or scheme.has_challenge else {}
        return SignedDelivery(
            id=f"{scheme.name}:{self._id(headers, fields, body)}",
            said=_said(scheme.event_header, headers),
            challenge=_challenge(fields) if scheme.has_challenge else None,
        )

    def _expected(self, secret: bytes, at: str, body: bytes) -> bytes:
        """Return what the header has to have if this is the secret."""
        scheme = self._scheme
        if scheme.algorithm == "none":
            return secret
        before, _, behind = scheme.signed.partition("{body}")
        head, tail = (text.replace("{timestamp}", at).encode() for text in (before, behind))
        digest = hmac.new(secret, b"".join((head, body, tail)), getattr(hashlib, scheme.algorithm)).digest()
        encoded = base64.b64encode(digest) if scheme.encoding == "base64" else digest.hex().encode()
        return scheme.prefix.encode() + encoded

    def _is_now(self, at: str) -> bool:
        return bool(_SECONDS.fullmatch(at)) and abs(self._now() - int(at)) <= self._scheme.tolerance_s

    def _id(self, headers: Mapping[str, str], fields: Mapping[str, Any], body: bytes) -> str:
        scheme = self._scheme
        named = headers.get(scheme.id_header.lower()) if scheme.id_header else fields.get(scheme.id_field)
        if isinstance(named, str) and named:
            return named
        return hashlib.sha256(body).hexdigest()


class FileCheck:
    """Takes what is signed with one of the secrets in a file, which is read again when it has changed.

    So a secret is changed without a gap: the new one is added, the sender goes over, the old one is taken out.
    """

    def __init__(self, form: str | Mapping[str, Any], file: str) -> None:
        self._form = form
        self._file = file
        self._stamp = stamp_of(file)
        self._check = make_check(form, read_secrets(file))

    def delivery(self, headers: Mapping[str, str], body: bytes) -> SignedDelivery:
        """Return the delivery; see `SignatureCheck`."""
        self._renew()
        return self._check.delivery(headers, body)

    def _renew(self) -> None:
        stamp = stamp_of(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._check = make_check(self._form, read_secrets(self._file))
        except ConfigError as error:
            log.warning("%s; the secrets that it had before hold on", error)


def make_check(form: str | Mapping[str, Any], secrets: Sequence[str]) -> SignatureCheck:
    """Return the check of a form: a scheme's name, or a mapping that describes one.

    :raises ConfigError: the mapping describes none, or a secret is none of this form.
    """
    return StandardCheck(secrets) if form == "standard" else SchemeCheck(scheme_of(form), secrets)


def _same(expected: bytes, given: str) -> bool:
    """Compare in constant time. HTTP's headers are bytes, which are read as Latin-1."""
    return hmac.compare_digest(expected, given.encode("latin-1", "replace"))


def _json(body: bytes) -> Mapping[str, Any]:
    """Return the fields of a body that is a JSON object."""
    try:
        found = json.loads(body.decode())
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, Mapping) else {}


def _challenge(fields: Mapping[str, Any]) -> str | None:
    challenge = fields.get("challenge") if fields.get("type") == "url_verification" else None
    is_one = isinstance(challenge, str) and challenge.isascii() and len(challenge) <= _LONGEST_CHALLENGE
    return challenge if is_one else None


def _said(header: str, headers: Mapping[str, str]) -> str:
    value = headers.get(header.lower(), "")[:_LONGEST_HEADER] if header else ""
    return f"{header} (not signed): {value!r}\n" if value else ""
