"""The whole way: programs in a network namespace of their own, which reach what is allowed and nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import io
import json
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest
from agentd_executor_native.network import (
    Egress,
    HostRules,
    HostSecrets,
    port_command,
    proxy_environment,
    tunnel,
)
from agentd_executor_native.network.inside import proxy_port

# What bubblewrap does by itself.
LOOPBACK_UP = """
import fcntl, socket, struct
with socket.socket() as one:
    fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS, IFF_UP
import os, sys
os.execv(sys.argv[1], sys.argv[1:])
"""
WAYS = {
    "bwrap": [
        "bwrap",
        "--unshare-all",
        "--die-with-parent",
        "--bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
    ],
    "unshare": ["unshare", "--net", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])],
}


def lacks(way: str) -> str:
    """Say why a way cannot be gone here."""
    if shutil.which(way) is None:
        return f"{way} is not installed (Debian: bubblewrap, util-linux)"
    tried = subprocess.run([*WAYS[way], "true"], capture_output=True, text=True, check=False)
    return f"{way} cannot make a network namespace here: {tried.stderr}" if tried.returncode else ""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Each way to a network namespace."""
    if reason := lacks(request.param):
        pytest.skip(reason)
    return str(request.param)


@pytest.fixture
def egress() -> Iterator[Callable[..., Egress]]:
    """Make an `Egress` whose names all lead to this machine."""
    made: list[Egress] = []

    def make(*entries: str) -> Egress:
        rules = HostRules.parse("allowed_hosts", entries)
        here = [ip_address("127.0.0.1")]
        made.append(Egress(rules, resolve=lambda name, port: here, may_lead_to=lambda address: True))
        return made[-1]

    yield make
    for one in made:
        one.close()


def run_inside(
    egress: Egress, way: str, command: Sequence[str], *, timeout_s: float = 60, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a network namespace whose proxy is `egress`."""
    before = [sys.executable, "-c", LOOPBACK_UP] if way == "unshare" else []
    program = shutil.which(command[0]) or command[0]
    with egress.child_end() as theirs:
        return subprocess.run(
            [*WAYS[way], *before, *port_command(sys.executable, theirs.fileno(), [program, *command[1:]])],
            pass_fds=[theirs.fileno()],
            env={"PATH": os.environ["PATH"], **proxy_environment(), **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )


class WebServer:
    """Serves a folder on this machine's loopback, with TLS if there is a context."""

    def __init__(
        self,
        folder: Path,
        tls: ssl.SSLContext | None = None,
        answers: type[http.server.SimpleHTTPRequestHandler] | None = None,
    ) -> None:
        handler = functools.partial(answers or QuietHandler, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Says nothing of requests."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[WebServer]:
    """A plain server of a folder with a file."""
    (tmp_path / "file").write_text("plain")
    server = WebServer(tmp_path)
    yield server
    server.close()


@pytest.fixture
def secure(
    tmp_path: Path, server_tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WebServer]:
    """A server of a folder with TLS, whose port counts as 443."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "file").write_text("secure")
    server = WebServer(folder, server_tls)
    monkeypatch.setattr(tunnel, "TLS_PORT", server.port)
    yield server
    server.close()


FETCH = """
import sys, urllib.request
for url in sys.argv[1:]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            print(answer.read().decode())
    except OSError as error:
        print(error)
"""


def test_programs_reach_what_is_allowed_and_nothing_else(
    egress: Callable[..., Egress], way: str, web: WebServer, secure: WebServer, certificate: Path
) -> None:
    made = egress(f"good.example:{web.port}", f"good.example:{secure.port}")
    urls = [f"http://good.example:{web.port}/file", f"https://good.example:{secure.port}/file"]
    urls += [f"http://other.example:{web.port}/file", f"https://other.example:{secure.port}/file"]
    done = run_inside(made, way, [sys.executable, "-c", FETCH, *urls], SSL_CERT_FILE=str(certificate))
    assert done.stdout.splitlines() == [
        "plain",
        "secure",
        f"HTTP Error 403: other.example:{web.port} is not in allowed_hosts",
        f"<urlopen error Tunnel connection failed: 403 other.example:{secure.port} is not in allowed_hosts>",
    ], done.stderr
    assert len(made.take_refused()) == 2


ASK = """
import os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + os.environ["TOKEN"]})
print(urllib.request.urlopen(request, timeout=10).read().decode())
"""


class MirrorHandler(QuietHandler):
    """Answers with what it was sent to know the asker by."""

    def do_GET(self) -> None:
        """Answer."""
        answer = self.headers["Authorization"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


def test_a_program_uses_a_secret_that_it_has_not(
    way: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    server = WebServer(tmp_path, server_tls, MirrorHandler)
    about = {"TOKEN": {"hosts": [f"good.example:{server.port}"], "value": "v4lue"}}
    secrets = HostSecrets.parse("secrets", about, {})
    made = Egress(
        HostRules(),
        secrets=secrets,
        resolve=lambda name, port: [ip_address("127.0.0.1")],
        may_lead_to=lambda address: True,
        to_servers=client_tls,
    )
    bundle = tmp_path / "authorities.pem"
    bundle.write_text(made.trusted_authorities() or "")
    command = [sys.executable, "-c", ASK, f"https://good.example:{server.port}/"]
    try:
        done = run_inside(made, way, command, **secrets.environment(str(bundle)))
    finally:
        made.close()
        server.close()
    assert done.stdout == "Bearer v4lue\n", done.stderr


TRY = """
import socket, sys
def tries(function):
    try:
        function()
        return "done"
    except OSError as error:
        return type(error).__name__
