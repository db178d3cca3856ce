"""The network of a real sandbox: none by default, the allowed hosts through the proxy, and what was refused is told."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import native
import pytest
from agentd.errors import ConfigError
from agentd.types import BashAction
from agentd_executor_native.executor import NativeExecutor


class HelloHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_args: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    """Of a web server on this machine's loopback."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HelloHandler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join(5)


def fetch(port: int) -> str:
    return f"curl -sS -m 10 --noproxy '' http://127.0.0.1:{port}/"


def test_without_hosts_there_is_no_way_out_and_no_variable_of_the_host_s_proxy(
    tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    with native.make(tmp_path / "w") as executor:
        assert executor.execute_bash(f"curl -s -m 5 http://127.0.0.1:{port}/")[1] == 7
        assert executor.execute_bash("env | grep -ci proxy")[0] == "0\n"
        assert executor.execute_python("import socket; print(socket.if_nameindex())") == ("[(1, 'lo')]\n", 0)


def test_an_allowed_host_is_reached_and_what_was_refused_is_told_with_the_result(
    tmp_path: Path, port: int
) -> None:
    with native.make(tmp_path / "w", allowed_hosts=[f"127.0.0.1:{port}"]) as executor:
        assert executor.execute_bash(fetch(port)) == ("hello", 0)
        result = executor.run_sync(BashAction(command=f"curl -s http://host.invalid/ ; {fetch(9)}"))
        assert "host.invalid:80 is not in allowed_hosts" in result.message
        assert "127.0.0.1:9 is not in allowed_hosts" in result.message
        assert executor.run_sync(BashAction(command=fetch(port))).message == ""
        assert executor.execute_bash(f"curl -s -m 5 --noproxy '*' http://127.0.0.1:{port}/")[1] == 7
        held, said = executor.verify()
        assert held, said
        assert executor._connection is not None
        executor._connection.process.kill()  # a sandbox that is started anew has its network again
        while executor._connected() is not None:
            pass
        assert executor.execute_bash(fetch(port))[0].startswith("hello")


def test_a_host_that_is_not_on_the_list_is_asked_for(tmp_path: Path, port: int) -> None:
    asked: list[tuple[str, int]] = []

    def ask(host: str, port: int) -> bool:
        asked.append((host, port))
        return False

    with native.make(tmp_path / "w", on_host_request=ask) as executor:
        executor.execute_bash("curl -s http://host.invalid:8080/")
        assert executor.execute_bash(fetch(port))[0].startswith("agentd: ")  # an address is never asked for
    assert asked == [("host.invalid", 8080)]


def test_code_has_a_placeholder_for_a_secret_and_a_file_of_authorities(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(
        "cryptography", reason="secrets need it: pip install 'agentd-executor-native[secrets]'"
    )
    monkeypatch.setenv("SOME_TOKEN", "s3cr3t")
    secrets = {"SOME_TOKEN": {"hosts": ["api.example.com"]}}
    with native.make(tmp_path / "w", secrets=secrets) as executor:
        assert executor.execute_bash("echo $SOME_TOKEN")[0].startswith("agentd_secret_")
        assert executor.execute_bash("grep -c 'BEGIN CERT' $SSL_CERT_FILE; echo x >> $SSL_CERT_FILE")[1] != 0
        assert "s3cr3t" not in executor.execute_bash("env; cat /proc/*/environ 2>/dev/null | tr '\\0' ' '")[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"allowed_hosts": "example.com"}, "allowed_hosts: must be a list of hosts"),
        ({"allowed_hosts": ["https://example.com"]}, "has a scheme; write the host alone"),
        ({"allowed_hosts": ["*.com"]}, "would allow a whole top-level domain"),
        ({"allowed_hosts": ["169.254.169.254"]}, "can never be allowed"),
        ({"secrets": ["TOKEN"]}, "secrets: must be a mapping"),
    ],
)
def test_hosts_and_secrets_that_cannot_be_are_refused(
    options: Mapping[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        NativeExecutor(tmp_path, **options)
    assert said in str(caught.value)
