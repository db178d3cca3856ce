"""An authorisation server and an MCP server that trusts it, on two loopback ports, made of the SDK's own parts."""

from __future__ import annotations

import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

import uvicorn
from mcp.server import MCPServer
from mcp.server.auth.provider import (
    AccessToken,
    AuthorizationCode,
    AuthorizationParams,
    IdentityAssertionParams,
    RefreshToken,
    TokenError,
)
from mcp.server.auth.routes import create_auth_routes
from mcp.server.auth.settings import AuthSettings, ClientRegistrationOptions
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyHttpUrl
from starlette.applications import Starlette

__all__ = ["Authority", "running_servers"]


class Authority:
    """Grants every request at once, and remembers what it did. Implements the SDK's provider and verifier."""

    def __init__(self) -> None:
        self.issuer = ""
        self.mcp_url = ""
        self.lifetime_s = 3600
        self.refuse = False
        self.clients: dict[str, OAuthClientInformationFull] = {}
        self.codes: dict[str, AuthorizationCode] = {}
        self.refreshable: dict[str, RefreshToken] = {}
        self.access: dict[str, AccessToken] = {}
        self.log: list[str] = []
        self.requests: list[str] = []
        """`METHOD path` of every request to the MCP server."""

    async def get_client(self, client_id: str) -> OAuthClientInformationFull | None:
        return self.clients.get(client_id)

    async def register_client(self, client_info: OAuthClientInformationFull) -> None:
        self.log.append("register")
        assert client_info.client_id
        self.clients[client_info.client_id] = client_info

    async def authorize(self, client: OAuthClientInformationFull, params: AuthorizationParams) -> str:
        self.log.append(f"authorize {' '.join(params.scopes or [])}".strip())
        if self.refuse:
            query = {
                "error": "access_denied",
                "error_description": "the person said no",
                "state": params.state,
            }
            return f"{params.redirect_uri}?{urlencode(query)}"
        code = secrets.token_urlsafe(24)
        self.codes[code] = AuthorizationCode(
            code=code,
            scopes=params.scopes or [],
            expires_at=time.time() + 60,
            client_id=client.client_id or "",
            code_challenge=params.code_challenge,
            redirect_uri=params.redirect_uri,
            redirect_uri_provided_explicitly=params.redirect_uri_provided_explicitly,
            resource=params.resource,
        )
        return f"{params.redirect_uri}?{urlencode({'code': code, 'state': params.state})}"

    async def load_authorization_code(self, client: Any, authorization_code: str) -> AuthorizationCode | None:
        return self.codes.get(authorization_code)

    async def exchange_authorization_code(
        self, client: Any, authorization_code: AuthorizationCode
    ) -> OAuthToken:
        del self.codes[authorization_code.code]
        self.log.append("exchange")
        return self._grant(authorization_code.client_id, authorization_code.scopes)

    async def load_refresh_token(self, client: Any, refresh_token: str) -> RefreshToken | None:
        return self.refreshable.get(refresh_token)

    async def exchange_refresh_token(
        self, client: Any, refresh_token: RefreshToken, scopes: list[str]
    ) -> OAuthToken:
        del self.refreshable[refresh_token.token]  # good for one use
        self.log.append("refresh")
        return self._grant(refresh_token.client_id, scopes)

    async def exchange_identity_assertion(
        self, client: OAuthClientInformationFull, params: IdentityAssertionParams
    ) -> OAuthToken:
        self.log.append(f"assertion {params.assertion}")
        if params.assertion != f"{self.issuer} vouches for {self.mcp_url}":
            raise TokenError("invalid_grant")
        return self._grant(client.client_id or "", params.scopes or [])

    async def revoke_token(self, token: AccessToken | RefreshToken) -> None:
        self.access.pop(token.token, None)

    async def load_access_token(self, token: str) -> AccessToken | None:
        found = self.access.get(token)
        return found if found is not None and (found.expires_at or 0) > time.time() else None

    async def verify_token(self, token: str) -> AccessToken | None:
        return await self.load_access_token(token)

    def _grant(self, client_id: str, scopes: list[str]) -> OAuthToken:
        access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        expires_at = int(time.time()) + self.lifetime_s
        self.access[access] = AccessToken(
            token=access, client_id=client_id, scopes=[*scopes, "use"], expires_at=expires_at
        )
        self.refreshable[refresh] = RefreshToken(token=refresh, client_id=client_id, scopes=scopes)
        return OAuthToken(
            access_token=access,
            refresh_token=refresh,
            expires_in=self.lifetime_s,
            scope=" ".join([*scopes, "use"]),
        )


@contextmanager
def running_servers() -> Iterator[Authority]:
    """Run both servers until the end of the block."""
    authority = Authority()
    with _bound() as for_authority, _bound() as for_mcp:
        authority.issuer = f"http://127.0.0.1:{for_authority.getsockname()[1]}/"
        authority.mcp_url = f"http://127.0.0.1:{for_mcp.getsockname()[1]}/mcp"
        routes = create_auth_routes(
            authority,  # type: ignore[arg-type]
            AnyHttpUrl(authority.issuer),
            client_registration_options=ClientRegistrationOptions(
                enabled=True, valid_scopes=["use", "read", "write"]
            ),
            identity_assertion_enabled=True,
        )
        with (
            _serving(Starlette(routes=routes), for_authority),
            _serving(_logged(_mcp_app(authority), authority.requests), for_mcp),
        ):
            yield authority


def _mcp_app(authority: Authority) -> Any:
    server = MCPServer(
        "guarded",
        auth=AuthSettings(
            issuer_url=AnyHttpUrl(authority.issuer),
            resource_server_url=AnyHttpUrl(authority.mcp_url),
            required_scopes=["use"],
            validate_token_resource=False,
        ),
        token_verifier=authority,
    )

    @server.tool()
    def secret() -> str:
        """Tell what only the authorised may know."""
        return "the cake is real"

    return server.streamable_http_app()


def _logged(app: Any, requests: list[str]) -> Any:
    async def logged(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            requests.append(f"{scope['method']} {scope['path']}")
        await app(scope, receive, send)

    return logged


@contextmanager
def _bound() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        yield bound


@contextmanager
def _serving(app: Any, bound: socket.socket) -> Iterator[None]:
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([bound],))
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()
