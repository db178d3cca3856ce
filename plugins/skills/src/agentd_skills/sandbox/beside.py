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
    from typing import Any

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


class AgentdFinder:
    """For `sys.meta_path`: `agentd` as it is found, with the `show` of the tools, or what stands in for it. Its own
    would be looked for among all installed distributions, which takes longer than most blocks."""

    @staticmethod
    def find_spec(name: str, path: Iterable[str] | None = None, target: object = None) -> ModuleSpec | None:
        """For the import system: where `agentd` is."""
        if name != "agentd":
            return None
        for finder in sys.meta_path:
            find = None if type(finder).__name__ in _OURS else getattr(finder, "find_spec", None)
            spec = None if find is None else find(name, path, target)
            if spec is not None:
                return with_show(spec)
        return machinery.spec_from_file_location(name, os.path.join(HERE, "_standin.py"))


def with_show(spec: ModuleSpec) -> ModuleSpec:
    """Have the module get its `show` when it is loaded."""
    loader: Any = spec.loader
    try:
        execute = loader.exec_module

        def exec_module(module: Any) -> None:
            execute(module)
            if module.__name__ == "agentd":
                module.show = __import__("lib._show", fromlist=["show"]).show

        loader.exec_module = exec_module
    except AttributeError:  # a loader of somebody's own: `agentd.show` is looked for then
        pass
    return spec


_OURS = ("AgentdFinder", "BesideFinder")
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__name__ not in _OURS]
sys.meta_path[:0] = [BesideFinder(), AgentdFinder()]
