"""Modules whose text comes from the host: what the runner imports is never read from a folder that code can write."""

from __future__ import annotations

import _frozen_importlib_external as machinery  # `importlib.machinery` would cost every runner an import
import sys

TYPE_CHECKING = False  # `typing` itself would cost every runner its import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from importlib.machinery import ModuleSpec


class ShippedModules(machinery.SourceFileLoader):
    """Finds and loads modules by their text. `sources` is the text by path, `folders` those of PYTHONPATH."""

    def __init__(self, sources: Mapping[str, str], folders: Sequence[str]) -> None:
        super().__init__("", "")
        self.sources = sources
        self.paths: dict[str, str] = {}  # by the module's name
        for path in sources:
            for folder in folders:
                if path.startswith(f"{folder}/") and path.endswith(".py"):
                    name = path[len(folder) + 1 : -3].replace("/", ".")
                    self.paths[name.removesuffix(".__init__")] = path

    def import_them(self, names: Sequence[str]) -> None:
        """Import these, and what they import of the others. What has no text is left to the blocks."""
        sys.meta_path.insert(0, self)
        try:
            for name in filter(self.paths.__contains__, names):
                try:
                    __import__(name)
                except Exception:
                    pass  # the block that imports it will show why
        finally:
            sys.meta_path.remove(self)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """For the import system: where a module is, if its text is here."""
        path = self.paths.get(name)
        if path is None:
            return None
        package = [path.rpartition("/")[0]] if path.endswith("/__init__.py") else None
        return machinery.spec_from_file_location(name, path, loader=self, submodule_search_locations=package)

    def get_filename(self, name: str | None = None) -> str:
        return self.paths[name or ""]

    def get_data(self, path: str) -> bytes:
        return self.sources[path].encode()

    def path_stats(self, path: str) -> dict[str, float]:
        raise OSError(path)  # so no compiled file is looked for
