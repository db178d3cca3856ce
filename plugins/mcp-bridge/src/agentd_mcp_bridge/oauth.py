"""OAuth for MCP servers over HTTP: what a user sets, and the `httpx2.Auth` that follows from it.

The flow itself (discovery, registration, PKCE, refresh; the MCP authorisation specification, RFC 9728,
RFC 8414, RFC 7591) is the SDK's. This module decides which grant, where tokens are kept and how a person
authorises. It is off unless a server is configured with `"auth": "oauth"` or `"oauth": {...}`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from urllib.parse import urlsplit

import attrs
from agentd.errors import ConfigError, suggest

if TYPE_CHECKING:
    pass

__all__ = ["Grant", "OAuthSettings", "SecretMethod", "oauth_settings"]

Grant = Literal["authorization_code", "client_credentials", "identity_assertion", "workload_identity"]
SecretMethod = Literal["client_secret_basic", "client_secret_post"]
_LOOPBACK: Final = ("127.0.0.1", "localhost")
_HTTP_URL: Final = re.compile(r"https?://[!-~]+")


def _web_address(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value and not _HTTP_URL.fullmatch(value):
        raise ConfigError(f"oauth.{attribute.name}: must be an http or https address, got {value!r}")


def _loopback_address(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if not value:
        return
    parts = urlsplit(value)
    if parts.scheme != "http" or parts.hostname not in _LOOPBACK or not parts.port:
        raise ConfigError(
            f"oauth.{attribute.name}: must be http://127.0.0.1:PORT/PATH (the browser brings the answer to this "
            f"machine, and to no other), got {value!r}"
        )


@attrs.frozen(kw_only=True)
class OAuthSettings:
    """How to authorise at one MCP server. Every field has a default: `"auth": "oauth"` is all defaults.

    `grant`: `authorization_code` (a person authorises in a browser; tokens are kept and refreshed),
    `client_credentials` (a machine with a secret or a signing key of its own), `identity_assertion` (an
    enterprise's identity provider vouches) or `workload_identity` (the platform that the program runs on
    does; both RFC 7523).

    `client_id`, `client_secret`: of a client that was registered by hand; without them the client registers
    itself, or names itself by `client_metadata_url`. `private_key` (PEM) and `signing_algorithm`: instead
    of a secret, for client_credentials. `token_endpoint_auth_method`: whether the secret goes into a header or
    into the form (`client_secret_post`). `issuer`: the authorisation server that these belong to; needed
    with any of them, because otherwise the MCP server would decide who receives them.

    `scope`: asked for beside what the server demands. `redirect_uri`: the loopback address for the
    browser's answer; by default a free port. `timeout_s`: seconds that a person has. `open_url`: called with
    the address to open (blocking is fine); by default it is printed to standard error, and opened in the
    browser as well if standard error is a terminal. `assertion`: for the last two grants, awaited with
    the issuer and the server's address, returns the assertion. `tokens_dir`: where the token files are, by
    default `$XDG_STATE_HOME/agentd/oauth`.
    """

    grant: Grant = "authorization_code"
    client_id: str = ""
    client_secret: str = attrs.field(default="", repr=False)
    private_key: str = attrs.field(default="", repr=False)
    signing_algorithm: str = "RS256"
    token_endpoint_auth_method: SecretMethod = "client_secret_basic"
    issuer: str = attrs.field(default="", validator=_web_address)
    scope: str = ""
    client_name: str = "agentd"
    client_metadata_url: str = attrs.field(default="", validator=_web_address)
    redirect_uri: str = attrs.field(default="", validator=_loopback_address)
    timeout_s: float = 300.0
    open_url: Callable[[str], object] | None = None
    assertion: Callable[[str, str], Awaitable[str]] | None = None
    tokens_dir: Path | None = None

    def __attrs_post_init__(self) -> None:
        for name, allowed in (
            ("grant", get_args(Grant)),
            ("token_endpoint_auth_method", get_args(SecretMethod)),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(
                    f"oauth.{name}: must be one of {', '.join(allowed)}, got {getattr(self, name)!r}"
                )
        if (self.client_secret or self.private_key) and not self.client_id:
            raise ConfigError("oauth.client_id: is needed with a client_secret or a private_key")
        if (self.client_secret or self.private_key) and not self.issuer:
            raise ConfigError(
                "oauth.issuer: is needed with a client_secret or a private_key (the address of the authorization "
                "server that they belong to): otherwise the MCP server decides who receives them"
            )
        if self.grant == "client_credentials" and not (self.client_secret or self.private_key):
            raise ConfigError("oauth.client_secret: client_credentials needs it, or else a private_key")
        if self.grant == "workload_identity" and not (self.client_id and self.issuer and self.assertion):
            raise ConfigError("oauth.assertion: workload_identity needs it, a client_id and an issuer")
        if self.grant == "identity_assertion" and not (self.client_secret and self.assertion):
            raise ConfigError("oauth.assertion: identity_assertion needs it, and a client_secret")

    @property
    def asks_a_person(self) -> bool:
        """Whether connecting may wait for somebody at a browser, for up to `timeout_s`."""
        return self.grant == "authorization_code"


_STRINGS: Final = tuple(f.name for f in attrs.fields(OAuthSettings) if isinstance(f.default, str))


def oauth_settings(spec: object) -> OAuthSettings:
    """Return the settings for what a user wrote: `True` or `"oauth"` (all defaults), or a table of them, which
    may stand under the key `oauth`.

    :raises ConfigError: naming the key, if one is unknown or has a value of the wrong type.
    """
    if isinstance(spec, OAuthSettings):
        return spec
    if isinstance(spec, Mapping) and spec.keys() == {"oauth"}:
        spec = spec["oauth"]
    if spec is True or spec == "oauth":
        return OAuthSettings()
    if not isinstance(spec, Mapping):
        raise ConfigError(f"oauth: must be true or a table of settings, got {type(spec).__name__}")
    known = [field.name for field in attrs.fields(OAuthSettings)]
    values: dict[str, Any] = {}
    for name, value in spec.items():
        if name not in known:
            raise ConfigError(
                f"oauth.{name}: unknown setting{suggest(str(name), known)}; there are: {', '.join(known)}"
            )
        values[name] = _checked(name, value)
    return OAuthSettings(**values)


def _checked(name: str, value: object) -> object:
    if name in _STRINGS and not isinstance(value, str):
        raise ConfigError(f"oauth.{name}: must be a text, got {type(value).__name__}")
    if name == "timeout_s" and (isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0):
        raise ConfigError(f"oauth.timeout_s: must be a number of seconds above 0, got {value!r}")
    if name in ("open_url", "assertion") and not callable(value):
        raise ConfigError(f"oauth.{name}: must be a function, got {type(value).__name__}")
    if name == "tokens_dir":
        if not isinstance(value, (str, Path)):
            raise ConfigError(f"oauth.tokens_dir: must be a path, got {type(value).__name__}")
        return Path(value).expanduser().absolute()
    return value
