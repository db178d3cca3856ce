"""How Python code ends: its exit code, its traceback, and what it has written and not yet sent on.

A fresh interpreter ends as CPython does, short of taking apart the modules that it has inherited. A kept one does what
can be done between two blocks: what open files hold is written, and the standard streams are its own again.
"""

from __future__ import annotations

import _io
import _thread
import atexit
import gc
import os
import sys

from .main_module import MainModule

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    import threading
    import types
    from typing import Any

FLUSH_FAILED = 120  # CPython's exit code for it
_BUFFERS = (_io.BufferedWriter, _io.BufferedRandom)


def show_exception(
    kind: type[BaseException], value: BaseException, trace: types.TracebackType | None
) -> None:
    """Print a traceback as CPython does, with the block's source lines and without our own frames."""
    import traceback

    folder = os.path.dirname(show_exception.__code__.co_filename)
    while trace is not None and os.path.dirname(trace.tb_frame.f_code.co_filename) == folder:
        trace = trace.tb_next
    traceback.print_exception(kind, value, trace)


def show_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread is not None else "?"
    print(f"Exception in thread {name}:", file=sys.stderr)
    show_exception(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of code that has ended with this, and print what it is to say."""
    if not isinstance(error, SystemExit):
        _report(error)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
    try:
        if error.code is None:
            return 0
        if isinstance(error.code, int):
            return error.code & 0xFF if -(1 << 63) <= error.code < 1 << 63 else 0xFF
        print(error.code, file=sys.stderr)
    except BaseException as broken:  # of a `__str__` that fails, say
        _report(broken)
    return 1


def _report(error: BaseException) -> None:
    """Print a traceback by the code's own `sys.excepthook`; by ours as well, if that one fails."""
    hook = getattr(sys, "excepthook", None) or show_exception
    try:
        hook(type(error), error, error.__traceback__)
    except BaseException as broken:
        if _is_closed(getattr(sys, "stderr", None)):
            sys.stderr = _opened(2, sys.__stderr__)
        if hook is not show_exception:
            print("Error in sys.excepthook:", file=sys.stderr)
            show_exception(type(broken), broken, broken.__traceback__)
            print("\nOriginal exception was:", file=sys.stderr)
        show_exception(type(error), error, error.__traceback__)


class StandardStreams:
    """The standard streams that an interpreter began with."""

    def __init__(self) -> None:
        self.own: dict[str, Any] = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}

    def give_input(self) -> None:
        """Forget what was read of the standard input before this one."""
        self.own["stdin"] = sys.stdin = open(0, encoding="utf-8", errors="surrogateescape", closefd=False)  # noqa: SIM115

    def restore(self) -> None:
        """Have code find them, open, whatever code before it has put in their place or done to them."""
        for descriptor, (name, stream) in enumerate(self.own.items()):
            setattr(sys, name, stream)  # what was there may close it as it goes
            if _is_closed(stream):
                self.own[name] = stream = _opened(descriptor, stream)
                setattr(sys, name, stream)
                setattr(sys, f"__{name}__", stream)

    def flush(self) -> int:
        """Flush them, and what stands in their place; 120, as CPython has it, if that fails (a full disk, say)."""
        code = 0
        in_place = [getattr(sys, name, None) for name in ("stdout", "stderr")]
        own = [stream for name, stream in self.own.items() if name != "stdin" and stream not in in_place]
        for stream in own + in_place:
            try:
                if stream is not None and not _is_closed(stream):
                    stream.flush()
            except BaseException as error:
                code = FLUSH_FAILED
                try:
                    _report(error)
                except BaseException:
                    pass  # it is standard error that cannot be written to
        return code


def _is_closed(stream: Any) -> bool:
    try:
        return stream is None or bool(getattr(stream, "closed", False))
    except Exception:  # of one whose buffer was detached
        return True


def _opened(descriptor: int, like: Any) -> Any:
    mode = "w" if descriptor else "r"
    try:
        return open(descriptor, mode, 1, like.encoding, like.errors, closefd=False)
    except (AttributeError, LookupError, ValueError):
        return open(descriptor, mode, 1, "utf-8", "backslashreplace", closefd=False)


def write_open_files() -> int:
    """Write what files that code has left open still hold; 120 if that fails."""
    if not _has_open_file():
        return 0
    code = 0
    for file in gc.get_objects():
        kind = type(file)
        try:
            buffer = file.buffer if kind is _io.TextIOWrapper else file
            if type(buffer) not in _BUFFERS or file.closed or type(buffer.raw) is not _io.FileIO:
                continue
            if _is_file(buffer.raw.fileno()):  # a pipe may be full
                file.flush()
        except Exception as error:
            code = FLUSH_FAILED
            _report(error)
    return code


def _has_open_file() -> bool:
    """Tell it quickly: there may be very many objects to look for it among."""
    try:
        return any(_is_file(int(name)) for name in os.listdir("/dev/fd") if len(name) > 1 or name > "2")
    except OSError:
        return True


def _is_file(descriptor: int) -> bool:
    try:
        return os.fstat(descriptor).st_mode & 0o170000 == 0o100000
    except OSError:  # that of the listing itself, say
        return False


def finish_python(code: int, main: MainModule, streams: StandardStreams) -> int:
    """What the interpreter does at its end; return the exit code.

    It joins threads, runs exit functions, flushes, writes open files, and lets go of what the code has made: `__del__`
    and `finally` of generators run then. A thread that runs on (a daemon) would miss what it uses: then nothing goes.
    """
    threading: Any = sys.modules.get("threading")
    try:
        if threading is not None:
            threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException as error:
        _report(error)
    failed = streams.flush() or write_open_files()
    streams.restore()
    if not _thread._count():
        main.let_go()
        gc.collect()
        failed = failed or streams.flush()
    return failed or code
