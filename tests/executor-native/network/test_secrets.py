"""Secrets: code has placeholders, and the named hosts get the values, over TLS alone."""

from __future__ import annotations

import base64
import contextlib
import http.client
import select
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from agentd.errors import ConfigError
from agentd_executor_native.network import EgressLimits, HostSecrets, tunnel

if TYPE_CHECKING:
    from conftest import LoopbackServer, Proxied

    Proxy = Callable[..., Proxied]
    Serve = Callable[..., LoopbackServer]

VALUE = "v4lue-of-the-secret"


def says(answer: bytes) -> Callable[[socket.socket, bytes], None]:
    """Return a server's function that answers a request with this."""
    return lambda stream, data: stream.sendall(answer)


OK = says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def secrets_for(*hosts: str, value: str = VALUE) -> HostSecrets:
    """Return a secret `TOKEN` for hosts."""
    return HostSecrets.parse("secrets", {"TOKEN": {"hosts": list(hosts), "value": value}}, {})


def placeholder(secrets: HostSecrets) -> str:
    """Return what code sees of the secret."""
    return secrets.environment("/bundle")["TOKEN"]


@pytest.fixture
def asking(
    proxied: Proxy, client_tls: ssl.SSLContext, tmp_path: Path
) -> Callable[..., tuple[Proxied, ssl.SSLContext]]:
    """Make a proxy with secrets, and a client's side of TLS that trusts what the sandbox shows, and nothing else."""

    def make(secrets: HostSecrets, *entries: str, **options: object) -> tuple[Proxied, ssl.SSLContext]:
        proxy = proxied(*entries, secrets=secrets, **{"to_servers": client_tls, **options})
        bundle = proxy.egress.trusted_authorities()
        assert bundle is not None
        return proxy, ssl.create_default_context(cadata=bundle)

    return make


Asking = Callable[..., "tuple[Proxied, ssl.SSLContext]"]


def get(
    proxy: Proxied,
    tls: ssl.SSLContext,
    target: str,
    headers: dict[str, str],
    *,
    name: str = "",
    body: bytes = b"",
) -> http.client.HTTPResponse:
    """Ask a host through a tunnel and TLS, and return the answer, whole."""
    stream = tls.wrap_socket(proxy.tunnel(target), server_hostname=name or target.partition(":")[0])
    connection = http.client.HTTPConnection(target)
    connection.sock = stream
    connection.request("POST" if body else "GET", "/path?a=b", body=body or None, headers=headers)
    response = connection.getresponse()
    response.body = response.read()  # type: ignore[attr-defined]
    connection.close()
    return response


def basic(password: str) -> str:
    """Return the header of a user and a password."""
    return "Basic " + base64.b64encode(f"x-token:{password}".encode()).decode()


