"""Servers on this machine's loopback, and an `Egress` whose names all lead there."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from agentd_executor_native.network import Egress, HostRules
from agentd_executor_native.network.gate import OnHostRequest

HERE = IPv4Address("127.0.0.1")


class LoopbackServer:
    """Serves each connection in a thread, and keeps what came first on each."""

    def __init__(
        self, serve: Callable[[socket.socket, bytes], None], tls: ssl.SSLContext | None = None
    ) -> None:
        self._serve, self._tls = serve, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.first: list[bytes] = []
        self.connected = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connected += 1
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        try:
            with (  # the connection itself, too: where it has gone already, it is not wrapped
                connection,
                connection
                if self._tls is None
                else self._tls.wrap_socket(connection, server_side=True) as stream,
            ):
                data = stream.recv(65536)
                self.first.append(data)
                self._serve(stream, data)
        except OSError:  # with TLS errors: what the client sees is what a test looks at
            pass

    def close(self) -> None:
        """Listen no more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def echo(stream: socket.socket, data: bytes) -> None:
    """Send back what comes."""
    while data:
        stream.sendall(data)
        data = stream.recv(65536)


@pytest.fixture
def serve() -> Iterator[Callable[..., LoopbackServer]]:
    """Start servers; by default they echo."""
    made: list[LoopbackServer] = []

    def start(what: Callable[[socket.socket, bytes], None] = echo, **options: object) -> LoopbackServer:
        made.append(LoopbackServer(what, **options))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for server in made:
        server.close()


class Proxied:
    """An `Egress` that listens on this machine's loopback, as only a test lets it."""

    def __init__(self, egress: Egress) -> None:
        self.egress = egress
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        egress.serve(listener)

    def connect(self) -> socket.socket:
        """Connect to the proxy."""
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def ask(self, text: str | bytes) -> bytes:
        """Send a request and return all that comes back."""
        with self.connect() as connection:
            connection.sendall(text.encode() if isinstance(text, str) else text)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection)

    def tunnel(self, target: str) -> socket.socket:
        """Return a connection through CONNECT."""
        connection = self.connect()
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = connection.recv(1)
            assert data, head
            head += data
        assert head.startswith(b"HTTP/1.1 200 "), head
        return connection

    def socks(self, address: bytes, port: int) -> tuple[int, socket.socket]:
        """Return the reply's code and the connection; `address` with its type before it."""
        connection = self.connect()
        connection.sendall(b"\5\1\0\5\1\0" + address + port.to_bytes(2, "big"))
        assert connection.recv(2, socket.MSG_WAITALL) == b"\5\0"
        return connection.recv(10, socket.MSG_WAITALL)[1], connection


def read_all(connection: socket.socket) -> bytes:
    """Read to the end; what a reset cuts off is not there."""
    data = b""
    try:
        while block := connection.recv(65536):
            data += block
    except ConnectionResetError:
        pass
    return data


@pytest.fixture
def proxied() -> Iterator[Callable[..., Proxied]]:
    """Make an `Egress` from entries of `allowed_hosts`; every name leads to this machine."""
    made: list[Egress] = []

    def make(*entries: str, on_host_request: OnHostRequest | None = None, **options: object) -> Proxied:
        options = {"resolve": lambda name, port: [HERE], "may_lead_to": lambda address: True} | options
        rules = HostRules.parse("allowed_hosts", entries)
        made.append(Egress(rules, on_host_request=on_host_request, **options))  # type: ignore[arg-type]
        return Proxied(made[-1])

    yield make
    for egress in made:
        egress.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for good.example and other.example, with its key, made by openssl."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-keyout", str(path), "-out", f"{path}.crt", "-days", "2", "-subj", "/CN=test"),
            *("-addext", "subjectAltName=DNS:good.example,DNS:other.example,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    """For the server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate: Path) -> ssl.SSLContext:
    """For the client's side."""
    return ssl.create_default_context(cafile=str(certificate))
