"""Ways out of the sandbox, tried from inside. Each is harmless if it works: what is opened is not written, signals go
to processes of the test alone, and what is read are files of the test."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sandbox
from agentd.errors import RunnerDiedError
from agentd_executor_srt.executor import SandboxRuntimeExecutor
from agentd_skills import layout_of
from agentd_tools import ToolSet

TRY = """
import errno, os
def attempt(path, flags):
    try:
        os.close(os.open(path, flags))
        return "open"
    except OSError as error:
        return errno.errorcode[error.errno]
"""
REFUSED = {"EACCES", "EPERM", "EROFS", "ENOENT", "ENXIO"}


class World:
    """A sandbox, and things of the host beside it that it must not touch."""

    def __init__(self, executor: SandboxRuntimeExecutor, outside: Path) -> None:
        self.executor = executor
        self.outside = outside

    def python(self, code: str) -> str:
        output, _ = self.executor.execute_python(code)
        return output.strip()

    def attempt(self, path: str | Path, flags: str) -> str:
        return self.python(f"{TRY}\nprint(attempt({str(path)!r}, {flags}))")

    def bash(self, code: str) -> str:
        return self.executor.execute_bash(code)[0].strip()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    outside = tmp_path_factory.mktemp("attacks") / "outside"
    outside.mkdir()
    for folder in (outside, outside.parent):
        folder.chmod(0o777)
    (outside / "secret").write_text("s3cr3t")
    (outside / "writable").touch()
    for name in ("secret", "writable"):
        (outside / name).chmod(0o666)  # nothing but the sandbox shall keep code from it
    workspace = outside.parent / "attacked"
    os.environ["HOST_API_KEY"] = "s3cr3t-key"
    try:
        with sandbox.make(
            workspace, timeout=20, deny_read=[outside / "secret"], env={"GIVEN": "1"}
        ) as executor:
            skills = workspace / "skills"
            (skills / "bin").mkdir(parents=True)
            (skills / "bin" / "tool").write_text("#!/bin/sh\n")
            executor.attach(tools=None, layout=layout_of(skills))
            yield World(executor, outside)
    finally:
        del os.environ["HOST_API_KEY"]


# --- files -------------------------------------------------------------------------------------


def test_nothing_outside_of_the_workspace_can_be_written(world: World) -> None:
    home = Path.home()
    assert world.attempt(world.outside / "writable", "os.O_WRONLY") in REFUSED
    for path in ("/etc/passwd", "/usr/bin/env", f"{home}/.bashrc", "/etc/hosts", sys.executable):
        assert world.attempt(path, "os.O_WRONLY") in REFUSED, path
    for folder in ("/tmp", "/var/tmp", "/usr/lib", "/run", "/proc/1", str(world.outside)):
        assert (
            world.bash(f"touch {folder}/agentd-attack 2>/dev/null && rm {folder}/agentd-attack && echo open")
            == ""
        ), folder


def test_the_folder_that_srt_shares_between_sandboxes_cannot_be_written(tmp_path: Path) -> None:
    shared = Path("/tmp/claude")
    there = shared.exists()
    shared.mkdir(exist_ok=True)
    try:
        if not there:
            shared.chmod(0o777)
        with sandbox.make(tmp_path) as executor:
            assert executor.execute_bash(f"echo x > {shared}/agentd-attack")[1] == 1
    finally:
        if not there:
            shared.rmdir()


def test_a_link_of_the_workspace_leads_nowhere(world: World) -> None:
    world.bash(f"ln -sf {world.outside}/writable link; ln -sfn {world.outside} folder")
    assert world.attempt("link", "os.O_WRONLY") in REFUSED
    assert world.attempt("folder/writable", "os.O_WRONLY") in REFUSED
    assert world.bash(f"ln {world.outside}/writable hard 2>&1") != ""
    assert not (world.executor.workspace_dir / "hard").exists()
    assert "leaves the workspace" in world.executor.create_file("folder/new", "x")
    assert not (world.outside / "new").exists()


def test_a_denied_file_is_not_readable_under_any_name(world: World) -> None:
    secret = world.outside / "secret"
    world.bash(f"ln -sf {secret} s; ln -sfn {world.outside} d")
    for path in (
        secret,
        "s",
        "d/secret",
        f"/proc/self/root{secret}",
        f"/proc/self/cwd/../{secret.parent.name}/secret",
    ):
        got = world.python(
            f"try: print(open({str(path)!r}).read())\nexcept OSError as e: print(type(e).__name__)"
        )
        assert "s3cr3t" not in got, path


def test_proc_and_sys_cannot_be_set(world: World) -> None:
    for path in (
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/vm/drop_caches",
        "/proc/sysrq-trigger",
        "/proc/1/mem",
        "/proc/kcore",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/cgroup.procs",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/vsock",
        "/dev/fuse",
    ):
        assert world.attempt(path, "os.O_WRONLY") in REFUSED | {"EISDIR"}, path


def test_files_that_other_programs_obey_cannot_be_made(world: World) -> None:
    for path in (
        ".mcp.json",
        ".bashrc",
        ".gitconfig",
        ".envrc",
        ".vscode/tasks.json",
        ".claude/settings.json",
    ):
        got = world.bash(
            f"mkdir -p $(dirname {path}) 2>/dev/null; (echo x > {path}) 2>/dev/null && echo made"
        )
        assert got == "", path
        assert (
            world.bash(f"rm -rf {path} 2>&1; mv {path} moved 2>&1; ls moved 2>/dev/null | head -1") != "moved"
        )


def test_the_hooks_of_a_repository_cannot_be_planted(tmp_path: Path) -> None:
    workspace = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", workspace], check=True)
    with sandbox.make(workspace) as executor:
        output, code = executor.execute_bash("echo x > .git/hooks/pre-commit; git config core.fsmonitor ./x")
        assert code != 0
        assert "ead-only" in output
        output, code = executor.execute_bash("touch new; git add -A . && git status --porcelain")
        assert (output, code) == ("A  new\n", 0)  # srt's placeholders are not in git's way
    assert not (workspace / ".git" / "hooks" / "pre-commit").exists()
    assert "fsmonitor" not in (workspace / ".git" / "config").read_text()


def test_skills_cannot_be_planted(world: World) -> None:
    for command in (
        "echo x > skills/bin/node",
        "echo x >> skills/bin/tool",
        "rm skills/bin/tool",
        "mv skills old",
    ):
        assert world.bash(f"({command}) 2>/dev/null && echo done") == "", command
    *_, skills, programs = world.bash("echo $PATH").split(":")  # behind all of the system's
    assert skills == f"{world.executor.workspace_dir}/skills/bin"
    assert world.bash(f"ls {programs}; touch {programs}/x 2>/dev/null; ls {programs}") == "job\njob"


def test_programs_that_the_host_starts_are_not_looked_for_in_the_workspace(tmp_path: Path) -> None:
    with sandbox.make(tmp_path / "w") as executor:
        script = f'#!/bin/sh\ntouch {tmp_path}/escaped\nexec /usr/bin/$(basename $0) "$@"\n'
        tmp_path.chmod(0o777)
        bin_dir = executor.workspace_dir / ".agentd" / "site" / "bin"
        executor.execute_bash(
            f"mkdir -p {bin_dir}; for n in bwrap socat rg node bash sh which; do "
            f"printf '%s' '{script}' > {bin_dir}/$n; chmod +x {bin_dir}/$n; done"
        )
        old = os.environ["PATH"]
        os.environ["PATH"] = f"{bin_dir}:{old}"  # a careless host
        try:
            executor._connection.kill("the test wants a new one")  # type: ignore[union-attr]
            with contextlib.suppress(RunnerDiedError):  # if the end is not known yet
                executor.execute_bash("true")
            executor.execute_bash("true")
        finally:
            os.environ["PATH"] = old
    assert not (tmp_path / "escaped").exists()


def test_no_file_gets_a_setuid_or_setgid_bit(tmp_path: Path) -> None:
    with sandbox.make(tmp_path / "w") as executor:
        code = (
            "import os\n"
            "def tried(function):\n"
            "    try: function()\n"
            "    except PermissionError: return 'refused'\n"
            "open('mine', 'w').close(); folder = os.open('.', os.O_RDONLY); mine = os.open('mine', os.O_RDWR)\n"
            "for bit in (0o4000, 0o2000):\n"
            "    mode = bit | 0o755\n"
            "    print(tried(lambda: os.chmod('mine', mode)), tried(lambda: os.fchmod(mine, mode)),\n"
            "          tried(lambda: os.chmod('mine', mode, dir_fd=folder)),\n"
            "          tried(lambda: os.open('new', os.O_CREAT | os.O_WRONLY, mode)),\n"
            "          tried(lambda: os.open('.', os.O_TMPFILE | os.O_WRONLY, mode)),\n"
            "          tried(lambda: os.mknod('node', 0o100000 | mode)))\n"
            "os.chmod('mine', 0o1755)\n"
        )
        assert executor.execute_python(code) == (
            "refused " * 5 + "refused\n" + "refused " * 5 + "refused\n",
            0,
        )
        assert executor.execute_bash("cp /usr/bin/id id; chmod 6755 id 2>&1; stat -c %a id")[0].endswith(
            "755\n"
        )
        assert executor.execute_bash(
            "mkdir d; chmod 700 d; install -m 755 id d/id; cp -a d e; stat -c %a e e/id"
        ) == (
            "700\n755\n",
            0,
        )
    assert {path.stat().st_mode & 0o6000 for path in (tmp_path / "w").rglob("*")} == {0}


# --- secrets ------------------------------------------------------------------------------------


def test_no_environment_of_the_host_is_seen(world: World) -> None:
    assert "s3cr3t" not in world.bash("env; cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert world.bash("echo $GIVEN") == "1"


def test_the_settings_are_gone_before_code_runs(world: World) -> None:
    assert world.executor._sandbox_dir is not None
    found = world.bash(
        f"find {world.executor._sandbox_dir} /tmp -name 'settings*.json' 2>/dev/null | head -3"
    )
    assert str(world.executor._sandbox_dir) not in found


@pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="knows the numbers of that machine's system calls alone"
)
def test_keys_of_the_host_s_session_are_not_found(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None)
    key = libc.syscall(248, b"user", b"agentd-test", b"s3cr3t", 6, -3)  # add_key to the session's keyring
    if key < 0:
        pytest.skip("this kernel or container has no keyrings")
    try:
        find = "import ctypes; print(ctypes.CDLL(None).syscall(250, 10, -3, b'user', b'agentd-test', 0))"
        found = subprocess.run([sys.executable, "-c", find], capture_output=True, text=True, check=True)
        assert int(found.stdout) == key
        with sandbox.make(tmp_path) as executor:
            assert executor.execute_python(find) == ("-1\n", 0)
    finally:
        libc.syscall(250, 9, key, -3)  # unlink it


def test_no_descriptor_of_the_host_is_inherited(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cr3t")
    leak = os.open(tmp_path / "secret", os.O_RDONLY)
    os.set_inheritable(leak, True)
    high = fcntl.fcntl(leak, fcntl.F_DUPFD, 40)  # inherited, too; dup2 would take a number that is in use
    try:
        with sandbox.make(tmp_path / "w") as executor:
            code = (
                "import os\n"
                "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
                "    try: names = os.listdir(f'/proc/{pid}/fd')\n"
                "    except OSError: continue\n"
                "    for name in names:\n"
                "        try: print(os.readlink(f'/proc/{pid}/fd/{name}'))\n"
                "        except OSError: pass\n"
            )
            output, _ = executor.execute_python(code)
    finally:
        os.close(leak)
        os.close(high)
    assert "pipe:" in output
    assert "secret" not in output


# --- the network --------------------------------------------------------------------------------


def test_the_loopback_of_the_host_is_out_of_reach(world: World) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as v6,
    ):
        accepted = []
        for listening in (server, v6):
            threading.Thread(target=_accept, args=(listening, accepted), daemon=True).start()
        port, port6 = server.getsockname()[1], v6.getsockname()[1]
        code = (
            "import socket\n"
            f"for address in (('127.0.0.1', {port}), ('localhost', {port}), ('::1', {port6}), ('10.0.2.2', {port})):\n"
            "    try: socket.create_connection(address, 1); print('reached')\n"
            "    except OSError: print('no')\n"
        )
        assert world.python(code).split() == ["no"] * 4
        for url in (f"http://127.0.0.1:{port}/", f"http://localhost:{port}/", f"http://[::1]:{port6}/"):
            world.bash(
                f"curl -s -m 3 --noproxy '' {url}; curl -s -m 3 -x socks5h://localhost:1080 {url}; "
                f"curl -s -m 3 --noproxy '' -p -x $HTTP_PROXY {url}"
            )
        assert accepted == []


def _accept(server: socket.socket, accepted: list[object]) -> None:
    try:
        while True:
            accepted.append(server.accept())
    except OSError:
        pass


def test_metadata_addresses_other_hosts_and_names_are_out_of_reach(world: World) -> None:
    code = (
        "import socket\n"
        "socket.setdefaulttimeout(2)\n"
        "for address in (('169.254.169.254', 80), ('100.100.100.200', 80), ('1.1.1.1', 53), ('example.com', 80)):\n"
        "    try: socket.create_connection(address); print('reached')\n"
        "    except OSError: print('no')\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "    try: s.sendto(b'x', ('1.1.1.1', 53)); print('sent')\n"
        "    except OSError: print('no')\n"
    )
    assert world.python(code).split() == ["no"] * 5
    got = world.bash(
        "curl -s -m 5 --noproxy '' -o /dev/null -w '%{http_code}' http://169.254.169.254/latest/meta-data/"
    )
    assert got in ("403", "000")


@pytest.mark.parametrize(
    "what",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)",
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)",
        "socket.socket(40, socket.SOCK_STREAM)",  # AF_VSOCK
        "socket.socket(38, socket.SOCK_SEQPACKET)",  # AF_ALG
    ],
)
def test_sockets_that_lead_out_cannot_be_made(world: World, what: str) -> None:
    got = world.python(f"import socket\ntry: {what}; print('made')\nexcept OSError as e: print('no')")
    assert got == "no"


def test_a_socket_of_a_service_on_this_machine_is_out_of_reach(world: World) -> None:
    """0.8.6 opened docker.sock and every other Unix socket to code."""
    path = world.outside / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o777)
        server.listen()
        server.settimeout(0.2)
        world.bash(
            f"curl -s -m 2 --unix-socket {path} http://localhost/; socat - UNIX-CONNECT:{path} </dev/null"
        )
        world.python(
            f"import socket, ctypes\ntry: socket.socket(socket.AF_UNIX).connect({str(path)!r})\nexcept OSError: pass"
        )
        with pytest.raises(TimeoutError):
            server.accept()


# --- processes ----------------------------------------------------------------------------------


def test_processes_of_the_host_can_be_neither_seen_nor_signalled_nor_traced(world: World) -> None:
    with subprocess.Popen(["sleep", "98761"], start_new_session=True) as other:
        try:
            got = world.python(
                "import ctypes, os\n"
                "lines = []\n"
                "for pid in filter(str.isdigit, os.listdir('/proc')):\n"
                "    try: lines.append(open(f'/proc/{pid}/cmdline').read())\n"
                "    except OSError: pass\n"
                "print('98761' in ' '.join(lines))\n"
                f"seize = ctypes.CDLL(None).ptrace(0x4206, {other.pid}, 0, 0)\n"
                "print(seize)\n"
                f"try: os.kill({other.pid}, 0); print('there')\n"
                "except OSError: print('no')\n"
            )
            # The pid is free inside, or another process's of the sandbox; of the host's it is none.
            assert got.split()[0] == "False"
            assert got.split()[1] == "-1"
            assert got.split()[2] == "no"
            assert other.poll() is None
        finally:
            other.kill()


def test_the_runner_s_pipes_and_memory_are_closed_to_code_and_its_own_are_not(world: World) -> None:
    code = (
        "import os\n"
        "pid = os.getppid()\n"
        "while pid:\n"
        "    for what in ('fd', 'mem', 'environ', 'map_files'):\n"
        "        try: os.close(os.open(f'/proc/{pid}/{what}', os.O_RDONLY)); print(pid, what)\n"
        "        except OSError: pass\n"
        "    pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])\n"
        "open('/proc/self/mem', 'rb').close()\n"
        "print(len(os.listdir('/proc/self/fd')) > 2)\n"
    )
    assert world.python(code) == "True"
    assert world.bash("cat /proc/$$/environ | wc -c") != "0"


def test_namespaces_and_mounts_cannot_be_made(world: World) -> None:
    for command in (
        "unshare -Ur true",
        "unshare -m true",
        "mount -t tmpfs none .",
        "umount skills",
        "nsenter -t 1 -m true",
    ):
        assert world.bash(f"{command} 2>/dev/null && echo done") == "", command
    assert world.bash("grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status").split() == [
        "NoNewPrivs:",
        "1",
        "Seccomp:",
        "2",
    ]


def test_code_is_not_root_and_has_no_capability(world: World) -> None:
    assert int(world.bash("id -u")) != 0
    assert int(world.bash("grep CapEff /proc/self/status | cut -f2"), 16) == 0
    assert world.bash("sudo -n true 2>/dev/null || su -c true </dev/null 2>/dev/null || echo no") == "no"


# --- the bridge ---------------------------------------------------------------------------------


def test_the_tools_of_another_session_are_out_of_reach(tmp_path: Path) -> None:
    called: list[str] = []

    def reveal() -> str:
        """Say something."""
        called.append("reveal")
        return "revealed"

    tools = ToolSet([reveal])
    with sandbox.make(tmp_path / "a") as one, sandbox.make(tmp_path / "b") as two:
        one.attach(tools=tools, layout=None)
        say = "echo $AGENTD_TOOLS_URL $AGENTD_TOOLS_TOKEN; curl -s -o /dev/null -w '%{http_code}' " + _auth()
        url, token, code = one.execute_bash(say + " $AGENTD_TOOLS_URL/health")[0].split()
        assert code == "200"
        stolen = f"curl -s -m 2 -H 'Authorization: Bearer {token}' -d '{{}}' {url}/call/reveal"
        assert "revealed" not in two.execute_bash(stolen)[0]
        with pytest.raises(subprocess.CalledProcessError):  # nor does the host itself reach it
            subprocess.run(["curl", "-s", "-m", "2", "--noproxy", "*", url + "/health"], check=True)
        assert json.loads(one.execute_bash(stolen)[0]) == "revealed"
    assert called == ["reveal"]
    tools.close()


def _auth() -> str:
    return '-H "Authorization: Bearer $AGENTD_TOOLS_TOKEN"'
