"""The SDK's OAuth providers, one for each grant, joined with the token file and the loopback listener."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx2
from agentd._concurrency.pool import call_in_thread
from mcp.client.auth import OAuthClientProvider, OAuthFlowError
from mcp.client.auth.extensions.client_credentials import (
    ClientCredentialsOAuthProvider,
    PrivateKeyJWTOAuthProvider,
    SignedJWTParameters,
)
from mcp.client.auth.extensions.identity_assertion import IdentityAssertionOAuthProvider
from mcp.client.auth.utils import issuers_match, union_scopes
from mcp.shared.auth import (
    JWT_BEARER_GRANT_TYPE,
    AuthorizationCodeResult,
    OAuthClientInformationFull,
    OAuthClientMetadata,
)
from pydantic import AnyUrl

from agentd_mcp_bridge.callback import AuthorizationError, receive_answer
from agentd_mcp_bridge.oauth import OAuthSettings
from agentd_mcp_bridge.tokens import TokenFile, token_path, tokens_dir

__all__ = ["make_auth"]


def make_auth(server_url: str, settings: OAuthSettings) -> httpx2.Auth:
    """Make what authorises the HTTP requests to one MCP server, for the grant that `settings` names. Nothing is sent,
    opened or read yet.

    One object serves all connections to that server; it belongs to one event loop.

    :raises TokenFileError: if the stored tokens are not private to this user.
    """
    path = token_path(settings.tokens_dir or tokens_dir(), server_url, settings.client_id)
    if settings.grant == "authorization_code":
        return PersonAuth(server_url, settings, TokenFile(path, client=_registered(settings)))
    file = TokenFile(path)
    common: dict[str, Any] = {
        "server_url": server_url,
        "storage": file,
        "client_id": settings.client_id,
        "scope": settings.scope or None,
        "issuer": settings.issuer,
    }
    secret: dict[str, Any] = {
        "client_secret": settings.client_secret,
        "token_endpoint_auth_method": settings.token_endpoint_auth_method,
    }
    if settings.grant == "identity_assertion":
        return IdentityAssertionOAuthProvider(**common, **secret, assertion_provider=_assertion(settings))
    provider: OAuthClientProvider
    if settings.grant == "workload_identity":
        provider = WorkloadAuth(**common, assertion=_assertion(settings))
    elif settings.private_key:
        sign = SignedJWTParameters(
            issuer=settings.client_id,
            subject=settings.client_id,
            signing_key=settings.private_key,
            signing_algorithm=settings.signing_algorithm,
        )
        provider = PrivateKeyJWTOAuthProvider(**common, assertion_provider=sign.create_assertion_provider())
    else:
        provider = ClientCredentialsOAuthProvider(**common, **secret)
    file.context = provider.context
    return provider


class PersonAuth(OAuthClientProvider):
    """The authorization code grant: a person authorises in a browser, once; then tokens are refreshed."""

    def __init__(self, server_url: str, settings: OAuthSettings, file: TokenFile) -> None:
        self._file = file
        self._settings = settings
        self._url = ""
        self._redirect_uri = settings.redirect_uri or _redirect_uri_of(file)
        super().__init__(
            server_url,
            OAuthClientMetadata(
                client_name=settings.client_name,
                redirect_uris=[AnyUrl(self._redirect_uri)],
                scope=settings.scope or None,
            ),
            file,
            redirect_handler=self._remember,
            callback_handler=self._ask,
            client_metadata_url=settings.client_metadata_url or None,
        )
        file.context = self.context

    def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Authorise one request, with the tokens that another process may have refreshed meanwhile."""
        # Refresh tokens are often good for one use: the older of two copies would ask the person again.
        if not self.context.lock.locked() and (tokens := self._file.newer()) is not None:
            self.context.current_tokens = tokens
        return super().async_auth_flow(request)

    async def _perform_authorization(self) -> httpx2.Request:
        # The SDK puts what the server demands in the place of the scope that was asked for.
        metadata = self.context.client_metadata
        metadata.scope = union_scopes(metadata.scope, self._settings.scope or None)
        return await super()._perform_authorization()

    async def _remember(self, authorization_url: str) -> None:
        self._url = authorization_url

    async def _ask(self) -> AuthorizationCodeResult:
        _check_address(self._url)
        answer = await receive_answer(
            self._url,
            self._redirect_uri,
            announce=partial(_announce, self._settings, self.context.server_url),
            timeout_s=self._settings.timeout_s,
        )
        return AuthorizationCodeResult(code=answer.code, state=answer.state, iss=answer.issuer)


class WorkloadAuth(PrivateKeyJWTOAuthProvider):
    """The JWT bearer grant: a platform's own token for this workload is exchanged (RFC 7523, SEP-1933).

    The base class finds the authorization server, and makes sure that it is the one that was configured.
    """

    def __init__(
        self, *, assertion: Callable[[str, str], Awaitable[str]], issuer: str, **common: Any
    ) -> None:
        super().__init__(**common, issuer=issuer, assertion_provider=_never)
        self._assertion = assertion
        self._configured = issuer

    async def _perform_authorization(self) -> httpx2.Request:
        context = self.context
        metadata = context.oauth_metadata
        if metadata is None or not issuers_match(str(metadata.issuer), self._configured):
            raise OAuthFlowError(
                f"the MCP server leads to no authorization server that is {self._configured}"
            )
        resource = context.get_resource_url()
        form = {
            "grant_type": JWT_BEARER_GRANT_TYPE,
            "assertion": await self._assertion(self._configured, resource),
            "client_id": context.client_info.client_id if context.client_info is not None else "",
            "resource": resource,
        }
        if context.client_metadata.scope:
            form["scope"] = context.client_metadata.scope
        return httpx2.Request("POST", str(metadata.token_endpoint), data=form)


async def _never(audience: str) -> str:
    raise AssertionError("a workload signs nothing")


def _registered(settings: OAuthSettings) -> OAuthClientInformationFull | None:
    if not settings.client_id:
        return None
    return OAuthClientInformationFull(
        client_id=settings.client_id,
        client_secret=settings.client_secret or None,
        redirect_uris=None,
        token_endpoint_auth_method=settings.token_endpoint_auth_method if settings.client_secret else "none",
        issuer=settings.issuer or None,
    )


def _assertion(settings: OAuthSettings) -> Any:
    return settings.assertion


def _redirect_uri_of(file: TokenFile) -> str:
    """Return the redirect address that the client registered with before, or one with a free port."""
    known = file.registration()
    for uri in (known.redirect_uris or []) if known is not None else []:
        if uri.host == "127.0.0.1" and uri.port:
            return str(uri)
    with socket.socket() as probe:  # the registration needs the port before anybody is asked
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/callback"


def _check_address(url: str) -> None:
    """Refuse an address that a person must not be sent to; it comes from the MCP server's metadata."""
    parts = urlsplit(url)
    loopback = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if not (parts.scheme == "https" or (parts.scheme == "http" and loopback)) or not url.isprintable():
        raise AuthorizationError(
            f"the MCP server's authorization endpoint {parts.scheme}://{parts.netloc!r} is not https; nobody was asked"
        )


async def _announce(settings: OAuthSettings, server_url: str, url: str) -> None:
    if settings.open_url is not None:
        await call_in_thread(partial(settings.open_url, url), abandon=True, unbounded=True)
        return
    print(f"agentd: authorise {server_url} at:\n  {url}", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        import webbrowser

        await call_in_thread(partial(webbrowser.open, url), abandon=True, unbounded=True)
