"""OAuth at a real authorisation server: what the person does, what is kept, and who may not interfere."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import anyio
import httpx2
import pytest
from agentd.errors import ConfigError
from agentd_mcp_bridge.callback import Answer, AuthorizationError, receive_answer
from agentd_mcp_bridge.errors import McpServerError
from agentd_mcp_bridge.oauth import OAuthSettings, oauth_settings
from agentd_mcp_bridge.providers import make_auth
from agentd_mcp_bridge.source import McpSource
from agentd_mcp_bridge.targets import read_target
from agentd_mcp_bridge.tokens import TokenFile, TokenFileError, token_path, tokens_dir
from authorization_server import Authority, running_servers
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthToken
from pydantic import AnyUrl


@pytest.fixture(scope="module")
def servers() -> Iterator[Authority]:
    with running_servers() as authority:
        yield authority


@pytest.fixture
def authority(servers: Authority) -> Authority:
    servers.lifetime_s, servers.refuse = 3600, False
    servers.log.clear()
    servers.requests.clear()
    return servers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "oauth"


class Browser:
    """A person who opens every address and authorises; counts how often it was asked to."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.page = ""

    def __call__(self, url: str) -> None:
        self.opened.append(url)
        with urlopen(url, timeout=10) as response:
            self.page = response.read().decode()


async def call_secret(authority: Authority, settings: OAuthSettings, auth: httpx2.Auth | None = None) -> str:
    """Connect, call the tool, disconnect; return what it said."""
    auth = auth or make_auth(authority.mcp_url, settings)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=20) as http,
        Client(streamable_http_client(authority.mcp_url, http_client=http), mode="legacy") as client,
    ):
        result = await client.call_tool("secret", {})
        return str(result.content[0].text)  # type: ignore[union-attr]


def failure(authority: Authority, settings: OAuthSettings) -> str:
    """Return with which words connecting fails; the SDK wraps the error into groups."""
    try:
        anyio.run(call_secret, authority, settings)
    except BaseExceptionGroup as error:
        inner: BaseException = error
        while isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        return str(inner)
    except Exception as error:
        return str(error)
    raise AssertionError("connecting did not fail")


# --- a person authorises ---------------------------------------------------------------------------


def test_a_person_authorises_once_and_the_next_start_needs_nobody(authority: Authority, folder: Path) -> None:
    browser = Browser()
    settings = OAuthSettings(open_url=browser, tokens_dir=folder)
    assert anyio.run(call_secret, authority, settings) == "the cake is real"
    assert "You may close this tab" in browser.page
    assert anyio.run(call_secret, authority, settings) == "the cake is real"
    assert len(browser.opened) == 1
    assert authority.log == ["register", "authorize use", "exchange"]


def test_the_flow_works_on_trio_as_well(authority: Authority, folder: Path) -> None:
    settings = OAuthSettings(open_url=Browser(), tokens_dir=folder)

    async def main() -> int:
        auth = make_auth(authority.mcp_url, settings)
        async with httpx2.AsyncClient(auth=auth, timeout=20) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
            accept = {"accept": "application/json, text/event-stream"}
            return (await http.post(authority.mcp_url, json=body, headers=accept)).status_code

    assert anyio.run(main, backend="trio") != 401
    assert authority.log[-1] == "exchange"


def test_an_expired_token_is_refreshed_after_a_restart_at_the_authorization_server(
    authority: Authority, folder: Path
) -> None:
    browser = Browser()
    settings = OAuthSettings(open_url=browser, tokens_dir=folder)
    authority.lifetime_s = 2
    anyio.run(call_secret, authority, settings)
    _expire(folder)
    authority.lifetime_s = 3600
    authority.requests.clear()
    assert anyio.run(call_secret, authority, settings) == "the cake is real"
    assert authority.log[-1] == "refresh"
    assert len(browser.opened) == 1
    assert {path for _, path in map(str.split, authority.requests)} == {"/mcp"}, (
        "the refresh token went astray"
    )


def test_a_token_that_another_process_refreshed_is_taken_from_the_file(
    authority: Authority, folder: Path
) -> None:
    browser = Browser()
    settings = OAuthSettings(open_url=browser, tokens_dir=folder)

    async def main() -> None:
        first, second = make_auth(authority.mcp_url, settings), make_auth(authority.mcp_url, settings)
        await call_secret(authority, settings, first)
        await call_secret(authority, settings, second)
        _expire(folder)
        await call_secret(authority, settings, first)  # refreshes, and the old refresh token is void
        await call_secret(authority, settings, second)

    anyio.run(main)
    assert authority.log.count("refresh") == 1
    assert len(browser.opened) == 1


