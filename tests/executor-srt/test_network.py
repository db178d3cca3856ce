"""The network: nothing by default, the hosts of the list, changed while it runs, and secrets kept out of it."""

from __future__ import annotations

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sandbox
from agentd.errors import ConfigError
from agentd.types import BashAction, OutputChunk


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked, and by which token."""

    def do_GET(self) -> None:
        body = f"{self.path} {self.headers.get('Authorization', '')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


FETCH = "curl -s -m 5 --noproxy '' -o body -w '%{{http_code}}' {url}; cat body; rm -f body"


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_hosts_are_allowed_and_denied_while_the_sandbox_runs(
    tmp_path: Path, server: http.server.ThreadingHTTPServer, profile: str
) -> None:
    host = f"127.0.0.1:{server.server_port}"
    fetch = FETCH.format(url=f"http://{host}/x")
    with sandbox.make(tmp_path, profile=profile) as executor:
        assert executor.execute_bash(fetch)[0].startswith("403")
        executor.allow_domain(host)
        until_it_says(executor, fetch, "200/x")
        output, _ = executor.execute_python(
            "import os, urllib.request as r\n"
            "os.environ['no_proxy'] = os.environ['NO_PROXY'] = ''\n"
            f"print(r.urlopen('http://{host}/python', timeout=5).read().decode())"
        )
        assert output.strip() == "/python"
        executor.deny_domain(host)
        until_it_says(executor, fetch, "403")
        executor.allow_domain(host)
        until_it_says(executor, fetch, "200/x")
        assert executor.denied_domains == []


def until_it_says(executor: object, fetch: str, said: str) -> None:
    """srt reads the new settings in its own time, within milliseconds."""
    for _ in range(200):
        output, _ = executor.execute_bash(fetch)  # type: ignore[attr-defined]
        if output.startswith(said):
            return
    raise AssertionError(output)


def test_a_refused_connection_does_not_end_the_runner_at_its_next_flood(tmp_path: Path) -> None:
    """srt then makes the pipe that it shares with the runner non-blocking."""
    chunks = 0

    def slow_reader(_chunk: OutputChunk) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == 1:
            filled.wait(0.5)  # nobody sets it: until the pipe is full

    filled = threading.Event()
    with sandbox.make(tmp_path) as executor:
        executor.execute_bash("curl -s -m 5 --noproxy '' http://unlisted.example.org")
        action = BashAction(command="head -c 3000000 /dev/zero")
        assert len(executor.run_sync(action, on_output=slow_reader).stdout) == 3_000_000
        assert executor.execute_bash("echo on") == ("on\n", 0)


def test_a_new_sandbox_starts_with_what_was_allowed_before(
    tmp_path: Path, server: http.server.ThreadingHTTPServer
) -> None:
    host = f"127.0.0.1:{server.server_port}"
    executor = sandbox.make(tmp_path, allowed_domains=["example.com"])
    executor.allow_domain(host)
    with executor:
        assert executor.execute_bash(FETCH.format(url=f"http://{host}/x"))[0].startswith("200/x")
    assert executor.allowed_domains == ["example.com", host]


@pytest.mark.parametrize(
    "name", ["", "*", "*.com", "http://x.org", "x.org/a", "x.org:0", "x.org:99999", "::1", "x y.z", "com"]
)
def test_what_srt_would_drop_without_a_word_is_an_error(tmp_path: Path, name: str) -> None:
    from agentd_executor_srt.executor import SandboxRuntimeExecutor

    with pytest.raises(ConfigError, match=r"allowed_domains: .* is no host"):
        SandboxRuntimeExecutor(tmp_path, allowed_domains=[name])
    executor = SandboxRuntimeExecutor(tmp_path)
    with pytest.raises(ConfigError, match="is no host"):
        executor.allow_domain(name)
    assert executor.allowed_domains == []


def test_srt_takes_every_entry_that_we_take(tmp_path: Path) -> None:
    allowed = [
        "example.com",
        "*.example.com",
        "a-b.c_d.org:443",
        "localhost",
        "localhost:80",
        "127.0.0.1",
        "[::1]:443",
    ]
    with sandbox.make(
        tmp_path, allowed_domains=allowed, denied_domains=["*:22", "evil.example.com"]
    ) as executor:
        assert executor.execute_bash("echo on") == ("on\n", 0)


def test_listening_inside_is_possible_and_outside_of_it_nobody_hears(tmp_path: Path) -> None:
    with sandbox.make(tmp_path, allow_local_binding=True) as executor:
        output, code = executor.execute_python(
            "import socket\n"
            "with socket.create_server(('127.0.0.1', 0)) as s, socket.create_connection(s.getsockname()) as c:\n"
            "    s.accept()[0].sendall(b'hello'); print(c.recv(9).decode(), s.getsockname()[1])\n"
        )
        assert output.startswith("hello ")
        assert code == 0


# --- secrets ------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate of localhost that signs itself."""
    made = tmp_path / "localhost.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=localhost",
            ),
            *(
                "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-addext",
                "basicConstraints=critical,CA:TRUE",
            ),
            *("-keyout", made, "-out", tmp_path / "only.pem"),
        ],
        check=True,
        capture_output=True,
    )
    made.write_bytes(made.read_bytes() + (tmp_path / "only.pem").read_bytes())
    (tmp_path / "only.pem").chmod(0o644)
    tmp_path.chmod(0o755)
    return made


