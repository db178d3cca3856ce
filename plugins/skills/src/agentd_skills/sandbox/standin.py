"""Stands in for agentd where the interpreter has none: `import agentd; agentd.show(picture)`. See `_beside.py`.

Written by agentd; changes are overwritten.
"""

from importlib import import_module

show = import_module("lib._show").show

__all__ = ["show"]
