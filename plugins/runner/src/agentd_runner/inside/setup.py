"""What forked code needs: workspace, environment, limits and imports, from the host's HELLO and SETUP frames."""

from __future__ import annotations

import os
import sys

from .files import make_folder, remove_folder, remove_tree
from .frames import RELEASE, VERSION, FrameError
from .limits import ULIMIT
from .processes import PR_SET_DUMPABLE, adopt_orphans, load_prctl, lower_priority, tasks_here
from .shipped import ShippedModules
from .startup import StartupFolder

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any


class RunnerSetup:
    """The values of a session. The spawner has them as they were when it was forked."""

    def __init__(self) -> None:
        self.prctl = load_prctl()
        # For workers alone: code can write there.
        self.pythonpath: list[str] = []
        self.site: list[str] = []
        self.site_at = 0  # where in sys.path the standard library ends
        self.trusts_interpreter = False  # its folders are as good as code's own: there is no wall between
        self.imports: list[str] = []  # modules to import before a block asks for them
        self.shipped: list[str] = []  # modules that were imported from the host's text
        self.bindings = 0  # how often that came
        self.catalog = "[]"
        # From the host's HELLO:
        self.workspace = self.token = self.bash = self.socket_path = ""
        self.env: dict[str, str] = {}
        self.limits: dict[str, int] = {}
        self.folders: list[str] = []
        self.own_folders: list[str] = []  # nobody else's, and not in the workspace
        self.output_bytes = 0
        self.jobs = self.job_output_bytes = 0
        self.grace_s = 0.0
        self.tells_clock = False
        self.startup: StartupFolder | None = None

    def take_hello(self, given: dict[str, Any]) -> None:
        """Take the first frame. Raises `FrameError` if this runner cannot do what the host wants."""
        check_versions(given)
        self.workspace = given["workspace"]
        # What the place itself sets (a sandbox's proxies, its placeholders for secrets) is known in here only.
        inherited = {name: os.environ[name] for name in given.get("inherit", ()) if name in os.environ}
        self.env = {**given["env"], **inherited}
        self.limits = given["limits"]
        for name in self.limits:
            if name.startswith("RLIMIT_") and name not in ULIMIT:
                raise FrameError(f"unknown limit {name}")
        if "RLIMIT_NPROC" in self.limits:  # it counts all of the user's tasks, those of before too
            self.limits["RLIMIT_NPROC"] += tasks_here()
        if "niceness" in given:  # before there is a process below this one
            lower_priority(given["niceness"])
        self.output_bytes = given["output_bytes"]
        self.jobs, self.job_output_bytes = given.get("jobs", 0), given.get("job_output_bytes", 0)
        self.grace_s = given["grace_s"]
        self.tells_clock = given.get("tells_clock", False)
        self.token = given["token"]
        self.trusts_interpreter = given.get("trusts_interpreter", False)
        self.imports = given.get("imports", [])
        self.bash = self.find_bash()
        self.socket_path = given.get("socket") or ""
        self.folders = given.get("folders", ())
        self.own_folders = given.get("watched", ())
        for folder in self.folders:  # made in here, with the rights of code
            try:
                make_folder(self.workspace, folder)
            except OSError:
                pass  # a full disk: the actions will say so; or a link that code has planted
        if "TMPDIR" in self.env:
            self.startup = StartupFolder(self.workspace, self.env["TMPDIR"], self.token)
            self.startup.on_path(self.env)
            self.startup.programs_on_path(self.env)
        adopt_orphans(self.prctl)
        if self.prctl is not None:
            # Code has the same user: without this it could open our pipe to the host, or our memory, through /proc.
            # The spawner and the supervisors inherit it; a worker gives it up (`PythonWorker.run_job`, exec)
            # to be debugged and measured as anywhere.
            self.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
        self.env.setdefault("AGENTD_PYTHON", sys.executable)

    def find_bash(self) -> str:
        """Return the path of bash: the place's own, not one that code has put into the workspace."""
        workspace = os.path.realpath(self.workspace) + "/"
        for directory in [*self.env.get("PATH", "").split(":"), "/bin", "/usr/bin"]:
            path = os.path.join(directory, "bash")
            there = directory.startswith("/") and os.access(path, os.X_OK)
            if there and not os.path.realpath(path).startswith(workspace):
                return path
        return "/bin/bash"

    def take_bindings(self, given: dict[str, Any]) -> bool:
        """Take new bindings: import them here, so that every later worker has them from its fork.

        Returns True if others were there before, which are garbage then.
        """
        for key, value in given.get("bindings_env", {}).items():
            self.env[key] = value
        if self.startup is not None and "PYTHONPATH" in given.get("bindings_env", {}):
            self.startup.on_path(self.env)
        if self.startup is not None and "PATH" in given.get("bindings_env", {}):
            self.startup.programs_on_path(self.env)
        self.catalog = given.get("catalog", self.catalog)
        self.pythonpath = given.get("pythonpath", self.pythonpath)
        self.site = given.get("site", self.site)
        old = [name for name in self.shipped if sys.modules.pop(name, None) is not None]
        modules = ShippedModules(given.get("sources", {}), self.pythonpath)
        modules.import_them(given.get("preload", ()))
        self.bindings += 1
        self.shipped = [name for name in modules.paths if name in sys.modules]
        return bool(old)

    def tidy(self) -> None:
        """Remove the socket, the session's own folders, and those that are empty now of the others and around them.

        The host does it too, if it is still there and we were killed.
        """
        if self.socket_path:
            try:
                os.unlink(self.socket_path)
            except OSError:
                pass
        if self.startup is not None:
            self.startup.remove()
        for folder in [*self.folders, *{os.path.dirname(folder) for folder in self.folders}]:
            try:
                remove_folder(self.workspace, folder)
            except OSError:
                if folder in self.own_folders:
                    remove_tree(folder)


def check_versions(given: dict[str, Any]) -> None:
    """Raise `FrameError`, which names both, if the host is of another protocol version or another release."""
    if given["version"] != VERSION:
        raise FrameError(f"the host speaks version {given['version']}, this runner {VERSION}")
    release = given.get("release", RELEASE)  # a client of the protocol that is not agentd's has none
    if release != RELEASE:
        raise FrameError(
            f"the host is of agentd-runner {release}, this runner of {RELEASE}: "
            "ship the runner of the host's own release, and restart a host whose files were replaced"
        )


def may_enter(folder: str) -> bool:
    return os.access(folder, os.X_OK) and os.path.isdir(folder)
