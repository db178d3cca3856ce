"""Python workers: a clean `__main__`, and the blocks in it."""

from __future__ import annotations

import builtins
import gc
import os
import resource
import sys

from .descriptors import BROKER_FD, receive, settle
from .frames import U32
from .limits import apply_limits
from .main_module import MainModule
from .primitives import from_json, signal, socket, to_json
from .processes import LINUX, PR_SET_DUMPABLE
from .python_end import PythonEnd, exit_code_of, show_exception, show_thread_exception
from .setup import RunnerSetup
from .startup import VARIABLE, output_variable
from .warm_imports import after_fork

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from typing import Any

_process_id = os.getpid  # as it was before any block


def _execute(source: str, name: str, namespace: dict[str, Any]) -> int:
    """Run `source` as `__main__`; return its exit code."""
    try:
        exec(compile(source, name, "exec", dont_inherit=True), namespace)
        return 0
    except BaseException as error:
        return exit_code_of(error)


class PythonWorker:
    """The process that becomes a Python action. Forked ahead of time, it waits for a job on its broker."""

    def __init__(self, setup: RunnerSetup, broker: int) -> None:
        settle({BROKER_FD: broker})
        self.setup = setup
        self.prctl = setup.prctl
        # As CPython starts: SIGINT raises, a broken pipe and a full file are errors of the call.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.broker = socket.socket(fileno=BROKER_FD)
        apply_limits(setup.limits)
        self.kept = False
        after_fork()
        warm_up()
        gc.freeze()  # or the code's first collection would look at, and so copy, all that was inherited
        self.main = _main_module()
        self.end = PythonEnd()
        self.end.warm_up()

    def serve_jobs(self) -> None:
        """Run one job after the other; end when the runner closes the broker."""
        while True:
            data, received = receive(self.broker, 64, 3)
            if not data:
                os._exit(0)
            self.run_job(*received)

    def run_job(self, code_fd: int, out: int, err: int) -> None:
        if self.prctl is not None:
            self.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
        (length,) = U32.unpack(os.read(code_fd, 4))
        header = from_json(os.read(code_fd, length))
        text = b""
        while len(text) < header["code_bytes"]:  # standard input may stand behind it
            text += os.read(code_fd, header["code_bytes"] - len(text))
        source = text.decode("utf-8", "surrogatepass")
        if header["has_input"]:
            self.give_input(code_fd)
        apply_limits(header["limits"])
        os.dup2(out, 1)
        os.dup2(err, 2)
        for descriptor in (code_fd, out, err):
            os.close(descriptor)
        os.chdir(header["cwd"])
        before = {name: os.environ.get(name) for name in header["own_env"]}
        os.environ.update(header["env"])
        os.environ[VARIABLE] = output_variable(1, 2)
        if not self.kept:
            self.find_packages(header["pythonpath"])
        else:
            if header["renewed"] is not None:
                self.renew_library(header["renewed"])
            sys.path[1:1] = header["pythonpath"]
        if not self.kept:
            gc.enable()
        if header["state"] == "kept":
            self.kept = True
            os.environ["AGENTD_TOOLS_MAIN"] = str(os.getpid())
            self.run_kept_block(source, header)
            if header["has_input"]:
                null = os.open(os.devnull, os.O_RDONLY)
                self.give_input(null)
                os.close(null)
            for name, value in before.items():  # they were for that block only
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        else:
            self.main.begin_block(header["name"], source)
            code = _execute(source, header["name"], self.main.namespace)
            os._exit(self.end.finish(code, self.main, self.setup.workspace))

    def give_input(self, descriptor: int) -> None:
        """Make this standard input, and forget what was read of the one before."""
        os.dup2(descriptor, 0)
        self.end.streams.give_input()

    def find_packages(self, own: list[str]) -> None:
        """Let the code import from its own folders, which have run nothing until now: its limits and clock hold.

        What the session has installed comes before the interpreter's packages, and after the standard library.
        Where the workspace has a package of the name of one of ours, that is imported in its place; ours has seen to
        it that its modules are found, too.
        """
        setup = self.setup
        sys.path[setup.site_at : setup.site_at] = setup.site
        sys.path[:0] = ["", *own, *setup.pythonpath]
        for package in [name for name in setup.shipped if "." not in name]:
            if any(os.path.exists(os.path.join(folder, package, "__init__.py")) for folder in ("", *own)):
                for name in setup.shipped:
                    if name.partition(".")[0] == package:
                        sys.modules.pop(name, None)

    def renew_library(self, folders: list[str]) -> None:
        """Have imports of later blocks find the bindings that have come since this interpreter was made.

        A module that is as before stays: the classes that blocks have from it are still those that its functions raise.
        """
        sys.path[1:1] = [folder for folder in folders if folder not in sys.path]
        packages = {name.partition(".")[0] for name in self.setup.shipped}
        for name in [name for name in sys.modules if name.partition(".")[0] in packages]:
            if not _is_as_shipped(sys.modules[name]):
                del sys.modules[name]

    def run_kept_block(self, source: str, header: dict[str, Any]) -> None:
        """Run one block in the lasting namespace; the worker then waits for the next.

        What the block has forked comes to the end of the block's code, too, and ends there, as in a script.
        """
        own = _process_id()
        started = resource.getrusage(resource.RUSAGE_SELF)
        self.main.begin_block(header["name"], source)
        self.end.undisturbed.end()
        code = _execute(source, header["name"], self.main.namespace)
        if _process_id() != own:
            os._exit(self.end.finish(code, self.main, self.setup.workspace))
        code = self.end.between_blocks(code)
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = used.ru_utime + used.ru_stime - started.ru_utime - started.ru_stime
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (1, 2):  # the end of the block's output, unless a child of it still writes
            os.dup2(null, descriptor)
        os.close(null)
        unit = 1024 if LINUX else 1
        self.broker.send(b"D" + to_json([code << 8, cpu_s, used.ru_maxrss * unit, 0, 0]))


