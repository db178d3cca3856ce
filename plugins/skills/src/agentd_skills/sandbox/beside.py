"""Lets the tools' modules and another package called `lib`, a workspace's own, be imported side by side.

Whichever of the two is found first: `lib.tools` is the tools', and so is what else lies beside this file; any other
module of `lib` is the workspace's. Standard library only; made for Python 3.8 and later. Written by agentd; changes are
overwritten.
"""

from __future__ import annotations

import _frozen_importlib_external as machinery  # what importlib.machinery has, without an import that costs
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec

HERE = os.path.dirname(__file__)


class BesideFinder:
    """For `sys.meta_path`."""

    @staticmethod
    def find_spec(name: str, path: Iterable[str] | None = None, target: object = None) -> ModuleSpec | None:
        """For the import system: where a module of `lib` is."""
        package, _, module = name.rpartition(".")
        if package != "lib":
            return None
        ours = os.path.join(HERE, module + ".py")
        if os.path.isfile(ours):
            return machinery.spec_from_file_location(name, ours)
        if path is None or list(path) != [HERE]:
            return None
        return machinery.PathFinder.find_spec(name, [os.path.join(p or os.getcwd(), "lib") for p in sys.path])


sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ != "BesideFinder"]
sys.meta_path.insert(0, BesideFinder())
