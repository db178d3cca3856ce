"""How Python code ends: its exit code, its traceback, and what it has written and not yet sent on.

A fresh interpreter ends as CPython does, short of taking apart the modules that it has inherited. A kept one does what
can be done between two blocks: what open files hold is written, and the standard streams are its own again.
"""

from __future__ import annotations

import _thread
import atexit
import gc
import os
import sys
from _weakref import ref
from itertools import takewhile

from .main_module import MainModule
from .open_files import OpenFiles
from .primitives import signal
from .processes import c_function

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    import threading
    import types
    from typing import Any

FLUSH_FAILED = 120  # CPython's exit code for it
_MARK = "__agentd_end__"


def _at_end(source: str) -> types.CodeType:
    """Compile code whose place is the one that warnings name at CPython's end."""
    name, line = ("<sys>", 0) if sys.version_info >= (3, 13) else ("sys", 1)
    return compile(source, name, "exec").replace(co_firstlineno=line)


# The collector looks at what is alive first: then what holds a file, such as a GzipFile, ends before the file.
_LET_GO = _at_end("collect(); del main.module, main.namespace; collect()")
_CLEAR = _at_end("[namespace.__setitem__(name, None) for name in names]; collect()")
_USED_AT_END = (type, type(sys), type(c_function), str, bytes, int, float, tuple)
"""Classes, modules, functions and constants go last: `__del__` may need them."""
_flush_c_streams = c_function("fflush")


def show_exception(
    kind: type[BaseException], value: BaseException, trace: types.TracebackType | None, to: Any = None
) -> None:
    """Print a traceback as CPython does, with the block's source lines and without our own frames."""
    import traceback

    folder = os.path.dirname(show_exception.__code__.co_filename)
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == folder:
        trace = trace.tb_next
    traceback.print_exception(kind, value, trace, file=to)


def show_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else "?"
    print(f"Exception in thread {name}:", file=sys.stderr)
    show_exception(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of code that has ended with this, and print what it is to say."""
    if not isinstance(error, SystemExit):
        report(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    try:
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF if -(1 << 63) <= error.code < 1 << 63 else 0xFF
        print(error.code, file=sys.stderr)
    except BaseException as broken:  # of a `__str__` that fails, say
        report(broken)
    return 1


def report(error: BaseException) -> None:
    """Print a traceback by the code's own `sys.excepthook`, or past its hook and its stream if that fails."""
    hook = getattr(sys, "excepthook", None) or show_exception
    try:
        hook(type(error), error, error.__traceback__)
        return
    except BaseException as broken:
        failed = broken
    try:
        with open(2, "w", 1, "utf-8", "backslashreplace", closefd=False) as stream:
            if hook is not show_exception:
                print("Error in sys.excepthook:", file=stream)
                show_exception(type(failed), failed, failed.__traceback__, stream)
                print("\nOriginal exception was:", file=stream)
            show_exception(type(error), error, error.__traceback__, stream)
    except BaseException:
        pass  # the code has closed the descriptor as well


class StandardStreams:
    """The standard streams that an interpreter began with."""

    def __init__(self) -> None:
        self.own: dict[str, Any] = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
        self.given_up: list[Any] = []

    def give_input(self) -> None:
        """Forget what was read of the standard input before this one."""
        self.own["stdin"] = sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115

    def restore(self) -> None:
        """Have code find them, open, whatever it has put in their place or done to them."""
        for descriptor, (name, stream) in enumerate(self.own.items()):
            setattr(sys, name, stream)  # what was there may close it as it goes, or the descriptor
            _keep_open(descriptor)
            if _is_closed(stream):
                self.own[name] = stream = _opened(descriptor, stream)
                setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)

    def flush(self) -> int:
        """Flush them, and what stands in their place; 120, as CPython has it, if that fails (a full disk, say)."""
        code = 0
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            own, in_place = self.own[name], getattr(sys, name, None)
            for stream in (own,) if own is in_place else (own, in_place):
                try:
                    if stream is not None and not _is_closed(stream):
                        stream.flush()
                except BaseException as error:
                    code = FLUSH_FAILED
                    report(error)
                    if stream is own:  # what it holds would come among what the next block prints
                        self.given_up.append(own)
                        self.own[name] = _opened(descriptor, own)
        return code


def _is_closed(stream: Any) -> bool:
    try:
        return bool(getattr(stream, "closed", False))
    except Exception:  # of one whose buffer was detached
        return True


def _keep_open(descriptor: int) -> None:
    """If code has closed it, have it lead nowhere: what is opened next would get its number."""
    try:
        os.fstat(descriptor)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        if null > 2:
            os.close(null)
        else:
            os.set_inheritable(null, True)


