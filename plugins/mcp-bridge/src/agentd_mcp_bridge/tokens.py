"""The token file: what a person's authorisation at one MCP server gave, kept for the next start.

A file holds tokens and, if the client registered itself, its credentials; so it is private to its owner
(mode 0600 in a 0700 folder), and one that others could read or have planted is refused, never repaired.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import time
from hashlib import sha256
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from agentd.errors import AgentdError
from agentd.statedir import make_private, user_state_dir

if TYPE_CHECKING:
    from mcp.client.auth.oauth2 import OAuthContext
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
    from pydantic import BaseModel

__all__ = ["TokenFile", "TokenFileError", "token_path", "tokens_dir"]

_log: Final = logging.getLogger("agentd.mcp.oauth")
Model = TypeVar("Model", bound="BaseModel")
_VERSION: Final = 1
_MAX_BYTES: Final = 1024 * 1024


class TokenFileError(AgentdError, PermissionError):
    """A token file or its folder is not private to this user."""

    def __init__(self, path: Path, what: str, advice: str) -> None:
        self.path = path
        super().__init__(f"{path}: {what}; OAuth tokens are not read from or written to it: {advice}")


def tokens_dir() -> Path:
    """Return the user's folder of token files (`$XDG_STATE_HOME/agentd/oauth`); it need not exist."""
    return user_state_dir() / "oauth"


def token_path(folder: Path, server_url: str, client_id: str = "") -> Path:
    """Return the file for a server, and for a client that was registered by hand (`client_id`) its own."""
    host = re.sub(r"[^a-z0-9.-]", "-", (urlsplit(server_url).hostname or "server").lower())[:80]
    digest = sha256(f"{server_url}\n{client_id}".encode()).hexdigest()[:16]
    return folder / f"{host}-{digest}.json"