def listens(*options):
    with socket.socket() as one:
        for option in options:
            one.setsockopt(socket.SOL_SOCKET, option, 1)
        one.bind(("127.0.0.1", 3128))
        one.listen()
print(tries(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3)))
print(tries(lambda: socket.create_connection(("192.0.2.1", 80), 3)))
print(tries(lambda: listens(socket.SO_REUSEADDR)), tries(lambda: listens(socket.SO_REUSEPORT)))
print(tries(lambda: socket.create_connection(("127.0.0.1", 3128), 3)))
"""


def test_there_is_no_way_but_the_proxy(egress: Callable[..., Egress], way: str, web: WebServer) -> None:
    done = run_inside(egress(f"127.0.0.1:{web.port}"), way, [sys.executable, "-c", TRY, str(web.port)])
    assert done.stdout.split() == ["ConnectionRefusedError", "OSError", "OSError", "OSError", "done"], (
        done.stderr
    )
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy_port.PORT), 3)


def test_a_sandbox_that_is_started_again_has_its_network_again(
    egress: Callable[..., Egress], way: str, web: WebServer
) -> None:
    made = egress(f"good.example:{web.port}")
    for _ in range(3):
        done = run_inside(made, way, [sys.executable, "-c", FETCH, f"http://good.example:{web.port}/file"])
        assert done.stdout == "plain\n", done.stderr


def test_a_port_of_the_hosts_own_network_is_not_served(
    egress: Callable[..., Egress], caplog: pytest.LogCaptureFixture
) -> None:
    made = egress("good.example")
    with made.child_end() as theirs, socket.create_server(("127.0.0.1", 0)) as listener:
        socket.send_fds(theirs, [b"\0"], [listener.fileno()])
        theirs.setblocking(True)
        assert theirs.recv(1) == b""  # the host has closed its end, and so has looked at it
        connection = socket.create_connection(listener.getsockname(), 3)
    assert "it shares the host's network" in caplog.text
    with connection:
        assert not read_or_reset(connection)


def read_or_reset(connection: socket.socket) -> bytes:
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


def test_a_sandbox_that_hands_nothing_over_leaves_nothing_behind(
    egress: Callable[..., Egress], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    made = egress("good.example")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        made.child_end().close()
    made.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert caplog.text == ""


def test_a_sandbox_that_never_starts_ends_with_its_network(egress: Callable[..., Egress]) -> None:
    made = egress("good.example")
    with made.child_end() as theirs:
        made.close()
        assert theirs.recv(1) == b""  # the host's end is closed


def test_no_code_runs_if_nobody_takes_the_port(egress: Callable[..., Egress], way: str) -> None:
    made = egress("good.example")
    theirs = made.child_end()
    made.close()
    made.child_end = lambda: theirs  # type: ignore[method-assign]
    done = run_inside(made, way, [sys.executable, "-c", "print('runs')"])
    assert done.stdout == ""
    assert "BrokenPipeError" in done.stderr


def test_the_command_has_no_descriptor_of_the_port(egress: Callable[..., Egress], way: str) -> None:
    done = run_inside(
        egress("good.example"), way, [sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"]
    )
    assert done.stdout == "['0', '1', '2', '3']\n", done.stderr  # the last is the folder's own


# --- the programs that people use


def wheel(name: str) -> bytes:
    """Return a wheel with one empty module."""
    data = io.BytesIO()
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return data.getvalue()


def test_pip_installs_through_it(
    egress: Callable[..., Egress], secure: WebServer, certificate: Path, tmp_path: Path
) -> None:
    if reason := lacks("bwrap"):
        pytest.skip(reason)
    index = tmp_path / "served" / "simple" / "agentdprobe"
    index.mkdir(parents=True)
    (index / "agentdprobe-1.0-py3-none-any.whl").write_bytes(wheel("agentdprobe"))
    (index / "index.html").write_text(
        '<a href="agentdprobe-1.0-py3-none-any.whl">agentdprobe-1.0-py3-none-any.whl</a>'
    )
    target = tmp_path / "installed"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--target",
        str(target),
        "--no-deps",
        "agentdprobe",
    ]
    done = run_inside(
        egress(f"good.example:{secure.port}"),
        "bwrap",
        command,
        PIP_CERT=str(certificate),
        PIP_CONFIG_FILE=os.devnull,
        PIP_INDEX_URL=f"https://good.example:{secure.port}/simple/",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert (target / "agentdprobe.py").exists()


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_git_clones_through_it(
    egress: Callable[..., Egress], secure: WebServer, certificate: Path, tmp_path: Path
) -> None:
    if reason := lacks("bwrap"):
        pytest.skip(reason)
    env = {"HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    env |= {f"GIT_{who}_{what}": "x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    bare = str(tmp_path / "served" / "repository.git")
    git = functools.partial(subprocess.run, env=env, check=True, capture_output=True)
    git(["git", "init", "-q", str(tmp_path / "source")])
    git(["git", "-C", str(tmp_path / "source"), "commit", "-q", "--allow-empty", "-m", "first"])
    git(["git", "clone", "-q", "--bare", str(tmp_path / "source"), bare])
    git(["git", "-C", bare, "update-server-info"])
    url = f"https://good.example:{secure.port}/repository.git"
    done = run_inside(
        egress(f"good.example:{secure.port}"),
        "bwrap",
        ["git", "clone", "-q", url, str(tmp_path / "clone")],
        GIT_SSL_CAINFO=str(certificate),
        GIT_TERMINAL_PROMPT="0",
        HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "clone" / ".git" / "HEAD").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed (Node.js brings it)")
def test_npm_installs_through_it(
    egress: Callable[..., Egress], secure: WebServer, certificate: Path, tmp_path: Path
) -> None:
    if reason := lacks("bwrap"):
        pytest.skip(reason)
    served, url = tmp_path / "served", f"https://good.example:{secure.port}"
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        manifest = json.dumps({"name": "agentdprobe", "version": "1.0.0"}).encode()
        entry = tarfile.TarInfo("package/package.json")
        entry.size = len(manifest)
        archive.addfile(entry, io.BytesIO(manifest))
    (served / "probe.tgz").write_bytes(data.getvalue())
    digest = "sha512-" + base64.b64encode(hashlib.sha512(data.getvalue()).digest()).decode()
    version = {
        "name": "agentdprobe",
        "version": "1.0.0",
        "dist": {"tarball": f"{url}/probe.tgz", "integrity": digest},
    }
    document = {"name": "agentdprobe", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    (served / "agentdprobe").write_text(json.dumps(document))
    project = tmp_path / "project"
    project.mkdir()
    done = run_inside(
        egress(f"good.example:{secure.port}"),
        "bwrap",
        ["npm", "install", "--prefix", str(project), "--no-audit", "--no-fund", "agentdprobe"],
        npm_config_registry=f"{url}/",
        npm_config_cafile=str(certificate),
        npm_config_userconfig=os.devnull,
        npm_config_cache=str(tmp_path / "cache"),
        npm_config_update_notifier="false",
        HOME=str(tmp_path),
        timeout_s=90,
    )
    assert done.returncode == 0, done.stderr
    assert (project / "node_modules" / "agentdprobe" / "package.json").exists()
