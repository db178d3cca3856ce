"""Tunnels through the proxy, by CONNECT and SOCKS5: where they lead, and what may go through."""

from __future__ import annotations

import gc
import hashlib
import os
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from agentd_executor_native.network import EgressLimits, tunnel

if TYPE_CHECKING:
    from conftest import LoopbackServer, Proxied

    Proxy = Callable[..., Proxied]
    Serve = Callable[..., LoopbackServer]

NAME = b"\3\x0cgood.example"
HTTPS = 443  # what the port of a test's server counts as


@pytest.fixture
def tls_port(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have a port count as 443, which only root could listen on."""
    return lambda port: monkeypatch.setattr(tunnel, "TLS_PORT", port)


def test_bytes_go_both_ways_and_each_side_may_end_first(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}")
    with proxy.tunnel(f"GOOD.example.:{server.port}") as connection:
        for _ in range(3):
            connection.sendall(b"\0ping")
            assert connection.recv(5, socket.MSG_WAITALL) == b"\0ping"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    ends = serve(lambda stream, data: stream.sendall(b"bye"))
    proxy = proxied(f"good.example:{ends.port}")
    with proxy.tunnel(f"good.example:{ends.port}") as connection:
        connection.sendall(b"\0")
        assert connection.recv(4, socket.MSG_WAITALL) == b"bye"


def test_many_bytes_arrive_whole(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    data = os.urandom(1 << 20) * 20
    with proxied(f"good.example:{server.port}").tunnel(f"good.example:{server.port}") as connection:
        sender = threading.Thread(target=lambda: (connection.sendall(b"\0" + data), connection.shutdown(1)))
        sender.start()
        got = hashlib.sha256()
        while block := connection.recv(1 << 20):
            got.update(block)
        sender.join()
    assert got.digest() == hashlib.sha256(b"\0" + data).digest()


def test_a_server_may_speak_first(proxied: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with proxied(f"good.example:{port}").tunnel(f"good.example:{port}") as connection:
            accepted, _ = listener.accept()
            with accepted:
                accepted.sendall(b"220 ready\r\n")
                assert connection.recv(11, socket.MSG_WAITALL) == b"220 ready\r\n"
                connection.sendall(b"EHLO there\r\n")
                assert accepted.recv(12, socket.MSG_WAITALL) == b"EHLO there\r\n"


@pytest.mark.parametrize(
    "target",
    ["other.example", "127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost", "127.0.0.1."],
)
def test_a_host_that_is_not_allowed_is_refused_with_a_sentence(
    proxied: Proxy, serve: Serve, target: str
) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}")
    answer = proxy.ask(f"CONNECT {target}:{server.port} HTTP/1.1\r\nHost: x\r\n\r\n")
    shown = {"localhost": target, "other.example": target}.get(target, "127.0.0.1")
    sentence = f"{shown}:{server.port} is not in allowed_hosts"
    assert answer.startswith(f"HTTP/1.1 403 {sentence}\r\n".encode())
    assert answer.endswith(f"\r\n\r\nagentd: {sentence}\n".encode())
    assert proxy.egress.take_refused() == [sentence]
    assert proxy.egress.take_refused() == []
    assert not server.connected


@pytest.mark.parametrize(
    "target",
    [
        *("good.example", "good.example:0", "good.example:99999", "good.example:https", "", ":443", "/", "*"),
        *(
            "good.example@other.example:443",
            "http://good.example:443/",
            "good.example%00:443",
            "good..example:443",
        ),
        *("[::1%25lo]:443", "::1:443", "good.example:443:443", "good.example:443/"),
    ],
)
def test_connect_to_what_is_no_host_is_a_bad_request(proxied: Proxy, target: str) -> None:
    answer = proxied("good.example").ask(f"CONNECT {target} HTTP/1.1\r\nHost: good.example\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "name", [b"good.example\0.evil.example", b"good.example\r\nX: y", b"g\xff", b"", b"a b", b"a%b"]
)
def test_socks_refuses_names_that_no_host_has(proxied: Proxy, serve: Serve, name: bytes) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}", f"*.evil.example:{server.port}")
    code, connection = proxy.socks(bytes([3, len(name)]) + name, server.port)
    with connection:
        assert code == 2
        assert connection.recv(1) == b""
    assert not server.connected


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (NAME, 0),
        (b"\3\x0dGOOD.example.", 0),
        (b"\3\x0dother.example", 2),
        (b"\3\x092130706433", 2),
        (b"\1\x7f\0\0\1", 2),
        (b"\4" + bytes(10) + b"\xff\xff\x7f\0\0\1", 2),
        (b"\4" + bytes(15) + b"\1", 2),
    ],
)
def test_socks_reaches_allowed_hosts_alone(proxied: Proxy, serve: Serve, address: bytes, code: int) -> None:
    server = serve()
    answered, connection = proxied(f"good.example:{server.port}").socks(address, server.port)
    with connection:
        assert answered == code
        if not code:
            connection.sendall(b"\0x")
            assert connection.recv(2, socket.MSG_WAITALL) == b"\0x"
    assert server.connected == (code == 0)


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (b"\5\1\2", b"\5\xff"),
        (b"\5\0", b"\5\xff"),
        (b"\5\1\0\5\2\0\1\x7f\0\0\1\0\x50", b"\5\0\5\7\0\1" + bytes(6)),
        (b"\5\1\0\5\3\0\1\x7f\0\0\1\0\x50", b"\5\0\5\7\0\1" + bytes(6)),
        (b"\5\1\0\5\1\0\2", b"\5\0\5\x08\0\1" + bytes(6)),
        (b"\5\1\0\5\1\0" + NAME + b"\0\0", b"\5\0\5\2\0\1" + bytes(6)),
        (b"\5\1\0\5\1\0\3\x20short", b"\5\0"),
    ],
)
def test_other_socks_requests_are_answered_and_ended(proxied: Proxy, request_: bytes, reply: bytes) -> None:
    assert proxied("good.example").ask(request_) == reply


def test_a_name_that_leads_to_no_public_address_is_refused(proxied: Proxy, serve: Serve) -> None:
    from agentd_executor_native.network.addresses import is_public

    server = serve()
    proxy = proxied(f"good.example:{server.port}", may_lead_to=is_public)
    answer = proxy.ask(f"CONNECT good.example:{server.port} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"leads to no public address" in answer
    assert b"127.0.0.1" not in answer
    assert not server.connected
    both = proxied(f"good.example:{server.port}", f"127.0.0.0/8:{server.port}", may_lead_to=is_public)
    both.tunnel(f"good.example:{server.port}").close()


def test_an_address_that_nothing_opens_is_refused_even_where_a_name_may_lead_anywhere(proxied: Proxy) -> None:
    from ipaddress import ip_address

    proxy = proxied("good.example", resolve=lambda name, port: [ip_address("169.254.169.254")])
    assert proxy.ask("CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 403 ")


def test_the_address_that_was_checked_is_connected_to(proxied: Proxy, serve: Serve) -> None:
    from ipaddress import ip_address

    server = serve()
    answers = [[ip_address("127.0.0.1")], [ip_address("127.0.0.2")]]
    asked = []

    def rebinding(name: str, port: int) -> list[Any]:
        asked.append(name)
        return answers.pop(0)

    proxy = proxied(
        f"good.example:{server.port}", resolve=rebinding, may_lead_to=lambda a: str(a) == "127.0.0.1"
    )
    with proxy.tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(b"\0x")
        assert connection.recv(2, socket.MSG_WAITALL) == b"\0x"
    assert asked == ["good.example"]


def test_a_name_is_looked_up_only_if_it_is_allowed(proxied: Proxy) -> None:
    asked = []
    proxy = proxied("good.example", resolve=lambda name, port: asked.append(name) or [])
    proxy.ask("CONNECT secret.other.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = proxy.ask("CONNECT good.example:443 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 good.example:443 cannot be reached: its name has no address")
    assert asked == ["good.example"]


def test_a_host_that_does_not_answer_is_told(proxied: Proxy) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    proxy = proxied(f"good.example:{port}")
    answer = proxy.ask(f"CONNECT good.example:{port} HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(
        f"HTTP/1.1 502 good.example:{port} cannot be reached: Connection refused".encode()
    )
    code, connection = proxy.socks(NAME, port)
    connection.close()
    assert code == 4


# --- TLS


def handshake(connection: socket.socket, context: ssl.SSLContext, name: str | None) -> bytes:
    """Speak TLS and get an echo."""
    with context.wrap_socket(connection, server_hostname=name) as stream:
        stream.sendall(b"secret")
        return stream.recv(6)


@pytest.mark.parametrize("is_443", [True, False])
def test_tls_goes_through_to_the_server_that_it_names(
    proxied: Proxy,
    serve: Serve,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    tls_port: Any,
    is_443: bool,
) -> None:
    server = serve(tls=server_tls)
    tls_port(server.port if is_443 else HTTPS)
    proxy = proxied(f"good.example:{server.port}")
    assert handshake(proxy.tunnel(f"good.example:{server.port}"), client_tls, "good.example") == b"secret"
    code, connection = proxy.socks(NAME, server.port)
    assert code == 0
    assert handshake(connection, client_tls, "GOOD.example") == b"secret"


@pytest.mark.parametrize("is_443", [True, False])
@pytest.mark.parametrize("name", ["other.example", None])
def test_tls_for_another_server_or_for_none_is_ended(
    proxied: Proxy,
    serve: Serve,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
    tls_port: Any,
    name: str | None,
    is_443: bool,
) -> None:
    server = serve(tls=server_tls)
    tls_port(server.port if is_443 else HTTPS)
    client_tls.check_hostname = False
    proxy = proxied(f"good.example:{server.port}")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        handshake(proxy.tunnel(f"good.example:{server.port}"), client_tls, name)
    assert server.first in ([], [b""])  # not even the first message
    assert "must not go there" in proxy.egress.take_refused()[0]


def test_an_allowed_address_may_serve_any_name(
    proxied: Proxy, serve: Serve, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, tls_port: Any
) -> None:
    server = serve(tls=server_tls)
    tls_port(server.port)
    proxy = proxied(f"127.0.0.1:{server.port}")
    assert handshake(proxy.tunnel(f"127.0.0.1:{server.port}"), client_tls, "good.example") == b"secret"
    assert handshake(proxy.tunnel(f"127.0.0.1:{server.port}"), client_tls, "127.0.0.1") == b"secret"


def recorded_hello(context: ssl.SSLContext, name: str) -> tuple[ssl.SSLObject, ssl.MemoryBIO, bytes]:
    """Return a client, its input, and its first record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return client, incoming, outgoing.read()


@pytest.mark.parametrize(("name", "passes"), [("good.example", True), ("other.example", False)])
def test_a_hello_in_many_records_and_segments_is_read_all_the_same(
    proxied: Proxy, serve: Serve, client_tls: ssl.SSLContext, tls_port: Any, name: str, passes: bool
) -> None:
    server = serve()
    tls_port(server.port)
    _, _, record = recorded_hello(client_tls, name)
    pieces = [record[at : at + 40] for at in range(5, len(record), 40)]
    records = b"".join(b"\x16\3\1" + len(piece).to_bytes(2, "big") + piece for piece in pieces)
    with proxied(f"good.example:{server.port}").tunnel(f"good.example:{server.port}") as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(records), 7):
            connection.send(records[at : at + 7])
        if passes:
            assert connection.recv(len(records), socket.MSG_WAITALL) == records
        else:
            assert connection.recv(100) == tunnel.UNRECOGNIZED_NAME


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"GET / HTTP/1.1\r\nHost: good.example\r\n\r\n",
            b"SSH-2.0-x\r\n",
            b"\x80\x2e\1\3\1\0",
            b"\x17\3\3\0\1x",
        ),
        *(
            b"\x16\2\0\0\1\1",
            b"\x16\3\1\0\4\2\0\0\0",
            b"\x16\3\1\xff\xff",
            b"CONNECT other.example:443 HTTP/1.1\r\n\r\n",
        ),
    ],
)
def test_nothing_but_tls_goes_through_port_443(
    proxied: Proxy, serve: Serve, tls_port: Any, data: bytes
) -> None:
    server = serve()
    tls_port(server.port)
    with proxied(f"good.example:{server.port}").tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(data)
        assert connection.recv(100) == tunnel.UNRECOGNIZED_NAME
        assert connection.recv(100) == b""
    assert server.first in ([], [b""])


