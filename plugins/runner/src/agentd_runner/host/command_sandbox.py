"""`CommandSandbox`: an executor as other frameworks see a sandbox: commands by their arguments, and files.

For adapters. It stands on `agentd.protocols.Executor` alone, so it works on every executor; sync and async.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import tempfile
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any, Final, TypeVar

import attrs
from agentd._concurrency.portal import PortalLease
from agentd.errors import ExecutorError
from agentd.protocols import OnOutput
from agentd.registry import Registry, defaults as chosen_by_user
from agentd.registry.options import split_spec
from agentd.session.resources import find_executor
from agentd.types import Action, ActionResult, BashAction, OutputChunk, PythonAction

from agentd_runner.host.python_commands import Errors, python_command
from agentd_runner.inside.files import remove_tree

__all__ = ["CommandSandbox", "cannot_execute", "chosen_executor"]

T = TypeVar("T")
Steps = Generator[Action, ActionResult, T]

PART_BYTES: Final = 16 * 1024 * 1024
MOST_STDIN: Final = 48 * 1024 * 1024  # one action may have 64 MiB, with its code
FAILED: Final = 97  # the exit code of the blocks below when the system refuses
NOT_EXECUTABLE: Final = 126

_SAME: Final = """\
import os, shutil, sys
def is_own(name):
    found = shutil.which(name) or os.devnull
    return os.path.dirname(found) == os.path.dirname(sys.executable) and os.path.samefile(found, sys.executable)
sys.exit(2 * is_own("python3") + is_own("python"))
"""
_FILES: Final = """\
import os, stat, sys
path = {path!r}
def plain(mode):
    if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
        raise OSError(22, "not a regular file")
try:
{code}
except OSError as error:
    print(error.errno or 5, error.strerror or error, file=sys.stderr)
    sys.exit(97)
"""
_READ: Final = """\
with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
    status = os.fstat(file.fileno())
    plain(status.st_mode)
    if {most} is not None and status.st_size > {most}:
        raise OSError(27, "larger than {most} bytes")
    file.seek({at})
    sys.stdout.buffer.write(file.read({size}))
"""
_WRITE: Final = """\
folder = os.path.dirname(path)
if {create} and folder and not os.path.isdir(folder):
    try:
        os.makedirs(folder, exist_ok=True)
    except FileExistsError:
        raise OSError(20, os.strerror(20))
try:
    plain(os.stat(path).st_mode)
except FileNotFoundError:
    pass
with open(path, {mode!r}) as file:
    file.write(sys.stdin.buffer.read())
"""


def chosen_executor(executor: object = None) -> object:
    """Return what an adapter runs code in: `executor`, else what the user has chosen for the process
    (`agentd.defaults`, AGENTD_EXECUTOR), else `native`: without a word of the user's, a sandbox or an error."""
    if executor is not None:
        return executor
    if os.environ.get(chosen_by_user.VARIABLE) or chosen_by_user._chosen.get("executor"):
        return chosen_by_user.default_executor(Registry())
    return "native"


def cannot_execute(result: ActionResult) -> bool:
    """Whether the system refused to execute the program of `CommandSandbox.run`, which is not its own exit code 126."""
    return result.exit_code == NOT_EXECUTABLE and b": cannot execute: " in result.stderr


