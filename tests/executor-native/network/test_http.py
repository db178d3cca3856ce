"""Plain HTTP through the proxy: read and written anew, for the one host that it names."""

from __future__ import annotations

import contextlib
import socket
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from agentd_executor_native.network import EgressLimits, tunnel

if TYPE_CHECKING:
    from conftest import LoopbackServer, Proxied

    Proxy = Callable[..., Proxied]
    Serve = Callable[..., LoopbackServer]

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def says(answer: bytes) -> Callable[[socket.socket, bytes], None]:
    """Return a server's function that answers each request with this."""

    def serve(stream: socket.socket, data: bytes) -> None:
        stream.sendall(answer)

    return serve


@pytest.fixture
def web(serve: Serve) -> LoopbackServer:
    """A server that answers 200."""
    return serve(says(OK))


@pytest.fixture
def http_port(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a port count as 80 for tunnels."""
    return lambda port: monkeypatch.setattr(tunnel, "HTTP_PORT", port)


def head(port: int, *lines: str, target: str = "", version: str = "1.1", method: str = "GET") -> str:
    """Return a request's head."""
    target = target or f"http://good.example:{port}/a?b=c"
    return "\r\n".join([f"{method} {target} HTTP/{version}", *lines, "", ""])


def test_a_request_goes_to_the_host_that_it_names(proxied: Proxy, web: LoopbackServer) -> None:
    proxy = proxied(f"good.example:{web.port}")
    answer = proxy.ask(head(web.port, f"Host: good.example:{web.port}", "Accept: x"))
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\nok")
    sent = web.first[0].decode().split("\r\n")
    assert sent == [
        "GET /a?b=c HTTP/1.1",
        f"Host: good.example:{web.port}",
        "accept: x",
        "Connection: close",
        "",
        "",
    ]


def test_headers_of_the_connection_and_of_proxies_go_no_further(proxied: Proxy, web: LoopbackServer) -> None:
    lines = [
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Connection: keep-alive",
        "Keep-Alive: 5",
        "TE: trailers",
    ]
    lines += [
        "Connection: X-Mine, Upgrade, host, keep-alive",
        "X-Mine: 1",
        "Upgrade: websocket",
        "HTTP2-Settings: x",
    ]
    proxied(f"good.example:{web.port}").ask(head(web.port, f"Host: good.example:{web.port}", *lines))
    sent = web.first[0].decode().lower()
    assert sent.count("\r\n") == 4
    assert "host: good.example" in sent


@pytest.mark.parametrize("host", ["GOOD.example:{port}", "good.example.:{port}"])
def test_another_spelling_of_the_host_is_written_anew(proxied: Proxy, web: LoopbackServer, host: str) -> None:
    host = host.format(port=web.port)
    answer = proxied(f"good.example:{web.port}").ask(head(web.port, f"Host: {host}", target=f"HTTP://{host}"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert web.first[0].startswith(f"GET / HTTP/1.1\r\nHost: good.example:{web.port}\r\n".encode())


@pytest.mark.parametrize("host", ["other.example", "good.example", "good.example:1", "127.0.0.1:{port}"])
def test_a_host_header_that_says_something_else_is_refused(
    proxied: Proxy, web: LoopbackServer, host: str
) -> None:
    proxy = proxied(f"good.example:{web.port}", f"other.example:{web.port}")
    answer = proxy.ask(head(web.port, f"Host: {host.format(port=web.port)}"))
    assert answer.startswith(b"HTTP/1.1 403 the request names more than one host")
    assert not web.connected


def test_a_host_that_is_not_allowed_is_refused_with_a_sentence(proxied: Proxy, web: LoopbackServer) -> None:
    answer = proxied("good.example").ask(head(web.port, f"Host: good.example:{web.port}"))
    sentence = f"good.example:{web.port} is not in allowed_hosts"
    assert answer.startswith(f"HTTP/1.1 403 {sentence}\r\n".encode())
    assert answer.endswith(f"agentd: {sentence}\n".encode())
    assert not web.connected


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET https://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET ftp://good.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http://good.example@other.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http://good.example\\@other.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http://good.example#@other.example/ HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http:///x HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http://good.example/ HTTP/1.1\r\n\r\n", 400),
        (b"GET http://good.example/ HTTP/1.1\r\nHost: good.example\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http://good.example/ HTTP/1.1\r\nHost : good.example\r\n\r\n", 400),
        (b"GET http://good.example/\0 HTTP/1.1\r\nHost: good.example\r\n\r\n", 400),
        (b"GET http://good.example/ HTTP/1.1\r\nHost: good.example\0x\r\n\r\n", 400),
        (b"GET http://good.example/ HTTP/1.1\nHost: good.example\r\nX: a\rb: c\r\n\r\n", 400),
        (b"POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\nContent-Length: 1, 2\r\n\r\n", 400),
        (b"POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\nContent-Length: +1\r\n\r\n", 400),
        (b"POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
        (b"POST http://good.example/ HTTP/1.1\r\nHost: good.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET http://good.example/" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: good.example\r\n\r\n", 431),
        (b"CONNECT good.example:443 HTTP/1.1\r\nHost: good.example\r\nContent-Length: 5\r\n\r\nhello", 400),
        (b"\x16\3\1\2\0\1\0", 400),
        (b"\4\1\0\x50\x7f\0\0\1\0", 400),
        (b"\r\n\r\nnonsense\r\n\r\n", 400),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(proxied: Proxy, request_: bytes, status: int) -> None:
    asked: list[str] = []
    proxy = proxied("good.example", "other.example", resolve=lambda name, port: asked.append(name) or [])
    answer = proxy.ask(request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert asked == []


def test_the_bound_of_heads_can_be_set_and_holds_for_answers_too(proxied: Proxy, serve: Serve) -> None:
    server = serve(says(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: " + b"x" * 3000 + b"\r\n\r\nok"))
    request = head(server.port, f"Host: good.example:{server.port}")
    assert proxied(f"good.example:{server.port}").ask(request).startswith(b"HTTP/1.1 200 ")
    small = proxied(f"good.example:{server.port}", limits=EgressLimits(head_bytes=1000))
    assert small.ask(request).startswith(b"HTTP/1.1 502 ")
    long = head(server.port, f"Host: good.example:{server.port}", "X: " + "x" * 3000)
    assert small.ask(long).startswith(b"HTTP/1.1 431 ")


def test_a_length_beside_chunks_does_not_reach_the_server(proxied: Proxy, web: LoopbackServer) -> None:
    lines = [f"Host: good.example:{web.port}", "Content-Length: 4", "Transfer-Encoding: chunked"]
    body = "3\r\nabc\r\n0\r\n\r\n"
    proxied(f"good.example:{web.port}").ask(head(web.port, *lines, method="POST") + body)
    assert b"content-length" not in web.first[0].lower()
    assert b"transfer-encoding: chunked\r\n" in web.first[0].lower()


def test_what_follows_a_request_is_a_request_of_its_own(proxied: Proxy, web: LoopbackServer) -> None:
    proxy = proxied(f"good.example:{web.port}")
    one = head(web.port, f"Host: good.example:{web.port}", "Content-Length: 5", method="POST")
    smuggled = "GET /secret HTTP/1.1\r\nHost: other.example\r\n\r\n"
    answer = proxy.ask(one + "12345" + smuggled)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"ok" in answer
    assert b"HTTP/1.1 400 " in answer
    assert web.connected == 1


def test_an_answer_before_all_of_the_request_arrives_and_ends_the_connection(
    proxied: Proxy, serve: Serve
) -> None:
    server = serve(says(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"))
    request = head(server.port, f"Host: good.example:{server.port}", "Content-Length: 5000000", method="POST")
    with proxied(f"good.example:{server.port}").connect() as connection:
        connection.sendall(request.encode() + b"x" * 1000)
        got = b""
        while block := connection.recv(1000):
            got += block
            with contextlib.suppress(ConnectionError):
                connection.sendall(b"x" * 1000)
    assert got.startswith(b"HTTP/1.1 413 ")
    assert got.endswith(b"big")


def test_requests_one_after_the_other_share_the_clients_connection(
    proxied: Proxy, web: LoopbackServer
) -> None:
    request = head(web.port, f"Host: good.example:{web.port}")
    proxy = proxied(f"good.example:{web.port}")
    assert proxy.ask(request * 3).count(b"HTTP/1.1 200 OK") == 3
    assert web.connected == 3


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", b"abc"),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (b"HTTP/1.1 404 Nope\r\nContent-Length: 4\r\nProxy-Authenticate: Basic\r\n\r\nnope", b"nope"),
    ],
)
def test_answers_come_back_whole(proxied: Proxy, serve: Serve, answer: bytes, body: bytes) -> None:
    import http.client

    server = serve(says(answer))
    connection = http.client.HTTPConnection(
        "127.0.0.1", proxied(f"good.example:{server.port}").port, timeout=10
    )
    connection.request("GET", f"http://good.example:{server.port}/")
    response = connection.getresponse()
    assert response.read() == body
    assert response.status == int(answer.split()[1]) or response.status == 200
    assert response.headers["Proxy-Authenticate"] is None
    connection.close()


def test_an_answer_that_breaks_off_is_not_made_whole(proxied: Proxy, serve: Serve) -> None:
    server = serve(says(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"))
    request = head(server.port, f"Host: good.example:{server.port}")
    answer = proxied(f"good.example:{server.port}").ask(request)
    assert answer.lower().count(b"content-length: 100") == 1
    assert answer.endswith(b"only this")


@pytest.mark.parametrize(
    "answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nraw"]
)
def test_an_answer_that_is_no_answer_is_told(proxied: Proxy, serve: Serve, answer: bytes) -> None:
    server = serve(says(answer))
    request = head(
        server.port, f"Host: good.example:{server.port}", "Upgrade: websocket", "Connection: upgrade"
    )
    answered = proxied(f"good.example:{server.port}").ask(request)
    assert answered.startswith(b"HTTP/1.1 502 ")
    assert b"raw" not in answered


def test_a_body_is_sent_once_the_server_wants_it(proxied: Proxy, serve: Serve) -> None:
    def picky(stream: socket.socket, data: bytes) -> None:
        assert b"\r\n\r\n" in data
        stream.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + stream.recv(4, socket.MSG_WAITALL))

    server = serve(picky)
    proxy = proxied(f"good.example:{server.port}")
    lines = [
        f"Host: good.example:{server.port}",
        "Content-Length: 4",
        "Expect: 100-continue",
        "Connection: close",
    ]
    with proxy.connect() as connection:
        connection.sendall(head(server.port, *lines, method="PUT").encode())
        assert connection.recv(21) == b"HTTP/1.1 100 \r\n\r\n"
        connection.sendall(b"body")
        got = b""
        while block := connection.recv(1000):
            got += block
    assert got.endswith(b"\r\n\r\nbody")


# --- tunnels that speak HTTP


@pytest.mark.parametrize("is_80", [True, False])
def test_http_in_a_tunnel_is_for_the_tunnels_host(
    proxied: Proxy, web: LoopbackServer, http_port: Any, is_80: bool
) -> None:
    http_port(web.port if is_80 else 80)
    proxy = proxied(f"good.example:{web.port}", f"other.example:{web.port}")
    good, other = f"good.example:{web.port}", f"other.example:{web.port}"
    for target, host, status in [
        ("/x", good, b"200 OK"),
        (f"http://{good}/x", good, b"200 OK"),
        ("/x", other, b"403 the request names"),
        (f"http://{other}/x", other, b"403 the request names"),
        (f"http://{good}/x", other, b"403 the request names"),
    ]:
        with proxy.tunnel(good) as connection:
            connection.sendall(head(web.port, f"Host: {host}", "Connection: close", target=target).encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 " + status)
    code, connection = proxy.socks(b"\3\x0cgood.example", web.port)
    with connection:
        assert code == 0
        connection.sendall(head(web.port, f"Host: {other}", target="/").encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 403 ")
    assert all(b"other" not in first for first in web.first)


@pytest.mark.parametrize("is_80", [True, False])
@pytest.mark.parametrize(
    "start",
    [
        "CONNECT {other} HTTP/1.1\r\nHost: {other}\r\n\r\n",
        "\r\n\r\n  GET / HTTP/1.1\r\nHost: {other}\r\n\r\n",
        "GET\t/ HTTP/1.1\r\nHost: {other}\r\n\r\n",
        "GET /\0\x01 HTTP/1.1\r\nHost: {other}\r\n\r\n",
        "GET /é http/1.1\r\nHost: {other}\r\n\r\n",
        "get / HTTP/1.1\nHost: {other}\n\n",
        "GET / HTTP/1.1\rHost: {other}\r\r",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /" + "a" * 9000 + " HTTP/1.1\r\nHost: {other}\r\n\r\n",
    ],
)
def test_no_other_spelling_of_http_gets_through_a_tunnel(
    proxied: Proxy, serve: Serve, http_port: Any, is_80: bool, start: str
) -> None:
    server = serve(says(OK))
    http_port(server.port if is_80 else 80)
    proxy = proxied(f"good.example:{server.port}")
    with proxy.tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(start.format(other=f"other.example:{server.port}").encode())
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 " not in connection.recv(1000)
    assert not any(server.first)


@pytest.mark.parametrize(
    "data",
    [
        b"EHLO there\r\n",
        b"SSH-2.0-OpenSSH_10 x\r\n",
        b"\0\0\0\x08\4\xd2\x16\x2f",
        b"*1\r\n$4\r\nPING\r\n",
        b"a1 LOGIN x\r\n",
    ],
)
def test_other_protocols_pass_on_other_ports(proxied: Proxy, serve: Serve, data: bytes) -> None:
    server = serve()
    with proxied(f"good.example:{server.port}").tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(data)
        assert connection.recv(len(data), socket.MSG_WAITALL) == data


def test_a_tunnel_to_port_80_is_http(proxied: Proxy, serve: Serve, http_port: Any) -> None:
    server = serve()
    http_port(server.port)
    with proxied(f"good.example:{server.port}").tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(b"EHLO there\r\n\r\n")
        assert connection.recv(13) == b"HTTP/1.1 400 "
    assert not server.connected


def test_python_goes_through_it(proxied: Proxy, web: LoopbackServer) -> None:
    proxy = proxied(f"good.example:{web.port}")
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{proxy.port}"})
    )
    with opener.open(f"http://good.example:{web.port}/x", timeout=10) as response:
        assert response.read() == b"ok"