# --- bounds


def test_a_silent_tunnel_is_ended(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}", limits=EgressLimits(idle_s=0.2))
    with proxy.tunnel(f"good.example:{server.port}") as connection:
        assert connection.recv(1) == b""
    with proxy.connect() as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "start",
    [b"\5\1", b"\5\1\0\5\1\0\3\x0cgood", b"CONNECT good.ex", b"GET http://good.example/ HTTP/1.1\r\n"],
)
def test_a_request_that_does_not_get_finished_is_ended(proxied: Proxy, start: bytes) -> None:
    proxy = proxied("good.example", limits=EgressLimits(opening_s=0.2))
    with proxy.connect() as connection:
        connection.sendall(start)
        assert read_to_end(connection).startswith(b"\5\0" if start.startswith(b"\5\1\0") else b"")


def test_a_first_message_that_does_not_get_finished_is_ended(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}", limits=EgressLimits(opening_s=0.2))
    for start in (b"\x16\3\1\1", b"GET / HT"):
        with proxy.tunnel(f"good.example:{server.port}") as connection:
            connection.sendall(start)
            assert read_to_end(connection) == b""


def read_to_end(connection: socket.socket) -> bytes:
    data = b""
    while block := connection.recv(1000):
        data += block
    return data


def test_connections_beyond_the_limit_wait_for_one_to_end(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}", limits=EgressLimits(connections=2))
    target = f"good.example:{server.port}"
    first, second = proxy.tunnel(target), proxy.tunnel(target)
    third = proxy.connect()
    third.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    third.settimeout(0.2)
    with pytest.raises(TimeoutError):
        third.recv(1)
    assert server.connected == 2
    first.close()
    third.settimeout(10)
    assert third.recv(12).startswith(b"HTTP/1.1 200")
    second.close()
    third.close()