def _opened(descriptor: int, like: Any) -> Any:
    _keep_open(descriptor)
    mode = "w" if descriptor else "r"
    try:
        return open(descriptor, mode, 1, like.encoding, like.errors, closefd=False)
    except (AttributeError, LookupError, ValueError):
        return open(descriptor, mode, 1, "utf-8", "backslashreplace", closefd=False)


class Undisturbed:
    """Keeps the code's tracers, and its handlers of signals, out of what is not the code's."""

    def __init__(self) -> None:
        self.tracers: tuple[Any, Any] = (None, None)
        self.held: set[int] = set()
        self.mask: set[int] | None = None

    def begin(self) -> int:
        """Begin; return the exit code of a handler that has come between, or 0."""
        self.tracers = (sys.gettrace(), sys.getprofile())
        sys.settrace(None)
        sys.setprofile(None)
        self.held = {number for number in signal.valid_signals() if callable(signal.getsignal(number))}
        try:
            self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, self.held)
        except BaseException as error:
            self.mask = None
            return exit_code_of(error)
        return 0

    def end(self) -> None:
        """Let them go on. What was sent meanwhile was for the block before, and is dropped."""
        while pending := signal.sigpending() & self.held:
            signal.sigwait(pending)
        if self.mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, self.mask)
            self.mask = None
        sys.settrace(self.tracers[0])
        sys.setprofile(self.tracers[1])


class PythonEnd:
    """How the blocks of one interpreter end."""

    def __init__(self) -> None:
        self.streams = StandardStreams()
        self.files = OpenFiles()
        self.undisturbed = Undisturbed()

    def warm_up(self) -> None:
        """Do once what every block's end does: the pages are touched."""
        self.between_blocks(0)
        self.undisturbed.end()
        gc.collect()

    def between_blocks(self, code: int) -> int:
        """After a block of a kept interpreter, before its output ends: return the block's exit code."""
        code = self.undisturbed.begin() or code
        failed = self.files.write(report)
        failed = self.streams.flush() or failed
        flush_c_streams()
        self.streams.restore()
        return code or (FLUSH_FAILED if failed else 0)

    def finish(self, code: int, main: MainModule, workspace: str) -> int:
        """What a fresh interpreter does at its end; return its exit code.

        It joins threads, runs exit functions, flushes, writes open files, and lets go of what the code has made:
        `__del__` and `finally` of generators run then. A thread that runs on (a daemon) would miss what it uses: then
        nothing goes.
        """
        threading: Any = sys.modules.get("threading")
        for last in (
            (atexit._run_exitfuncs,) if threading is None else (threading._shutdown, atexit._run_exitfuncs)
        ):
            try:
                last()
            except BaseException as error:
                report(error)
        self.undisturbed.begin()
        failed = self.streams.flush()
        failed = self.files.write(report) or failed
        self.streams.restore()
        if not _thread._count():
            _let_go(main, workspace)
            failed = self.streams.flush() or failed
        flush_c_streams()
        return FLUSH_FAILED if failed else code


def flush_c_streams() -> None:
    """Write what libraries have printed by C's own means."""
    if _flush_c_streams is not None:
        _flush_c_streams(None)


class _Mark:
    """Tells whether the namespace that it is in lives."""


def _let_go(main: MainModule, workspace: str) -> None:
    """Let go of the namespace and the workspace's modules. What still refers to a namespace, such as a cache of
    `typing`, finds it empty, as at CPython's end."""
    mark = ref(_put_mark(main.namespace))
    # Not the inherited ones: each page of memory that is touched is copied.
    imported = list(takewhile(lambda name: name != "__main__", reversed(sys.modules)))
    sys.modules.pop("__main__", None)
    sys.modules.setdefault("tracemalloc", None)  # type: ignore[arg-type]  # of which warnings would speak
    inside = workspace.rstrip("/") + "/"
    for name in imported:
        file = getattr(sys.modules.get(name), "__dict__", {}).get("__file__")
        if isinstance(file, str) and file.startswith(inside) and "/.agentd/" not in file:
            del sys.modules[name]
    exec(_LET_GO, {"main": main, "collect": gc.collect})
    left = mark()
    if left is None:
        return
    namespaces = [
        found for found in gc.get_referrers(left) if type(found) is dict and found.get(_MARK) is left
    ]
    left = None
    for namespace in namespaces:
        names = sorted(namespace, key=lambda name: issubclass(type(namespace[name]), _USED_AT_END))
        names = [name for name in names if name != "__builtins__"]
        exec(_CLEAR, {"namespace": namespace, "names": names, "collect": gc.collect})


def _put_mark(namespace: dict[str, Any]) -> _Mark:
    namespace[_MARK] = _Mark()
    mark: _Mark = namespace[_MARK]
    return mark
