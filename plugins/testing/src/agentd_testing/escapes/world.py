"""The host around a sandbox that is tried: baits, listeners and a decoy, made for this run and gone after it."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final

import attrs

from agentd_testing.escapes.keyring import bait_key
from agentd_testing.escapes.system_v import bait_system_v

__all__ = ["BAITS", "SECRET_VARIABLE", "World"]

BAITS: Final = (
    ".ssh/id_ed25519", ".aws/credentials", ".gnupg/private-keys-v1.d/key", ".netrc", ".npmrc", ".pypirc",
    ".git-credentials", ".config/gh/hosts.yml", ".docker/config.json", ".kube/config", ".bash_history",
    ".config/gcloud/application_default_credentials.json", ".local/state/agentd/oauth/server.json",
)  # fmt: skip
"""Files below the home directory in which programs keep secrets."""

SECRET_VARIABLE: Final = "ESCAPE_TEST_API_KEY"

_PLACES: Final = ("/", "/etc", "/etc/cron.d", "/usr/bin", "/tmp", "/dev/shm")

HEAD: Final = "ref: refs/heads/main\n"

_DECOY = "import sys; print('ready', flush=True); sys.stdin.read()"


class World:
    """A home with baits, a folder beside the workspace, listeners on the loopback, and a decoy process.

    Inside `with`, `environ` has the home as `HOME` and a secret in `SECRET_VARIABLE`: make the executor there.
    Everything is removed at the end, the variables restored.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        self.secret = f"bait{secrets.token_hex(12)}"
        self.environ = os.environ if environ is None else environ
        self._stack = ExitStack()

    def __enter__(self) -> World:
        with ExitStack() as stack:
            self.root = Path(stack.enter_context(_folder()))
            self.workspace = self.root / "workspace"
            self.outside = self.root / "outside"
            self.home = self.root / "home"
            for folder in (self.workspace, self.outside, self.home):
                folder.mkdir(mode=0o755)
            self._fill()
            self._tcp = stack.enter_context(_listener(socket.AF_INET, ("127.0.0.1", 0)))
            self._udp = stack.enter_context(_socket(socket.AF_INET, socket.SOCK_DGRAM))
            self._udp.bind(("127.0.0.1", 0))
            unix = str(self.outside / "service.sock")
            stack.enter_context(_listener(socket.AF_UNIX, unix))
            self._datagrams = stack.enter_context(_socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            self._datagrams.bind(str(self.outside / "datagrams.sock"))
            os.chmod(self.outside / "datagrams.sock", 0o777)
            stack.enter_context(_fifo(self.outside / "pipe"))
            self._abstract = f"agentd-{self.secret}"
            if sys.platform == "linux":
                stack.enter_context(_listener(socket.AF_UNIX, f"\0{self._abstract}"))
            variables = {"HOME": str(self.home), SECRET_VARIABLE: self.secret}
            variables["XDG_STATE_HOME"] = str(
                self.home / ".local/state"
            )  # where the bait of agentd's own tokens is
            stack.enter_context(_variables(self.environ, variables))
            self.decoy = stack.enter_context(_decoy(self.secret))
            self._key = stack.enter_context(bait_key(f"agentd-{self.secret}", self.secret))
            self._system_v = stack.enter_context(bait_system_v(self.secret))
            self.before = self.fingerprint()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _fill(self) -> None:
        # Readable for all: what keeps a sandbox from them is to be the sandbox, not the mode of a bait.
        for name in BAITS:
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"token = {self.secret}\n")
        (self.outside / "bait.txt").write_text(f"{self.secret}\n")
        (self.outside / "folder").mkdir()
        (self.outside / "folder" / "inner.txt").write_text(f"{self.secret}\n")
        (self.workspace / "plain.txt").write_text("plain\n")
        for repository in (".git", "nested/.git", ".git/modules/module"):
            _make_repository(self.workspace / repository)
        (self.workspace / "module").mkdir()
        (self.workspace / "module/.git").write_text("gitdir: ../.git/modules/module\n")
        linked = self.workspace / ".git/worktrees/linked"
        linked.mkdir(parents=True)
        for name, text in (
            ("HEAD", HEAD),
            ("commondir", "../..\n"),
            ("gitdir", f"{self.outside}/linked/.git\n"),
        ):
            (linked / name).write_text(text)

    def facts(self, mark: str) -> dict[str, object]:
        """Return what a case's code is told."""
        return {
            "mark": mark,
            "secret": self.secret,
            "workspace": str(self.workspace),
            "skills": str(self.workspace / "skills"),
            "outside": str(self.outside),
            "home": str(self.home),
            "variable": SECRET_VARIABLE,
            "host_pid": os.getpid(),
            "decoy_pid": self.decoy.pid,
            "tcp_port": self._tcp.getsockname()[1],
            "udp_port": self._udp.getsockname()[1],
            "unix_socket": str(self.outside / "service.sock"),
            "datagram_socket": str(self.outside / "datagrams.sock"),
            "abstract_socket": self._abstract,
            "fifo": str(self.outside / "pipe"),
            "system_v": attrs.asdict(self._system_v),
            "key": self._key,
            "places": {path: _identity(path) for path in _PLACES if os.path.exists(path)},
        }

    def fingerprint(self) -> dict[str, tuple[int, int, int, int]]:
        """Return mode, size, inode and time of change of all that lies beside the workspace."""
        found = {}
        for top in (self.outside, self.home):
            for path in (top, *sorted(top.rglob("*"))):
                status = path.lstat()
                # a directory's time changes with every entry, which the entries themselves tell
                size, time = (0, 0) if path.is_dir() else (status.st_size, status.st_mtime_ns)
                found[str(path.relative_to(self.root))] = (status.st_mode, size, status.st_ino, time)
        return found

    def changes(self) -> list[str]:
        """Return what has changed outside since the last call (or the start)."""
        before, self.before = self.before, self.fingerprint()
        names = sorted(before.keys() | self.before.keys())
        return [name for name in names if before.get(name) != self.before.get(name)]


