"""How the runner gets to where it runs: as this package's folder, or as one artefact, a zip made in memory.

Where the host's files can be read (a child process, a sandbox), the interpreter imports the folder, and Python keeps
compiled files beside it. Anywhere else (a microVM, another machine), nothing of agentd is installed: the interpreter
starts with a few lines of code as its argument; they read the artefact from standard input, up to its last byte and
no further, and import the runner from it. What follows on standard input are frames. The artefact can also be kept as
a file: `python -I -S -X utf8 agentd-runner.zip` is the same runner.

Both import the package `agentd_runner.inside` under the name `_agentd_runner`, and put no folder on the path from
which code would import. The package says which release it is of (`RELEASE`), and a runner refuses a host of another.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import sys
from pathlib import Path

from agentd_runner.inside.frames import RELEASE

__all__ = ["NAME", "RELEASE", "artefact", "artefact_command", "artefact_input", "folder_command"]

NAME = "_agentd_runner"
"""The package's name where it runs: code may have modules of any other."""

INSIDE = Path(__file__).parent / "inside"

# Nothing of what is imported becomes garbage: looking for it takes time.
FOLDER_BOOT = f"""\
import gc; gc.disable()
import sys
package = sys.modules[{NAME!r}] = type(sys)({NAME!r})
package.__path__ = [{{folder!r}}]
del package
from {NAME}.__main__ import main
main()
"""

# zipimport wants a path: that of a file without a name, or of one that is gone once everything is imported.
ARTEFACT_BOOT = f"""\
# agentd runner
import gc, os, sys
gc.disable()
if sys.version_info < (3, 11):
    sys.exit("agentd needs Python 3.11 or newer in the image, this is " + sys.version.split()[0])
def take(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            sys.exit("the pipe was closed before the runner had arrived")
        data += part
    return data
def load():
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("agentd-runner")
        path = "/proc/self/fd/%d" % file
    else:
        import tempfile
        file, path = tempfile.mkstemp()
    with open(file, "wb") as archive:
        archive.write(take(int(take(10))))
        archive.flush()
        sys.path.append(path)
        try:
            from {NAME}.__main__ import main
        finally:
            sys.path.remove(path)
            sys.path_importer_cache.clear()
            if path[:6] != "/proc/":
                os.unlink(path)
    return main
main = load()
del load, take
main()
"""

ZIP_MAIN = f"import sys\nfrom {NAME}.__main__ import main\ndel sys.path[0]\nmain()\n"


def folder_command(python: str) -> list[str]:
    """Return the command that runs the runner from its folder: isolated, UTF-8.

    Without `site` (-S): the runner needs none, and brings it in itself where blocks are forked. The import system
    keeps compiled code: compiling it at every start would take 30 ms and 3 MB.
    """
    if python == sys.executable:
        _compile()
    return [python, "-I", "-S", "-X", "utf8", "-c", FOLDER_BOOT.format(folder=str(INSIDE))]


@functools.cache
def _compile() -> None:
    """Compile what is not compiled yet: a sandbox may read the folder and not write there."""
    for source in INSIDE.rglob("*.py"):
        if not os.path.exists(importlib.util.cache_from_source(str(source))):
            import py_compile

            try:
                py_compile.compile(str(source), quiet=2)
            except OSError:  # the folder is not ours
                return


def artefact_command(python: str) -> list[str]:
    """Return the command that takes the artefact from its standard input, with the flags of `folder_command`."""
    return [python, "-I", "-S", "-X", "utf8", "-c", ARTEFACT_BOOT]


def artefact_input() -> bytes:
    """Return what that command must read first: the size in ten digits, then the artefact."""
    data = artefact()
    return b"%010d" % len(data) + data


@functools.cache
def artefact() -> bytes:
    """Return the package as a zip. Not compressed: then an interpreter without zlib can import it."""
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), ZIP_MAIN)
        for source in sorted([*INSIDE.rglob("*.py"), *INSIDE.glob("programs/*")]):
            # Without the file's time: one release is one sequence of bytes.
            archive.writestr(zipfile.ZipInfo(f"{NAME}/{source.relative_to(INSIDE)}"), source.read_bytes())
    return buffer.getvalue()