class CommandSandbox:
    """Commands and files in one executor. Usable as a context manager, sync and async.

    Each command starts in the workspace, or in `cwd` below it, with the session's environment: nothing goes over from
    one to the next but files. What a command leaves running ends with it; with `lasting`, it lives on until this object
    is closed. It is a job of the session then, so `Limits(jobs=...)` bounds it.

    :param executor: a name, a pair of name and options, or an `Executor`; None for `chosen_executor`'s.
    :param workspace: the folder of the files; None for a temporary one that goes with this object.
    :param options: of the executor, by name.
    :param limits: those of the executor that neither its options nor `options` name; an executor object has its own.
    :param lasting: whether what a command leaves running lives on.
    :param python_blocks: whether a command that does nothing but start `python3` on a text (`python3 -c '...'`) is run
        as a Python block, forked from a warm interpreter, where that is the executor's own interpreter.
    :raises PluginError: if there is no such executor.
    :raises SandboxUnavailableError: later, when the sandbox cannot be started.
    """

    def __init__(
        self,
        executor: object = None,
        *,
        workspace: str | Path | None = None,
        options: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        lasting: bool = False,
        python_blocks: bool = False,
    ) -> None:
        self._lasting = lasting
        self._python_blocks = python_blocks
        self._same_python: tuple[str, ...] | None = None
        self._forget: Callable[[], object] | None = None
        if workspace is None:
            workspace = getattr(executor, "workspace_dir", None)
        if workspace is None:
            workspace = tempfile.mkdtemp(prefix="agentd-workspace-")
            # also if nobody closes this: when it is collected, or the process ends
            self._forget = weakref.finalize(self, _remove_folder, workspace, os.getpid())
        self._lease: PortalLease | None = None
        try:
            chosen, options = _limited(chosen_executor(executor), options or {}, limits or {})
            self.executor, self._owned = find_executor(chosen, Path(workspace), Registry, options)
        except BaseException:
            self._remove()
            raise
        self.workspace = self.executor.workspace_dir

    # --- commands

    async def run(
        self, argv: Sequence[str], *, on_output: OnOutput | None = None, **settings: Any
    ) -> ActionResult:
        """Run a program with these arguments, without a shell between.

        :param stdin: its standard input.
        :param cwd: where it starts, relative to the workspace.
        :param env: variables besides the session's.
        :param timeout_s: seconds; None for the executor's.
        :param limits: lower limits, as `BashAction` has them.
        """
        steps = self._commanding(argv, is_shown=on_output is not None, **settings)
        return await self._await(steps, on_output)

    def run_sync(
        self, argv: Sequence[str], *, on_output: OnOutput | None = None, **settings: Any
    ) -> ActionResult:
        """The same for callers without an event loop."""
        steps = self._commanding(argv, is_shown=on_output is not None, **settings)
        return self._drive(steps, on_output)

    def _commanding(
        self,
        argv: Sequence[str],
        *,
        is_shown: bool,
        stdin: bytes | str = b"",
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        limits: Mapping[str, int] | None = None,
    ) -> Steps[ActionResult]:
        data = stdin.encode() if isinstance(stdin, str) else bytes(stdin)
        settings: dict[str, Any] = {
            "cwd": ".",
            "env": dict(env) if env else None,
            "timeout_s": timeout_s,
            "limits": dict(limits) if limits else None,
            "lasting": self._lasting,
        }
        if self._python_blocks and cwd in (None, "", ".") and self._leaves_python_alone(env):
            command = python_command(argv, data)
            if command is not None and is_shown and command.errors != "apart":
                command = None  # what is shown meanwhile is not redirected
            if command is not None and (yield from self._is_own_python(command.program)):
                given = data if command.stdin is None else command.stdin
                block = PythonAction(code=command.code, stdin=given, state="fresh", **settings)
                return _redirected((yield block), command.errors)
        kept = ""
        if len(data) > MOST_STDIN:
            kept = f".agentd/stdin-{secrets.token_hex(8)}"
            yield from self._writing(kept, data)
            data = b""
        line = _executing(argv, "." if cwd in (None, "") else str(cwd), kept)
        action = BashAction(command=line, stdin=data, state="fresh", **settings)
        if not kept:
            return (yield action)
        remove = PythonAction(code=f"import os\nos.unlink({kept!r})\n", state="fresh", cwd=".")
        try:
            result = yield action
        except Exception:
            yield remove
            raise
        yield remove
        return result

    def _leaves_python_alone(self, env: Mapping[str, str] | None) -> bool:
        names = [*(env or ()), *getattr(self.executor, "env", ())]
        return not any(name == "PATH" or name.startswith(("PYTHON", "LD_")) for name in names)

    def _is_own_python(self, program: str) -> Steps[bool]:
        """Whether this program, as the sandbox finds it, is the interpreter of Python blocks."""
        if self._same_python is None:
            result = yield PythonAction(code=_SAME, state="fresh", cwd=".")
            self._same_python = {0: (), 1: ("python",), 2: ("python3",), 3: ("python", "python3")}.get(
                result.exit_code, ()
            )
        return program in self._same_python

    # --- files: a path is absolute, or relative to the workspace; code must have the right to it

    async def read_file(self, path: str, *, most: int | None = None) -> bytes:
        """Return a file's content.

        :param most: bytes; a longer file is an `OSError` with `errno.EFBIG`.
        :raises OSError: as `open` does: FileNotFoundError, PermissionError, IsADirectoryError.
        """
        return await self._await(self._reading(path, most))

    def read_file_sync(self, path: str, *, most: int | None = None) -> bytes:
        """The same for callers without an event loop."""
        return self._drive(self._reading(path, most))

    async def write_file(self, path: str, data: bytes, *, create: bool = True) -> None:
        """Write a file, over one that is there.

        :param create: make the folders that it is in.
        :raises OSError: as `open` does; what is read-only is a PermissionError, with `errno.EROFS`.
        """
        await self._await(self._writing(path, data, create=create))

    def write_file_sync(self, path: str, data: bytes, *, create: bool = True) -> None:
        """The same for callers without an event loop."""
        self._drive(self._writing(path, data, create=create))

    async def ask(self, code: str, path: str) -> bytes:
        """Return what a few lines of Python print, where the file is.

        :param code: has `path`, `os`, `stat` and `sys`.
        :raises OSError: that the lines raise, with this path.
        """
        return await self._await(self._asked(code, path))

    def ask_sync(self, code: str, path: str) -> bytes:
        """The same for callers without an event loop."""
        return self._drive(self._asked(code, path))

    def _reading(self, path: str, most: int | None = None) -> Steps[bytes]:
        limits = getattr(self.executor, "limits", None)
        size = min(PART_BYTES, getattr(limits, "output_bytes", 1024 * 1024))
        parts: list[bytes] = []
        while True:
            code = _READ.format(at=sum(map(len, parts)), size=size, most=most)
            part = yield from self._asked(code, path)
            parts.append(part)
            if len(part) < size:
                return b"".join(parts)

    def _writing(self, path: str, data: bytes, *, create: bool = True) -> Steps[None]:
        for start in range(0, max(1, len(data)), PART_BYTES):
            code = _WRITE.format(mode="ab" if start else "wb", create=create)
            yield from self._asked(code, path, bytes(data[start : start + PART_BYTES]))

    def _asked(self, code: str, path: str, stdin: bytes = b"") -> Steps[bytes]:
        block = _FILES.format(path=path, code=indent(code, "    "))
        return _checked((yield PythonAction(code=block, stdin=stdin, state="fresh", cwd=".")), path)

    # --- actions

    async def act(self, action: Action, *, on_output: OnOutput | None = None) -> ActionResult:
        """Run an action of agentd's."""
        return await self.executor.run(action, on_output=on_output)

    def act_sync(self, action: Action, *, on_output: OnOutput | None = None) -> ActionResult:
        """The same for callers without an event loop."""
        run_sync = getattr(self.executor, "run_sync", None)
        if run_sync is not None:
            result: ActionResult = run_sync(action, on_output=on_output)
            return result
        if self._lease is None:
            self._lease = PortalLease()
        return self._lease.portal.call(lambda: self.executor.run(action, on_output=on_output))

    async def _await(self, steps: Steps[T], on_output: OnOutput | None = None) -> T:
        try:
            action = next(steps)
            while True:
                try:
                    result = await self.act(action, on_output=on_output)
                except Exception as error:
                    action = steps.throw(error)
                else:
                    action = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def _drive(self, steps: Steps[T], on_output: OnOutput | None = None) -> T:
        try:
            action = next(steps)
            while True:
                try:
                    result = self.act_sync(action, on_output=on_output)
                except Exception as error:
                    action = steps.throw(error)
                else:
                    action = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    # --- the end

    def close(self) -> None:
        """End what runs, and remove a temporary workspace."""
        if self._owned:
            self.executor.close()
        self._remove()

    async def aclose(self) -> None:
        """The same in an event loop."""
        if self._owned:
            await self.executor.aclose()
        self._remove()

    def _remove(self) -> None:
        if self._lease is not None:
            self._lease.close()
            self._lease = None
        if self._forget is not None:
            self._forget()
            self._forget = None

    def __enter__(self) -> CommandSandbox:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> CommandSandbox:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()