def test_the_scope_that_the_user_wants_is_asked_for_beside_what_the_server_demands(
    authority: Authority, folder: Path
) -> None:
    redirect_uri = f"http://127.0.0.1:{_free_port()}/back"
    _register_by_hand(authority, "use read", redirect_uri)
    settings = OAuthSettings(
        open_url=Browser(),
        tokens_dir=folder,
        scope="read",
        client_id="by-hand",
        client_secret="hush",
        issuer=authority.issuer,
        redirect_uri=redirect_uri,
    )
    anyio.run(call_secret, authority, settings)
    assert "register" not in authority.log
    asked = next(line for line in authority.log if line.startswith("authorize"))
    assert set(asked.split()[1:]) == {"use", "read"}


def test_a_refusal_is_told_in_the_servers_words(authority: Authority, folder: Path) -> None:
    authority.refuse = True
    settings = OAuthSettings(open_url=Browser(), tokens_dir=folder)
    assert "access_denied: the person said no" in failure(authority, settings)
    assert "exchange" not in authority.log


def test_a_browser_that_cannot_be_opened_is_told(authority: Authority, folder: Path) -> None:
    def no_browser(url: str) -> None:
        raise OSError("no display")

    settings = OAuthSettings(open_url=no_browser, tokens_dir=folder)
    assert "could not be opened: no display" in failure(authority, settings)