def test_a_slow_reader_holds_a_bounded_number_of_bytes_up(proxied: Proxy, serve: Serve) -> None:
    sent = []

    def flood(stream: socket.socket, data: bytes) -> None:
        stream.settimeout(1.0)
        try:
            while True:
                sent.append(stream.send(bytes(1 << 16)))
        except TimeoutError:
            return

    server = serve(flood)
    with proxied(f"good.example:{server.port}").tunnel(f"good.example:{server.port}") as connection:
        connection.sendall(b"\0")
        while read_some(connection, 1 << 16) and not sent:
            pass
        threading.Event().wait(1.5)
        assert sum(sent) < 64 << 20  # the kernel's buffers and ours


def read_some(connection: socket.socket, size: int) -> bytes:
    return connection.recv(size)


def test_close_ends_all_connections(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}")
    with proxy.tunnel(f"good.example:{server.port}") as connection:
        proxy.egress.close()
        assert connection.recv(1) == b""
    with pytest.raises(ConnectionError):
        proxy.connect()
    proxy.egress.close()


def test_close_leaves_no_socket_whatever_it_interrupts(proxied: Proxy) -> None:
    """The listener may be on its way, and a connection that comes at that moment accepted and not served yet."""
    for pause_s in [None, None, 0.0, 0.0001, 0.0003, 0.001] * 8:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            proxy = proxied("good.example")
            if pause_s is not None:
                with proxy.connect():
                    time.sleep(pause_s)
                    proxy.egress.close()
            proxy.egress.close()
            gc.collect()
        assert not [str(one.message) for one in warned]