class TokenFile:
    """Keeps one server's tokens. Implements the SDK's `mcp.client.auth.TokenStorage`.

    Beside the tokens it keeps when they expire and where they came from; without these, the SDK would
    neither refresh after a restart nor know the token endpoint of a separate authorisation server.

    :param path: the file; its folder is made when something is first written.
    :param client: a client registered by hand; then no other registration is accepted or stored.
    :raises TokenFileError: from every method, if the file or its folder is not private.
    """

    def __init__(self, path: Path, *, client: OAuthClientInformationFull | None = None) -> None:
        self.path = path
        self.context: OAuthContext | None = None
        """The SDK's state of the flow, to be set right after its provider has been made."""
        self._client = client
        self._seen: tuple[int, int] | None = None

    # --- what the SDK calls --------------------------------------------------------------------

    async def get_tokens(self) -> OAuthToken | None:
        """Return the stored tokens and restore into the context what belongs to them."""
        return self._load(self._read())

    async def set_tokens(self, tokens: OAuthToken) -> None:
        """Store new tokens, with their expiry and origin."""
        data = self._read()
        data["tokens"] = tokens.model_dump(mode="json", exclude_none=True)
        data["expires_at"] = None if tokens.expires_in is None else time.time() + tokens.expires_in
        if (context := self.context) is not None:
            data["authorization_server"] = _dump(context.oauth_metadata)
            data["resource"] = _dump(context.protected_resource_metadata)
            data["issuer"] = context.auth_server_url
        self._write(data)

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        """Return the client registered by hand, or else the stored registration."""
        return self._client or self.registration()

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        """Store a new registration and forget the tokens of the one before."""
        if self._client is not None:
            from mcp.client.auth import OAuthFlowError

            raise OAuthFlowError(
                "the MCP server names another authorization server than the 'issuer' that "
                f"the client {self._client.client_id!r} belongs to; its credentials were not sent there"
            )
        self._write({"client": client_info.model_dump(mode="json", exclude_none=True)})

    # --- and the provider ----------------------------------------------------------------------

    def registration(self) -> OAuthClientInformationFull | None:
        """Return the stored registration of this client."""
        from mcp.shared.auth import OAuthClientInformationFull

        return _valid(OAuthClientInformationFull, self._read().get("client"))

    def newer(self) -> OAuthToken | None:
        """Return the tokens if another process (or connection) has written the file since it was last read."""
        try:
            status = self.path.lstat()
        except OSError:
            return None
        if (status.st_mtime_ns, status.st_ino) == self._seen:
            return None
        return self._load(self._read())

    # --- the file ------------------------------------------------------------------------------

    def _load(self, data: dict[str, Any]) -> OAuthToken | None:
        from mcp.shared.auth import OAuthMetadata, OAuthToken, ProtectedResourceMetadata

        tokens = _valid(OAuthToken, data.get("tokens"))
        if tokens is None:
            return None
        expires_at = data.get("expires_at")
        if isinstance(expires_at, (int, float)):
            tokens.expires_in = max(0, int(expires_at - time.time()))
        else:
            expires_at = None
        if (context := self.context) is not None:
            context.token_expiry_time = expires_at
            if context.oauth_metadata is None:
                context.oauth_metadata = _valid(OAuthMetadata, data.get("authorization_server"))
                context.protected_resource_metadata = _valid(ProtectedResourceMetadata, data.get("resource"))
                issuer = data.get("issuer")
                context.auth_server_url = issuer if isinstance(issuer, str) else None
        return tokens

    def _read(self) -> dict[str, Any]:
        if not self._check_folder():
            return {}
        try:
            # NOFOLLOW: a link is refused; NONBLOCK: a FIFO in its place must not hang the open
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise TokenFileError(self.path, f"cannot be opened ({error.strerror})", "remove it") from error
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_private(self.path, status, stat.S_ISREG, "a plain file", "chmod 600")
            content = file.read(_MAX_BYTES)
        self._seen = (status.st_mtime_ns, status.st_ino)
        try:
            data = json.loads(content)
        except ValueError:
            data = None
        if not isinstance(data, dict) or data.get("version") != _VERSION:
            _log.warning("%s is no token file of this version; it will be written anew", self.path)
            return {}
        return data

    def _write(self, data: dict[str, Any]) -> None:
        if not self._check_folder():
            make_private(self.path.parent)
            self._check_folder()
        content = json.dumps({**data, "version": _VERSION}, indent=1).encode()
        beside = self.path.with_name(f".{self.path.name}.{token_hex(8)}")
        descriptor = os.open(
            beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)  # a rotated refresh token is lost for good if this write is
            status = beside.lstat()
            beside.replace(self.path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        self._seen = (status.st_mtime_ns, status.st_ino)

    def _check_folder(self) -> bool:
        folder = self.path.parent
        try:
            status = folder.lstat()
        except FileNotFoundError:
            return False
        _check_private(folder, status, stat.S_ISDIR, "a folder", "chmod 700")
        return True


def _check_private(path: Path, status: os.stat_result, is_kind: Any, kind: str, command: str) -> None:
    if not is_kind(status.st_mode):
        raise TokenFileError(path, f"is not {kind} (links are not followed)", "remove it")
    if status.st_uid != os.geteuid():
        raise TokenFileError(path, f"belongs to the user {status.st_uid}", "remove it, or set XDG_STATE_HOME")
    if mode := stat.S_IMODE(status.st_mode) & 0o077:
        raise TokenFileError(
            path,
            f"is open to other users (mode {stat.S_IMODE(status.st_mode):04o}, of which {mode:03o} is too much)",
            f"if nobody else could have used it, run {command} {path}; otherwise remove it",
        )


def _dump(model: BaseModel | None) -> object:
    return None if model is None else model.model_dump(mode="json", exclude_none=True)


def _valid(kind: type[Model], data: object) -> Model | None:
    """Return `data` as the SDK's model `kind`, or None if it is absent or not valid any more."""
    if data is None:
        return None
    try:
        return kind.model_validate(data)
    except ValueError:  # pydantic's ValidationError is one
        _log.warning("a stored %s is not valid and is ignored", kind.__name__)
        return None