def _is_as_shipped(module: object) -> bool:
    """Tell whether a module was imported from the host's text, and its file still has that."""
    path = str(getattr(module, "__file__", ""))
    text = getattr(getattr(module, "__loader__", None), "sources", {}).get(path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return text is not None and file.read() == text
    except (OSError, ValueError):
        return False


def _main_module() -> MainModule:
    """Make a clean `__main__` and the interpreter's state that a script expects."""
    module = type(sys)("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.argv = [""]
    sys.excepthook = show_exception
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    return MainModule(module, {"threading": _tell_threading})


def _tell_threading(threading: Any) -> None:
    threading.excepthook = show_thread_exception


def import_for_python(setup: RunnerSetup) -> None:
    """Import what only Python workers need: the interpreter's site packages; and have the session's environment.

    In the spawner, before its first Python worker: the runner is started without them (`-S`), for it wants to
    start fast and stay small, and a session that runs bash alone does.
    """
    import site

    setup.site_at = len(sys.path)
    site.main()
    os.environ.clear()  # in each worker, it would touch a hundred pages of memory
    os.environ.update(setup.env)
    _forget_own_modules()
    warm_up()


def import_common() -> None:
    """Import what many blocks use, and what a traceback takes: for every Python but one that a block waits for.

    The host takes these for imported (`agentd_runner.host.imports`).
    """
    import contextlib  # noqa: F401
    import json  # noqa: F401
    import linecache  # noqa: F401
    import site  # noqa: F401  # with -S, that does nothing yet
    import socket  # noqa: F401
    import threading  # noqa: F401
    import traceback  # noqa: F401


def _forget_own_modules() -> None:
    """Take this package out of what code may import: it goes on without. Nothing of it is imported later."""
    package = __name__.rpartition(".")[0]
    for name in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        del sys.modules[name]


def warm_up() -> None:
    """Do once what every block does: the parser's tables are built, the pages are touched."""
    _execute("import os\nprint('', end='')\n", "<warm-up>", {})
    from_json(to_json({"env": {"A": "1"}, "cwd": "."}))
