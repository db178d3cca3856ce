"""The `__main__` of a Python worker: what code, `inspect` and processes that code starts afresh find there.

`multiprocessing` with `spawn` or `forkserver` has a new interpreter run the program's file again, up to
`if __name__ == "__main__"`. A block has no file, and rarely that line. So such an interpreter is given what the block
defines: see `definitions`.
"""

from __future__ import annotations

import os
import sys

from .descriptors import anonymous_file
from .processes import LINUX

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any


class MainModule:
    """The namespace of blocks, and their sources.

    Some modules are to know of blocks or of us: what is imported already is told at once. For the others it waits on
    `sys.meta_path`: most blocks never import them.

    :param told: more modules by name, and what tells them.
    """

    def __init__(self, module: ModuleType, told: dict[str, Callable[[Any], None]]) -> None:
        self.module = module
        self.namespace: dict[str, Any] = module.__dict__
        self.sources: list[str] = []
        self.descriptor, self.count = -1, 0  # of the file, and how many sources are in it
        self.unread: dict[str, str] = {}  # sources by the block's name that `linecache` has not
        self.waiting = {"multiprocessing.spawn": self.tell_spawn, "linecache": self.tell_linecache, **told}
        for name in [name for name in self.waiting if name in sys.modules]:
            self.waiting.pop(name)(sys.modules[name])
        sys.modules.pop("__main__", None)
        sys.modules["__main__"] = module  # behind all that is inherited
        sys.meta_path.insert(0, self)
        self.begin_block("<warm-up>", "pass\n")  # the first block finds the pages touched
        self.sources.clear()

    def begin_block(self, name: str, source: str) -> None:
        """Make the source known, by which tracebacks and `inspect` find its lines."""
        self.unread[name] = source
        if (linecache := sys.modules.get("linecache")) is not None:
            self.tell_linecache(linecache)
        self.namespace["__file__"] = name
        self.sources.append(source)

    def let_go(self) -> None:
        """Leave no reference to the namespace but the code's own."""
        sys.modules.pop("__main__", None)
        del self.module, self.namespace

    def tell_linecache(self, linecache: Any) -> None:
        """Give it the lines of blocks."""
        for name, source in self.unread.items():
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        self.unread.clear()

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> Any:
        """For the import system: a module that is waited for, once it is told."""
        tell = self.waiting.pop(name, None)
        if tell is None:
            return None
        __import__(name)
        module = sys.modules[name]
        tell(module)
        spec = module.__spec__
        assert spec is not None
        spec.loader = _Loaded(module, spec.loader)  # type: ignore[assignment]
        return spec

    def tell_spawn(self, spawn: Any) -> None:
        """Have it tell fresh interpreters of blocks."""
        from_file = spawn.get_preparation_data

        def get_preparation_data(name: str) -> dict[str, Any]:
            data = {**from_file(name), "init_main_from_path": self.written()}
            data.pop("init_main_from_name", None)
            return data

        spawn.get_preparation_data = get_preparation_data

    def written(self) -> str:
        """Write what the blocks so far define into a file; return its path, which descendants can open."""
        if self.count != len(self.sources):
            self.descriptor, self.count = anonymous_file(), len(self.sources)
            with open(self.descriptor, "wb", closefd=False) as file:
                file.write("\n".join(map(definitions, self.sources)).encode("utf-8", "surrogatepass"))
        # Not /dev/fd on macOS: a fresh interpreter does not have the descriptor.
        return f"/proc/{os.getpid()}/fd/{self.descriptor}" if LINUX else self.named()

    def named(self) -> str:
        """Return the path of a temporary file with the same."""
        import tempfile

        with tempfile.NamedTemporaryFile("wb", suffix=".py", delete=False) as file:
            file.write(os.pread(self.descriptor, os.fstat(self.descriptor).st_size, 0))
        return file.name


class _Loaded:
    """The loader of a module that is there already."""

    def __init__(self, module: ModuleType, loader: Any) -> None:
        self.module = module
        self.loader = loader

    def create_module(self, _spec: object) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__ is not None
        module.__spec__.loader = module.__loader__ = self.loader


def definitions(source: str) -> str:
    """Return what of a block a fresh interpreter runs.

    That is all of it, if the block has a line `if __name__ == ...`; otherwise imports, functions, classes, and
    assignments that call nothing, for the rest is what the block does.
    """
    import ast

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""
    names = {
        node.id
        for top in tree.body
        if isinstance(top, ast.If)
        for node in ast.walk(top.test)
        if isinstance(node, ast.Name)
    }
    if "__name__" in names:
        return source
    defining = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    calling = (ast.Call, ast.Await, ast.NamedExpr)
    assigning = (ast.Assign, ast.AnnAssign)
    tree.body = [
        top
        for top in tree.body
        if isinstance(top, defining)
        or (isinstance(top, assigning) and not any(isinstance(node, calling) for node in ast.walk(top)))
    ]
    return ast.unparse(tree)
