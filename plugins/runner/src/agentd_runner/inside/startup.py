"""What every Python that code starts runs first: it writes to the block's own output at once.

So output is shown while it is made, and what a program has printed is there if it is ended. With PYTHONUNBUFFERED, it
would write into pipes between programs at once as well: `python3 x.py | head -3` would end with a traceback where an
ordinary shell says nothing.
"""

from __future__ import annotations

import os

from .files import make_folder, remove_folder, write_file

VARIABLE = "AGENTD_OUTPUT"
NAME = "sitecustomize.py"
TEXT = f'''\
"""Written by agentd: a block's own output is not buffered. Then whatever sitecustomize there is otherwise."""

import io
import os
import stat
import sys


def _write_through(name, stream):
    """Do what `python -u` does, for one stream."""
    encoding, errors = stream.encoding, stream.errors
    raw = stream.detach().detach()
    plain = io.TextIOWrapper(raw, encoding, errors, newline="\\n", write_through=True)
    plain.mode = "w"
    setattr(sys, name, plain)
    setattr(sys, "__" + name + "__", plain)


for _name, _inode in zip(("stdout", "stderr"), os.environ.get("{VARIABLE}", "").split(":")):
    try:
        _stream = getattr(sys, _name)
        _state = os.fstat(_stream.fileno())
        if stat.S_ISFIFO(_state.st_mode) and str(_state.st_ino) == _inode:
            _write_through(_name, _stream)
    except (AttributeError, OSError, ValueError):
        pass
_module = sys.modules.pop(__name__)
_here = os.path.dirname(__file__)
sys.path[:] = [_folder for _folder in sys.path if _folder != _here]
try:
    __import__(__name__)
except ImportError:
    sys.modules[__name__] = _module
'''


class StartupFolder:
    """A folder of the session for PYTHONPATH. Without room for it, output is buffered, and nothing else."""

    def __init__(self, workspace: str, temporary: str, token: str) -> None:
        self.workspace = workspace
        self.path = os.path.join(temporary, f".agentd-{token[:8]}")

    def make(self) -> None:
        try:
            make_folder(self.workspace, self.path)
            write_file(self.workspace, self.path, NAME, TEXT.encode())
        except OSError:
            pass

    def remove(self) -> None:
        try:
            write_file(self.workspace, self.path, NAME, None)
            remove_folder(self.workspace, self.path)
        except OSError:
            pass

    def on_path(self, env: dict[str, str]) -> None:
        """Put it in front of what an environment has."""
        env["PYTHONPATH"] = ":".join(filter(None, (self.path, env.get("PYTHONPATH"))))


def output_variable(out: int, err: int) -> str:
    """Return the variable's value for these descriptors of pipes."""
    return f"{os.fstat(out).st_ino}:{os.fstat(err).st_ino}"