def test_by_default_the_address_is_printed_and_no_browser_opened(
    authority: Authority, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import webbrowser

    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    settings = OAuthSettings(tokens_dir=folder, timeout_s=0.2)
    assert "nobody authorised within 0.2 s" in failure(authority, settings)
    shown = capsys.readouterr().err
    assert f"authorise {authority.mcp_url} at:" in shown
    assert f"{authority.issuer}authorize?" in shown
    assert opened == []


def test_an_authorization_server_other_than_the_issuer_gets_no_credentials(
    authority: Authority, folder: Path
) -> None:
    settings = OAuthSettings(
        open_url=Browser(),
        tokens_dir=folder,
        client_id="by-hand",
        client_secret="hush",
        issuer="https://login.example.org",
    )
    assert "another authorization server than the 'issuer'" in failure(authority, settings)
    assert "exchange" not in authority.log


def test_an_identity_provider_can_vouch(authority: Authority, folder: Path) -> None:
    async def vouch(issuer: str, resource: str) -> str:
        return f"{issuer} vouches for {resource}"

    _register_by_hand(authority, "use")
    settings = OAuthSettings(
        grant="identity_assertion",
        client_id="by-hand",
        client_secret="hush",
        issuer=authority.issuer,
        assertion=vouch,
        tokens_dir=folder,
    )
    assert anyio.run(call_secret, authority, settings) == "the cake is real"
    assert authority.log == [f"assertion {authority.issuer} vouches for {authority.mcp_url}"]


@pytest.mark.parametrize("grant", ["client_credentials", "workload_identity"])
def test_a_machines_credentials_go_to_its_own_authorization_server_alone(
    authority: Authority, folder: Path, grant: Any
) -> None:
    asked: list[str] = []

    async def token(issuer: str, resource: str) -> str:
        asked.append(issuer)
        return "token of the platform"

    settings = OAuthSettings(
        grant=grant,
        client_id="machine",
        client_secret="hush" if grant == "client_credentials" else "",
        issuer="https://login.example.org",
        assertion=token,
        tokens_dir=folder,
    )
    assert "https://login.example.org" in failure(authority, settings)
    assert asked == []
    assert authority.log == []


# --- as a user configures it -------------------------------------------------------------------------


def test_a_servers_entry_with_oauth_settings_gives_its_tools_to_the_code(
    authority: Authority, folder: Path
) -> None:
    browser = Browser()

    async def main() -> object:
        (config,) = (
            read_target({"url": authority.mcp_url, "auth": {"open_url": browser, "tokens_dir": str(folder)}})
            or []
        )
        assert config.start_timeout_s > 300, "a person needs time"
        source = McpSource(config)
        try:
            assert [spec.name for spec in await source.list_tools()] == ["secret"]
            return await source.call("secret", {})
        finally:
            await source.aclose()

    assert anyio.run(main) == "the cake is real"
    assert len(browser.opened) == 1


def test_without_auth_nothing_is_opened_or_listened_on(authority: Authority) -> None:
    async def main() -> None:
        (config,) = read_target({"url": authority.mcp_url}) or []
        source = McpSource(config)
        try:
            await source.list_tools()
        finally:
            await source.aclose()

    with pytest.raises(McpServerError, match=r"HTTP 401.*\"auth\": \"oauth\""):
        anyio.run(main)
    assert authority.log == []


# --- the listener ------------------------------------------------------------------------------------


def ask(announce: Callable[[str], None], port: int, *, timeout_s: float = 20.0) -> Answer:
    """Run `receive_answer` on `port`, with `announce` in a thread of its own."""

    async def announced(url: str) -> None:
        await anyio.to_thread.run_sync(announce, url)

    async def main() -> Answer:
        return await receive_answer(
            "https://login.example.org/authorize?state=right",
            f"http://127.0.0.1:{port}/callback",
            announce=announced,
            timeout_s=timeout_s,
        )

    return anyio.run(main)


def fetch(port: int, target: str, host: str = "127.0.0.1") -> int:
    try:
        with urlopen(f"http://{host}:{port}{target}", timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


def test_wrong_states_paths_and_junk_are_refused_and_the_right_answer_still_counts() -> None:
    port, seen = _free_port(), []

    def announce(url: str) -> None:
        for junk in (b"\x16\x03\x01", b"GET http://[ HTTP/1.1\r\n\r\n", b"A" * 20_000):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(junk)
        seen.append(fetch(port, "/callback?code=evil&state=wrong"))
        seen.append(fetch(port, "/callback?code=evil"))
        seen.append(fetch(port, "/other?code=evil&state=right"))
        seen.append(fetch(port, "/callback?code=good&state=right&iss=https%3A%2F%2Flogin.example.org"))

    assert ask(announce, port) == Answer("good", "right", "https://login.example.org")
    assert seen == [400, 400, 404, 200]


def test_the_listener_is_on_loopback_alone_and_gone_after_the_answer() -> None:
    port, addresses = _free_port(), []

    def announce(url: str) -> None:
        addresses.extend(_listening(port))
        fetch(port, "/callback?code=good&state=right")

    ask(announce, port)
    assert addresses == ["127.0.0.1"]
    assert _listening(port) == []


def test_without_an_answer_the_listener_ends_in_time() -> None:
    port = _free_port()
    with pytest.raises(AuthorizationError, match=r"nobody authorised within 0\.1 s at login\.example\.org"):
        ask(lambda url: None, port, timeout_s=0.1)
    assert _listening(port) == []


def test_a_taken_port_is_named() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(AuthorizationError, match=f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}"),
    ):
        ask(lambda url: None, taken.getsockname()[1])


def test_a_person_is_not_sent_to_an_address_without_https(folder: Path) -> None:
    from agentd_mcp_bridge.providers import _check_address

    for bad in ("http://login.example.org/authorize?state=x", "file:///etc/passwd", "javascript:alert(1)"):
        with pytest.raises(AuthorizationError, match="nobody was asked"):
            _check_address(bad)
    _check_address("https://login.example.org/authorize?state=x")
    _check_address("http://localhost:9000/authorize?state=x")


# --- the token file ----------------------------------------------------------------------------------

TOKENS = OAuthToken(access_token="key", refresh_token="again", expires_in=3600, scope="use")


def stored(folder: Path, url: str = "https://mcp.example.org/mcp") -> TokenFile:
    """Return a token file with `TOKENS` in it."""
    file = TokenFile(token_path(folder, url))
    anyio.run(file.set_tokens, TOKENS)
    return file


def test_tokens_are_kept_in_a_private_file_of_a_private_folder(folder: Path) -> None:
    before = os.umask(0)
    try:
        file = stored(folder)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [path.name for path in folder.iterdir()] == [file.path.name], "a temporary file is left"
    read = anyio.run(TokenFile(file.path).get_tokens)
    assert read is not None
    assert (read.access_token, read.refresh_token) == ("key", "again")


def test_each_server_and_each_client_has_a_file_of_its_own(folder: Path) -> None:
    paths = {
        token_path(folder, "https://a.example.org/mcp"),
        token_path(folder, "https://a.example.org/other"),
        token_path(folder, "https://a.example.org/mcp", "by-hand"),
        token_path(folder, "https://../../etc/mcp"),
    }
    assert len(paths) == 4
    assert {path.parent for path in paths} == {folder}


def test_the_folder_follows_the_users_state_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert tokens_dir() == tmp_path / "agentd" / "oauth"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert tokens_dir() == Path.home() / ".local" / "state" / "agentd" / "oauth"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o622])
def test_a_file_that_others_can_use_is_refused(folder: Path, mode: int) -> None:
    file = stored(folder)
    file.path.chmod(mode)
    with pytest.raises(TokenFileError, match=rf"mode {mode:04o}.*chmod 600"):
        anyio.run(file.get_tokens)
    with pytest.raises(TokenFileError):
        anyio.run(file.set_tokens, TOKENS)


def test_a_folder_that_others_can_enter_is_refused(folder: Path) -> None:
    file = stored(folder)
    folder.chmod(0o755)
    with pytest.raises(TokenFileError, match=r"mode 0755.*chmod 700"):
        anyio.run(file.get_tokens)


def test_links_are_refused(folder: Path, tmp_path: Path) -> None:
    file = stored(folder)
    file.path.rename(tmp_path / "elsewhere.json")
    file.path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(TokenFileError):
        anyio.run(file.get_tokens)
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    with pytest.raises(TokenFileError, match="links are not followed"):
        anyio.run(file.set_tokens, TOKENS)