def test_the_host_gets_the_value_and_code_never_has_it(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    got: list[bytes] = []

    def keep(stream: socket.socket, data: bytes) -> None:
        while not data.endswith(token.encode()):  # the body
            data += stream.recv(65536)
        got.append(data)
        OK(stream, data)

    server = serve(keep, tls=server_tls)
    secrets = secrets_for(f"good.example:{server.port}")
    proxy, tls = asking(secrets)
    token = placeholder(secrets)
    assert VALUE not in token
    assert VALUE not in repr(secrets)
    target = f"good.example:{server.port}"
    response = get(
        proxy, tls, target, {"Authorization": f"Bearer {token}", "X-Other": token}, body=token.encode()
    )
    assert (response.status, response.body) == (200, b"ok")  # type: ignore[attr-defined]
    head, _, body = got[0].decode().partition("\r\n\r\n")
    assert head.split("\r\n")[:2] == ["POST /path?a=b HTTP/1.1", f"Host: {target}"]
    assert f"authorization: Bearer {VALUE}" in head
    assert f"x-other: {VALUE}" in head
    assert token not in head
    assert VALUE not in body


def test_it_is_found_in_a_users_password_as_git_sends_it(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    server = serve(OK, tls=server_tls)
    secrets = secrets_for(f"good.example:{server.port}")
    proxy, tls = asking(secrets)
    get(proxy, tls, f"good.example:{server.port}", {"Authorization": basic(placeholder(secrets))})
    assert f"authorization: {basic(VALUE)}" in server.first[0].decode()


@pytest.mark.parametrize("header", ["Basic !!!", "Basic", "Basic abc", "basic  eDp5", "Bearer none"])
def test_other_headers_arrive_as_they_are(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext, header: str
) -> None:
    server = serve(OK, tls=server_tls)
    proxy, tls = asking(secrets_for(f"good.example:{server.port}"))
    get(proxy, tls, f"good.example:{server.port}", {"Authorization": header})
    assert f"authorization: {header}\r\n" in server.first[0].decode()


def test_another_host_gets_the_placeholder_and_keeps_its_own_tls(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    good, other = serve(OK, tls=server_tls), serve(OK, tls=server_tls)
    secrets = secrets_for(f"good.example:{good.port}")
    proxy, tls = asking(secrets, f"other.example:{other.port}", f"good.example:{other.port}")
    headers = {"Authorization": f"Bearer {placeholder(secrets)}"}
    for name in ("other.example", "good.example"):  # the second: the same host at another port
        with pytest.raises(ssl.SSLCertVerificationError):
            get(proxy, tls, f"{name}:{other.port}", headers)
        get(proxy, client_tls, f"{name}:{other.port}", headers)
    assert all(VALUE.encode() not in first for first in other.first)
    assert sum(placeholder(secrets).encode() in first for first in other.first) == 2


def test_nothing_is_filled_in_without_tls(asking: Asking, serve: Serve) -> None:
    server, plain = serve(OK), serve(OK)
    secrets = secrets_for(f"good.example:{server.port}", f"good.example:{plain.port}")
    proxy, _ = asking(secrets)
    token = placeholder(secrets)
    url = f"http://good.example:{plain.port}/"
    answer = proxy.ask(
        f"GET {url} HTTP/1.1\r\nHost: good.example:{plain.port}\r\nAuthorization: {token}\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert token.encode() in plain.first[0]
    with proxy.tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n".encode())
        assert connection.recv(100) == tunnel.UNRECOGNIZED_NAME
    assert not server.connected


def test_a_server_that_cannot_show_who_it_is_gets_nothing(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    server = serve(OK, tls=server_tls)
    secrets = secrets_for(f"good.example:{server.port}", f"bad.example:{server.port}")
    trusting, tls = asking(secrets)  # the certificate is for good.example
    doubting, tls_too = asking(secrets, to_servers=ssl.create_default_context())
    headers = {"Authorization": placeholder(secrets)}
    for proxy, context, name in ((trusting, tls, "bad.example"), (doubting, tls_too, "good.example")):
        response = get(proxy, context, f"{name}:{server.port}", headers)
        assert response.status == 502
        assert b"its certificate is not valid" in response.body  # type: ignore[attr-defined]
    assert not any(server.first)


@pytest.mark.parametrize("name", ["other.example", "bad.example"])
def test_the_tunnel_is_for_its_host_alone(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext, name: str
) -> None:
    server = serve(OK, tls=server_tls)
    secrets = secrets_for(f"good.example:{server.port}", f"other.example:{server.port}")
    proxy, tls = asking(secrets)
    target = f"good.example:{server.port}"
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        get(proxy, tls, target, {}, name=name)
    response = get(proxy, tls, target, {"Host": f"{name}:{server.port}"})
    assert response.status == 403
    assert not server.connected


def test_what_is_refused_stays_refused(asking: Asking, serve: Serve, server_tls: ssl.SSLContext) -> None:
    server = serve(OK, tls=server_tls)
    proxy, _ = asking(secrets_for(f"*.good.example:{server.port}"))
    for host in ("good.example", "other.example", "127.0.0.1"):
        answer = proxy.ask(f"CONNECT {host}:{server.port} HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
    assert not server.connected


def both_ways(stream: ssl.SSLSocket, data: bytes, *, until: Callable[[bytes], bool]) -> bytes:
    """Send data while reading. By one thread: an SSL object may not be read and written by two at once."""
    stream.setblocking(False)
    left, got = memoryview(data), bytearray()
    while not until(bytes(got)):
        moved = False
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if left:
                left = left[stream.send(left[: 1 << 16]) :]
                moved = True
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            if not (block := stream.recv(1 << 20)):
                break
            got += block
            moved = True
        if not moved:
            select.select([stream], [stream] if left else [], [], 10)
    return bytes(got)


def test_many_bytes_go_both_ways_at_once(asking: Asking, serve: Serve, server_tls: ssl.SSLContext) -> None:
    data = bytes(range(256)) * 16384  # 4 MiB

    def mirror(stream: socket.socket, first: bytes) -> None:
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        body = first.partition(b"\r\n\r\n")[2]
        left = len(data)
        while left:
            body = body or stream.recv(65536)
            stream.sendall(body)
            left -= len(body)
            body = b""

    server = serve(mirror, tls=server_tls)
    proxy, tls = asking(secrets_for(f"good.example:{server.port}"))
    target = f"good.example:{server.port}"
    stream = tls.wrap_socket(proxy.tunnel(target), server_hostname="good.example")
    head = f"POST / HTTP/1.1\r\nHost: {target}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
    got = both_ways(stream, head + data, until=lambda got: len(got.partition(b"\r\n\r\n")[2]) >= len(data))
    stream.close()
    assert got.partition(b"\r\n\r\n")[2] == data


def test_a_handshake_that_does_not_get_finished_is_ended(asking: Asking, client_tls: ssl.SSLContext) -> None:
    proxy, _ = asking(secrets_for("good.example"), limits=EgressLimits(opening_s=0.2))
    client = client_tls.wrap_bio(ssl.MemoryBIO(), outgoing := ssl.MemoryBIO(), server_hostname="good.example")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with proxy.tunnel("good.example:443") as connection:
        connection.sendall(outgoing.read())
        while connection.recv(1 << 16):  # the proxy's part, and then the end
            pass


def test_two_sessions_have_nothing_in_common(
    asking: Asking, serve: Serve, server_tls: ssl.SSLContext
) -> None:
    server = serve(OK, tls=server_tls)
    target = f"good.example:{server.port}"
    first, second = secrets_for(target), secrets_for(target)
    assert placeholder(first) != placeholder(second)
    proxy, _ = asking(first)
    _, tls = asking(second)
    with pytest.raises(ssl.SSLCertVerificationError):
        get(proxy, tls, target, {})


# --- the option


def test_the_value_may_come_from_the_hosts_environment() -> None:
    secrets = HostSecrets.parse("secrets", {"TOKEN": {"hosts": ["good.example"]}}, {"TOKEN": VALUE})
    assert secrets.entries[0].value == VALUE
    environment = secrets.environment("/etc/agentd/authorities.pem")
    assert environment["SSL_CERT_FILE"] == environment["NODE_EXTRA_CA_CERTS"] == "/etc/agentd/authorities.pem"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["TOKEN"], "secrets: must be a mapping, got list"),
        ({"A-B": {"hosts": ["good.example"]}}, "secrets: 'A-B' is not the name of an environment variable"),
        ({"TOKEN": ["good.example"]}, "must be a mapping with 'hosts'"),
        ({"TOKEN": {"hosts": []}}, "must be a mapping with 'hosts'"),
        ({"TOKEN": {"hosts": ["good.example"], "header": "x"}}, "got keys 'hosts', 'header'"),
        ({"TOKEN": {"hosts": ["good.example"]}}, "no value: give 'value', or set the variable TOKEN"),
        ({"TOKEN": {"hosts": ["*.com"], "value": "x"}}, "a whole top-level domain"),
        ({"TOKEN": {"hosts": ["10.0.0.5"], "value": "x"}}, "must be names"),
        ({"TOKEN": {"hosts": "good.example", "value": "x"}}, "must be a list of hosts"),
    ],
)
def test_what_is_wrong_with_the_option_is_told(given: object, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        HostSecrets.parse("secrets", given, {})  # type: ignore[arg-type]
    assert message in str(raised.value)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\0", "é", "a\n", " a"])
def test_a_value_that_no_header_can_hold_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigError, match="no header can hold") as raised:
        secrets_for("good.example", value=f"hidden{value}" if value != " a" else value)
    assert "hidden" not in str(raised.value)


def test_without_the_package_that_makes_certificates_the_error_says_so(
    proxied: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(ConfigError, match="pip install cryptography"):
        proxied(secrets=secrets_for("good.example"))
    assert proxied(secrets=HostSecrets()).egress.trusted_authorities() is None
