"""`on_host_request`: hosts that are asked for at run time."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from agentd.errors import ConfigError
from agentd_executor_native.network import EgressLimits

if TYPE_CHECKING:
    from conftest import LoopbackServer, Proxied

    Proxy = Callable[..., Proxied]
    Serve = Callable[..., LoopbackServer]


def connects(proxy: Proxied, target: str) -> bool:
    """Tell whether a tunnel is given."""
    return proxy.ask(f"CONNECT {target} HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("is_async", [True, False])
def test_the_answer_counts_for_that_host_and_port_and_is_asked_for_once(
    proxied: Proxy, serve: Serve, is_async: bool
) -> None:
    server, second = serve(), serve()
    asked: list[tuple[str, int]] = []

    def ask(host: str, port: int) -> bool:
        asked.append((host, port))
        return host == "good.example" and port == server.port

    async def ask_async(host: str, port: int) -> bool:
        await asyncio.sleep(0)
        return ask(host, port)

    proxy = proxied(on_host_request=ask_async if is_async else ask)
    for _ in range(2):
        assert connects(proxy, f"Good.example.:{server.port}")
        assert not connects(proxy, f"good.example:{second.port}")
        assert not connects(proxy, f"other.example:{server.port}")
    assert asked == [
        ("good.example", server.port),
        ("good.example", second.port),
        ("other.example", server.port),
    ]
    assert not second.connected


def test_a_policy_decides_about_every_host_and_about_no_closed_address(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    asked: list[tuple[str, bool]] = []

    async def policy(target: str, is_listed: bool) -> bool:
        asked.append((target, is_listed))
        if target.startswith("broken"):
            raise ValueError("no idea")
        return target.startswith("good")

    proxy = proxied(
        f"good.example:{server.port}", f"bad.example:{server.port}", on_host_request=lambda host, port: True
    )
    proxy.egress.attach_policy(policy)
    for _ in range(2):
        assert connects(proxy, f"good.example:{server.port}")
        assert connects(proxy, f"good.unlisted.example:{server.port}")
        assert not connects(proxy, f"bad.example:{server.port}")
        assert not connects(proxy, f"broken.example:{server.port}")
        assert not connects(proxy, "169.254.169.254:80")
    assert asked == [
        (f"good.example:{server.port}", True),
        (f"good.unlisted.example:{server.port}", False),
        (f"bad.example:{server.port}", True),
        (f"broken.example:{server.port}", False),
    ]


def test_connections_wait_for_one_answer(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    asked, answer = threading.Semaphore(0), threading.Event()

    def ask(host: str, port: int) -> bool:
        asked.release()
        return answer.wait(10)

    proxy = proxied(on_host_request=ask)
    connections = [proxy.connect() for _ in range(5)]
    for connection in connections:
        connection.sendall(f"CONNECT good.example:{server.port} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    assert asked.acquire(timeout=10)
    answer.set()
    for connection in connections:
        with connection:
            assert connection.recv(12).startswith(b"HTTP/1.1 200")
    assert not asked.acquire(blocking=False)


@pytest.mark.parametrize("answer", [None, 1, "yes", "deny", False])
def test_only_true_is_a_yes(proxied: Proxy, answer: object) -> None:
    assert not connects(proxied(on_host_request=lambda host, port: answer), "good.example:443")  # type: ignore[arg-type,return-value]


def test_an_error_is_a_no(proxied: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    def ask(host: str, port: int) -> bool:
        raise SystemError("out of order")

    assert not connects(proxied(on_host_request=ask), "good.example:443")
    assert "on_host_request('good.example', 443) failed: refused" in caplog.text


def test_no_answer_is_a_no(proxied: Proxy, caplog: pytest.LogCaptureFixture) -> None:
    forever = threading.Event()
    proxy = proxied(on_host_request=lambda host, port: forever.wait(20), limits=EgressLimits(ask_s=0.1))
    assert not connects(proxy, "good.example:443")
    assert "has not answered within 0.1 s: refused" in caplog.text
    forever.set()
    assert not connects(proxy, "good.example:443")


def test_code_cannot_ask_without_end(proxied: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentd_executor_native.network import gate

    monkeypatch.setattr(gate, "MAX_ANSWERS", 3)
    asked: list[str] = []
    proxy = proxied(on_host_request=lambda host, port: asked.append(host) is not None)
    for number in range(6):
        assert not connects(proxy, f"host{number}.example:443")
    assert asked == ["host0.example", "host1.example", "host2.example"]


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "0.0.0.0", "0", "[fe80::1]", "[::ffff:a9fe:a9fe]"]
)
def test_what_no_setting_allows_is_not_asked_for(proxied: Proxy, host: str) -> None:
    asked: list[str] = []
    proxy = proxied(on_host_request=lambda host, port: asked.append(host) is None)
    assert not connects(proxy, f"{host}:80")
    assert asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::1]", "10.0.0.5", "192.168.1.1", "[fd12::5]"])
def test_an_address_of_somebodys_own_network_is_not_asked_for(
    proxied: Proxy, serve: Serve, host: str
) -> None:
    from agentd_executor_native.network.addresses import is_public

    server = serve()
    asked: list[str] = []
    proxy = proxied(on_host_request=lambda host, port: asked.append(host) is None, may_lead_to=is_public)
    assert not connects(proxy, f"{host}:{server.port}")
    assert asked == []
    assert not server.connected


def test_a_yes_to_a_name_is_none_to_private_addresses(proxied: Proxy, serve: Serve) -> None:
    from agentd_executor_native.network.addresses import is_public

    server = serve()
    proxy = proxied(on_host_request=lambda host, port: True, may_lead_to=is_public)
    assert not connects(proxy, f"good.example:{server.port}")
    assert not server.connected


@pytest.mark.parametrize("value", [0, -1, "5", True, None])
def test_a_limit_is_a_number_above_zero(value: object) -> None:
    with pytest.raises(ConfigError, match="idle_s: must be a number above 0"):
        EgressLimits(idle_s=value)  # type: ignore[arg-type]


def test_a_forked_child_of_the_host_may_serve_a_sandbox_of_its_own(proxied: Proxy, serve: Serve) -> None:
    server = serve()
    proxy = proxied(f"good.example:{server.port}")
    assert connects(proxy, f"good.example:{server.port}")
    child = os.fork()
    if child == 0:  # pragma: no cover
        status = 1
        try:
            listener = socket.create_server(("127.0.0.1", 0))
            proxy.port = listener.getsockname()[1]
            proxy.egress.serve(listener)
            status = 0 if connects(proxy, f"good.example:{server.port}") else 2
            proxy.egress.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert connects(proxy, f"good.example:{server.port}")