def test_a_fifo_in_the_place_of_the_file_hangs_nothing(folder: Path) -> None:
    file = stored(folder)
    file.path.unlink()
    os.mkfifo(file.path, 0o600)
    with pytest.raises(TokenFileError, match="not a plain file"):
        anyio.run(file.get_tokens)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(folder: Path) -> None:
    file = stored(folder)
    os.chown(file.path, 65534, -1)
    with pytest.raises(TokenFileError, match="belongs to the user 65534"):
        anyio.run(file.get_tokens)


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"version": 1, "tokens": {"access_token": 5}}', '{"version": 9}']
)
def test_a_damaged_file_counts_as_none_and_is_written_anew(folder: Path, content: str) -> None:
    file = stored(folder)
    file.path.write_text(content)
    assert anyio.run(file.get_tokens) is None
    anyio.run(file.set_tokens, TOKENS)
    assert anyio.run(file.get_tokens) is not None


def test_a_reader_never_sees_half_a_file(folder: Path) -> None:
    file = stored(folder)
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            token = OAuthToken(access_token=str(number) * 20_000)
            anyio.run(file.set_tokens, token)
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while not done.is_set():
            json.loads(file.path.read_bytes())
    finally:
        writer.join()


def test_a_new_registration_forgets_the_tokens_of_the_old_one(folder: Path) -> None:
    file = stored(folder)
    anyio.run(file.set_client_info, OAuthClientInformationFull(client_id="new", redirect_uris=None))
    assert anyio.run(file.get_tokens) is None
    client = anyio.run(TokenFile(file.path).get_client_info)
    assert client is not None
    assert client.client_id == "new"


# --- settings ----------------------------------------------------------------------------------------


def test_a_word_or_true_is_enough() -> None:
    assert oauth_settings("oauth") == oauth_settings(True) == oauth_settings({"oauth": {}}) == OAuthSettings()
    assert OAuthSettings().asks_a_person


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"scopes": "x"}, r"oauth\.scopes: unknown setting; did you mean 'scope'"),
        ({"scope": ["x"]}, r"oauth\.scope: must be a text, got list"),
        ({"timeout_s": 0}, r"oauth\.timeout_s: must be a number of seconds above 0"),
        ({"grant": "implicit"}, r"oauth\.grant: must be one of authorization_code"),
        ({"redirect_uri": "http://0.0.0.0:80/x"}, r"oauth\.redirect_uri: must be http://127\.0\.0\.1:PORT"),
        ({"client_id": "a", "client_secret": "hush"}, r"oauth\.issuer: is needed"),
        ({"grant": "client_credentials"}, r"oauth\.client_secret: client_credentials needs it"),
        ({"grant": "workload_identity", "client_id": "a"}, r"oauth\.assertion: workload_identity needs it"),
        ({"issuer": "ftp://x"}, r"oauth\.issuer: must be an http or https address"),
        ({"open_url": "firefox"}, r"oauth\.open_url: must be a function"),
        (["oauth"], "must be true or a table"),
    ],
)
def test_a_wrong_setting_is_named(table: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        oauth_settings(table)
    assert "hush" not in str(caught.value)


def test_secrets_do_not_show(authority: Authority) -> None:
    settings = OAuthSettings(client_id="a", client_secret="hush", private_key="PEM", issuer="https://x.org")
    assert "hush" not in repr(settings)
    assert "PEM" not in repr(settings)
    assert "c0de" not in repr(Answer("c0de", "state"))


# --- small things ------------------------------------------------------------------------------------


def _expire(folder: Path) -> None:
    """Make the stored token old, here and (as time would) at the server: nobody has to wait for it."""
    (path,) = folder.glob("*.json")
    data = json.loads(path.read_text())
    data["expires_at"] = time.time() - 10
    path.write_text(json.dumps(data))


def _register_by_hand(
    authority: Authority, scope: str, redirect_uri: str = "http://127.0.0.1:1/callback"
) -> None:
    authority.clients["by-hand"] = OAuthClientInformationFull(
        client_id="by-hand",
        client_secret="hush",
        redirect_uris=[AnyUrl(redirect_uri)],
        grant_types=["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
        token_endpoint_auth_method="client_secret_basic",
        scope=scope,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listening(port: int) -> list[str]:
    """The addresses on which somebody listens on `port`, from the kernel's own table."""
    found = []
    for line in (
        Path("/proc/net/tcp").read_text().splitlines()[1:]
        + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    ):
        local, state = line.split()[1], line.split()[3]
        address, _, number = local.partition(":")
        if int(number, 16) == port and state == "0A":
            found.append(socket.inet_ntoa(bytes.fromhex(address)[::-1]) if len(address) == 8 else address)
    return found
