"""Modules that are imported ahead, in the process that fresh Pythons are forked from, if a fork leaves them right.

This process only imports. What a module does besides when it is imported, a block that imports it would see: it prints,
starts a thread or a process, opens a file, changes the environment. Such a module is left out, and the reason told.
"""

from __future__ import annotations

import builtins
import gc
import os
import sys

from .descriptors import anonymous_file
from .primitives import signal, to_json
from .processes import PR_SET_PDEATHSIG, children_of, try_fork
from .setup import RunnerSetup

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    import socket
    from typing import Any


def import_ahead(setup: RunnerSetup, names: list[str], runner: socket.socket) -> None:
    """Import these, and tell the runner of each, as JSON: its name, and "" or why it is left out.

    After one that is left out this process is of no use, and ends; not after one that does not exist (null). The last
    message is the top-level names of what was imported: of the standard library, and others.
    """
    from importlib import machinery

    os.environ.clear()
    os.environ.update(setup.env)
    os.chdir("/")
    output = anonymous_file()
    _let_print_to(output)
    path, finders = sys.path[:], sys.meta_path[:]
    sys.path[:] = trusted_folders(setup)
    # Others find modules anywhere: a package that is installed to be edited may lie in the workspace.
    missed: set[str] = set()
    ours: list[Any] = [
        machinery.BuiltinImporter,
        machinery.FrozenImporter,
        machinery.PathFinder,
        _Missed(missed),
    ]
    sys.meta_path[:] = ours
    folders = tuple(os.path.realpath(folder) + "/" for folder in sys.path)
    had = set(sys.modules)
    if setup.prctl is not None:  # an import that hangs would not see the runner's end
        setup.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for name in names:
        reason = _import_one(name, folders)
        runner.send(to_json([name, reason]))
        if reason:
            os._exit(0)
    # What blocks alone have named and is not there is their own module: it changes nothing of the others.
    missed -= {name.partition(".")[0] for name in names}
    tops = {name.partition(".")[0] for name in {*set(sys.modules) - had, *missed}}
    standard = tops & sys.stdlib_module_names
    runner.send(to_json([sorted(standard), sorted(tops - standard)]))
    if setup.prctl is not None:
        setup.prctl(PR_SET_PDEATHSIG, 0, 0, 0, 0)
    sys.path[:] = path
    sys.meta_path[:] = [*finders, *(finder for finder in sys.meta_path if finder not in [*finders, *ours])]
    _let_print_to(os.open(os.devnull, os.O_RDWR))
    gc.collect()
    gc.freeze()  # or a worker's first collection would look at, and so copy, all of it


class _Missed:
    """A finder that finds nothing, and notes what was looked for in vain: a block may have such a module."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        self.names.add(name)


def _let_print_to(descriptor: int) -> None:
    for target in (1, 2):
        os.dup2(descriptor, target)
    os.close(descriptor)


def trusted_folders(setup: RunnerSetup) -> list[str]:
    """The interpreter's own folders: none that code can write, unless it could write all of them anyhow."""
    inside = os.path.realpath(setup.workspace) + "/"
    own = [folder for folder in sys.path if os.path.isdir(folder)]
    own = [folder for folder in own if not (os.path.realpath(folder) + "/").startswith(inside)]
    return own if setup.trusts_interpreter else [folder for folder in own if not os.access(folder, os.W_OK)]


def _import_one(name: str, folders: tuple[str, ...]) -> str | None:
    """Import a module; return why it must not be here, None if there is no such module."""
    had, before, children = set(sys.modules), _state(), set(children_of(os.getpid()))
    there = True
    try:
        __import__(name)
    except ModuleNotFoundError as error:
        if not f"{name}.".startswith(f"{error.name}."):
            return f"it needs {error.name}, which is not there"
        there = False  # nor is what it would be in, maybe; what it is in may have been imported
    except BaseException as error:
        return f"its import raises {type(error).__name__}"
    for other in set(sys.modules) - had:
        file = getattr(sys.modules[other], "__file__", None)
        if file and not os.path.realpath(file).startswith(folders):
            return f"{other} is not from the interpreter's own folders"
    if set(children_of(os.getpid())) - children:
        return "its import starts a process"
    _let_threads_end()
    after = _state()
    changed = next((f"its import {what}" for what in after if after[what] != before[what]), "")
    return changed if changed or there else None


def _state() -> dict[str, object]:
    """What an import may not change, by what it would have done."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return {
        "starts a thread": len(os.listdir("/proc/self/task")),
        "prints": os.fstat(1).st_size,
        "opens a file": len(os.listdir("/proc/self/fd")),
        "changes the environment": dict(os.environ),
        "changes sys.path": sys.path[:],
        "changes the directory": os.getcwd(),
        "changes the interpreter": (
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            len(vars(builtins)),
            getattr(sys.modules.get("socket"), "getdefaulttimeout", int)(),
        ),
        "changes the umask": _umask(),
        "sets up logging": len(logging.root.handlers) if (logging := sys.modules.get("logging")) else 0,
        "handles a signal": [signal.getsignal(number) for number in range(1, 32)],
    }


def _umask() -> int:
    os.umask(mask := os.umask(0o077))
    return mask


def _let_threads_end() -> None:
    """Fork once: threads that are made to survive a fork, as those of BLAS, end before it and are started again when
    they are needed."""
    if len(os.listdir("/proc/self/task")) > 1:
        child = try_fork()
        if child == 0:
            os._exit(0)
        if child > 0:
            os.waitpid(child, 0)


def after_fork() -> None:
    """Give this process random numbers of its own. `random` itself does so at each fork."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
