# mypy: ignore-errors
"""What every Python that code starts runs first: a block's own output is not buffered (`startup` says why).

Then whatever sitecustomize there is otherwise. For Python 3 of any release.
"""

import io
import os
import stat
import sys


def _write_through(name, stream):
    """Do what `python -u` does, for one stream."""
    encoding, errors = stream.encoding, stream.errors
    raw = stream.detach().detach()
    plain = io.TextIOWrapper(raw, encoding, errors, newline="\n", write_through=True)
    plain.mode = "w"
    setattr(sys, name, plain)
    setattr(sys, "__" + name + "__", plain)


for _name, _inode in zip(("stdout", "stderr"), os.environ.get("AGENTD_OUTPUT", "").split(":")):  # noqa: B905
    try:
        _stream = getattr(sys, _name)
        _state = os.fstat(_stream.fileno())
        _is_buffered = isinstance(_stream.buffer, io.BufferedWriter)  # not with `python -u`
        if _is_buffered and stat.S_ISFIFO(_state.st_mode) and str(_state.st_ino) == _inode:
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