def _make_repository(folder: Path) -> None:
    for name in ("hooks", "objects", "refs"):
        (folder / name).mkdir(parents=True)
    (folder / "HEAD").write_text(HEAD)
    (folder / "config").write_text("[core]\n\trepositoryformatversion = 0\n")


def _identity(path: str) -> tuple[int, int]:
    """What tells the host's folder from another that lies at its path in a sandbox."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


@contextmanager
def _folder() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="agentd-escape-")
    os.chmod(path, 0o755)  # an executor that drops its rights must get to the workspace
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _variables(environ: MutableMapping[str, str], values: dict[str, str]) -> Iterator[None]:
    before = {name: environ.get(name) for name in values}
    environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                environ.pop(name, None)
            else:
                environ[name] = value


@contextmanager
def _socket(family: int, kind: int) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as made:
        yield made


@contextmanager
def _fifo(path: Path) -> Iterator[None]:
    """A FIFO that everybody may write to, and that somebody reads."""
    os.mkfifo(path)
    path.chmod(0o666)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        yield
    finally:
        os.close(reading)


@contextmanager
def _listener(family: int, address: object) -> Iterator[socket.socket]:
    """Listen, and close every connection that comes."""
    with socket.socket(family) as sock:
        sock.bind(address)  # type: ignore[arg-type]
        if family == socket.AF_UNIX and isinstance(address, str) and not address.startswith("\0"):
            os.chmod(address, 0o777)
        sock.listen(16)
        thread = threading.Thread(target=_accept, args=(sock.accept,), daemon=True)
        thread.start()
        try:
            yield sock
        finally:
            sock.shutdown(socket.SHUT_RDWR)  # wakes the thread, which closing alone would not
            thread.join(5)


def _accept(accept: Callable[[], tuple[socket.socket, object]]) -> None:
    while True:
        try:
            accept()[0].close()
        except OSError:
            return


@contextmanager
def _decoy(secret: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the host that cases may look for: it waits, and has the secret in arguments and environment."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", _DECOY, secret],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        env={"PATH": os.defpath, SECRET_VARIABLE: secret},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()
