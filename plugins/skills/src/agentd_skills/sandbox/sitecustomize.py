"""Run by every Python that starts with the tools on PYTHONPATH: see `_beside.py`. Then whatever sitecustomize there is
otherwise. Written by agentd; changes are overwritten.
"""

import os
import sys

_here = os.path.dirname(__file__)
_path = os.path.join(os.path.dirname(_here), "_beside.py")
try:
    with open(_path, encoding="utf-8") as _file:
        exec(compile(_file.read(), _path, "exec"), {"__name__": "lib._beside", "__file__": _path})
except OSError:
    pass
_module = sys.modules.pop(__name__)
sys.path[:] = [_folder for _folder in sys.path if _folder != _here]
try:
    __import__(__name__)
except ImportError:
    sys.modules[__name__] = _module