@pytest.mark.parametrize("profile", ["default", "strict"])
def test_code_sees_a_placeholder_and_the_named_host_gets_the_secret(
    tmp_path: Path,
    certificate: Path,
    server: http.server.ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    profile: str,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    other = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    other.socket = context.wrap_socket(other.socket, server_side=True)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    authority = (
        Path("/tmp") / f"agentd-test-{tmp_path.name}.pem"
    )  # srt itself reads it, as an unprivileged user
    authority.write_bytes((tmp_path / "only.pem").read_bytes())
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(authority))
    monkeypatch.setenv("SERVICE_TOKEN", "s3cr3t-token")
    try:
        with sandbox.make(
            tmp_path / "w",
            profile=profile,
            secrets={"SERVICE_TOKEN": {"hosts": ["localhost"]}},
            allowed_domains=[f"127.0.0.1:{port}" for port in (server.server_port, other.server_port)],
        ) as executor:
            seen = executor.execute_bash("echo $SERVICE_TOKEN")[0].strip()
            assert seen
            assert "s3cr3t" not in seen
            everything = executor.execute_bash(
                "env; cat /proc/*/environ 2>/dev/null; cat /proc/*/cmdline 2>/dev/null"
            )[0]
            assert "s3cr3t" not in everything
            ask = "curl -s -m 8 --noproxy '' -H \"Authorization: Bearer $SERVICE_TOKEN\" "
            got = executor.execute_bash(f"{ask} https://localhost:{server.server_port}/named")[0]
            assert got == "/named Bearer s3cr3t-token"
            got = executor.execute_bash(f"{ask} https://127.0.0.1:{other.server_port}/other")[0]
            assert "s3cr3t" not in got
            assert "/other" in got
    finally:
        other.shutdown()
        thread.join()
        other.server_close()
        authority.unlink()


@pytest.mark.parametrize(
    ("secrets", "why"),
    [
        ({"A B": {"hosts": ["x.org"], "value": "v"}}, "no name of an environment variable"),
        ({"A": ["x.org"]}, "must be a mapping with 'hosts'"),
        ({"A": {"host": ["x.org"]}}, "must be a mapping with 'hosts'"),
        ({"A": {"hosts": "x.org", "value": "v"}}, "must be a list of host names"),
        ({"A": {"hosts": ["*"], "value": "v"}}, "is no host"),
        ({"A_VARIABLE_THAT_IS_NOT_SET": {"hosts": ["x.org"]}}, "no value"),
    ],
)
def test_a_wrong_secret_is_an_error_that_does_not_show_it(
    tmp_path: Path, secrets: dict[str, object], why: str
) -> None:
    from agentd_executor_srt.executor import SandboxRuntimeExecutor

    with pytest.raises(ConfigError, match=why):
        SandboxRuntimeExecutor(tmp_path, secrets=secrets)