def _limited(
    executor: object, options: Mapping[str, Any], limits: Mapping[str, Any]
) -> tuple[object, Mapping[str, Any]]:
    """Return executor and options with these limits, but for those that are named."""
    if not limits or not isinstance(executor, str | tuple | list):
        return executor, options
    name, given = split_spec(executor, where="executor")
    named = [one.get("limits") or {} for one in (given, options)]
    if not all(isinstance(one, Mapping) for one in named):  # which the executor refuses
        return executor, options
    return name, {**given, **options, "limits": {**limits, **named[0], **named[1]}}


def _remove_folder(folder: str, of_process: int) -> None:
    if os.getpid() == of_process:  # not in a forked child
        remove_tree(folder)


def _executing(argv: Sequence[str], folder: str, kept: str) -> str:
    steps = [f"exec 0< {kept} || exit"] if kept else []
    if folder != ".":
        steps.append(f"cd -- {shlex.quote(folder)} || exit")
    is_bash = len(argv) == 3 and list(argv[:2]) == ["bash", "-c"]  # what runs the block is bash already
    return "\n".join([*steps, argv[2] if is_bash else f"exec -- {shlex.join(argv)}"])


def _redirected(result: ActionResult, errors: Errors) -> ActionResult:
    if errors == "joined":
        return attrs.evolve(
            result, chunks=tuple(OutputChunk("stdout", chunk.data) for chunk in result.chunks)
        )
    if errors == "dropped":
        return attrs.evolve(
            result, chunks=tuple(chunk for chunk in result.chunks if chunk.stream == "stdout")
        )
    return result


def _checked(result: ActionResult, path: str) -> bytes:
    """Return what a block of a file printed; what the system refused becomes the `OSError` that it was."""
    if result.exit_code == FAILED:
        number, _, text = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].partition(" ")
        if number.isdigit():
            # a sandbox's read-only folders are a right that code does not have, which Python does not say
            kind = PermissionError if int(number) == errno.EROFS else OSError
            raise kind(int(number), text, path)
    if result.exit_code:
        raise ExecutorError(
            f"the file {path!r} cannot be read or written: {result.output.strip() or result.status}"
        )
    if result.dropped_bytes:
        raise ExecutorError(
            f"the file {path!r} cannot be read: output of other blocks has taken the room for it (`host_mib`); "
            "try again when they have ended"
        )
    return result.stdout
