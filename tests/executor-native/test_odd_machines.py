"""Machines and file systems that lack something: the sandbox works, or one sentence says what is missing.

They are made of this machine, for one program each: mounts in a view of its own, a filter that refuses system calls, a
namespace without others below it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import native
import odd_machines
import pytest
from agentd_executor_native import requirements
from unprivileged import NOBODY, PYTHON, importable_paths

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes odd machines, as root alone can"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="knows the system calls of x86-64 alone"),
]

PROGRAM = """
from agentd import AgentdError, Registry
try:
    with Registry().create_executor(sys.argv[1], sys.argv[2], timeout=30) as executor:
        print(executor.plugin_name, executor.execute_bash("rm -f made; echo in > made; cat made")[0])
except AgentdError as error:
    print(type(error).__name__, error)
"""

# What Docker's filter refuses a container without privileges: clone, unshare and mount; clone3 is not there.
CONTAINER = "namespaces=1,272=1,165=1,435=38"
NO_LANDLOCK = "444=38,445=38,446=38"
OLD = "424=38,434=38,435=38,436=38,437=38,428=38,429=38,442=38"


@pytest.fixture
def workspace() -> Iterator[Path]:
    """A folder that is everybody's, on a way that is open to all."""
    native.need_native()
    if subprocess.run(["unshare", "--mount", "true"], check=False).returncode != 0:
        pytest.skip("this machine does not let root make a mount namespace")
    with tempfile.TemporaryDirectory(prefix="agentd-tests-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        made = Path(folder, "w")
        made.mkdir()
        made.chmod(0o777)
        yield made


def run(
    workspace: Path,
    *before: str,
    mounts: str = "",
    nobody: bool = False,
    executor: str = "native",
) -> str:
    """Return what happens in the workspace behind `mounts`, a shell's commands, and `before`, a command's start."""
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if nobody else []
    prelude = f"import sys; sys.path[:0] = {importable_paths()!r}\n" if nobody else "import sys\n"
    python = PYTHON if nobody else sys.executable
    program = [*user, *before, python, "-c", prelude + PROGRAM, executor, str(workspace)]
    state = workspace.parent / f"state-{nobody}"
    state.mkdir(exist_ok=True)
    state.chmod(0o777)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", f'{mounts or ":"}; exec "$@"', "sh", *program],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", "XDG_STATE_HOME": str(state)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return " ".join((done.stdout + done.stderr).split())


def refusing(rules: str) -> list[str]:
    return ["/usr/bin/python3", odd_machines.__file__, rules, "--"]


FILE_SYSTEMS = {
    "tmpfs": "mount -t tmpfs -o mode=777 tmpfs {0}",
    "ramfs": "mount -t ramfs -o mode=777 ramfs {0}",
    "overlay": (
        "mount -t tmpfs tmpfs /mnt; mkdir -m 777 /mnt/l /mnt/u /mnt/k; "
        "mount -t overlay -o lowerdir=/mnt/l,upperdir=/mnt/u,workdir=/mnt/k overlay {0}"
    ),
}


@pytest.mark.parametrize("kind", FILE_SYSTEMS)
def test_a_workspace_on_any_file_system_works_but_for_root_on_one_without_id_maps(
    kind: str, workspace: Path
) -> None:
    mounts = FILE_SYSTEMS[kind].format(workspace)
    assert run(workspace, mounts=mounts, nobody=True, executor="auto") == "native in"
    said = run(workspace, mounts=mounts, executor="auto")
    if kind == "tmpfs":
        assert said == "native in"
    else:
        assert said.startswith(
            f"SandboxUnavailableError the sandbox native cannot run here: root's sandbox shows {workspace} as"
        )
        assert said.endswith(
            "use a folder on one of those, do not run as root, or name the executor 'subprocess', which is no sandbox "
            "(agentd run -e subprocess)"
        )


def test_a_container_without_privileges_is_told_what_it_needs(workspace: Path) -> None:
    said = run(workspace, *refusing(CONTAINER), nobody=True)
    assert "in a container: start it with a seccomp profile that allows them" in said
    said = run(workspace, *refusing(CONTAINER), nobody=True, executor="auto")
    assert said.startswith("subprocess in the sandbox native cannot run here: ")


@pytest.mark.parametrize("nobody", [True, False])
def test_a_container_whose_proc_is_masked_is_told_what_it_needs(nobody: bool, workspace: Path) -> None:
    said = run(workspace, mounts="mount -t tmpfs tmpfs /proc/sysvipc", nobody=nobody)
    assert "does not let bubblewrap mount a /proc of its own" in said
    assert "systempaths=unconfined" in said


@pytest.mark.parametrize("missing", ["sys_admin", "setuid"])
def test_root_without_its_capabilities_is_told_which(missing: str, workspace: Path) -> None:
    without = ["setpriv", f"--bounding-set=-{missing}", f"--inh-caps=-{missing}"]
    assert "SYS_ADMIN, SETUID and SETGID" in run(workspace, *without)


def test_the_root_of_a_user_namespace_is_told_so_and_auto_decides(workspace: Path) -> None:
    said = run(workspace, "unshare", "--user", "--map-root-user", nobody=True)
    assert "this is the root of a user namespace" in said
    assert said.endswith("run as another user in there")
    said = run(workspace, "unshare", "--user", "--map-root-user", nobody=True, executor="auto")
    assert said.startswith(
        "subprocess in the sandbox native cannot run here: this is the root of a user namespace"
    )


def test_switched_off_user_namespaces_are_told_with_the_command_that_allows_them(workspace: Path) -> None:
    off = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'  # in a namespace: it is that one's own setting
    said = run(workspace, "unshare", "--user", "--map-root-user", "sh", "-c", off, "sh", nobody=True)
    assert "sysctl -w user.max_user_namespaces=15000" in said


def test_neither_landlock_nor_a_new_kernel_s_calls_are_needed_but_by_root(workspace: Path) -> None:
    assert run(workspace, *refusing(NO_LANDLOCK)) == "native in"
    assert run(workspace, *refusing(f"{NO_LANDLOCK},{OLD}"), nobody=True) == "native in"
    for call in ("428=38", "442=38"):
        said = run(workspace, *refusing(call))
        assert "Linux 5.12" in said
        assert "do not run as root" in said


def test_root_is_told_that_a_kernel_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    old = os.uname_result((real.sysname, real.nodename, "5.10.0-28-amd64", real.version, real.machine))
    monkeypatch.setattr(os, "uname", lambda: old)
    (found,) = [needed for needed in requirements.list_requirements() if needed.name == "user namespaces"]
    assert not found.ok
    assert "needs Linux 5.12, and this is 5.10.0-28-amd64: do not run as root" in found.remedy
    with pytest.raises(requirements.UnfitMachineError, match=r"Linux 5\.12"):
        requirements.find_bubblewrap()
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    assert requirements.find_bubblewrap().version
