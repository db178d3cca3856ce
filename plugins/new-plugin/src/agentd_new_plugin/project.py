"""`PluginProject`: the project of one new plugin, its names, and the files that are written."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Final

from agentd.errors import ConfigError
from agentd.hookspecs import GROUPS
from agentd.registry.official import official_distribution

from agentd_new_plugin.kinds import TEMPLATES

__all__ = ["PluginProject"]

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_LONGEST: Final = 20  # the lines of the templates still fit then
_SUFFIX: Final = ".tmpl"  # so that no tool takes a template for Python


class PluginProject:
    """The project of a new plugin.

    :param kind: a key of `agentd.hookspecs.GROUPS`.
    :param name: the plugin's name: its entry point's, and the end of the distribution's.
    :raises ConfigError: if the name is not one, or belongs to a plugin of agentd itself.
    """

    def __init__(self, kind: str, name: str) -> None:
        _check_name(kind, name)
        self.kind = kind
        self.name = name
        self.template = TEMPLATES[kind]
        self.distribution = f"{self.template.prefix}-{name}"
        self.package = self.distribution.replace("-", "_")

    def write(self, folder: Path) -> list[Path]:
        """Write the files into a folder that is not there yet, and return their paths.

        :raises ConfigError: if the folder is there, or cannot be written.
        """
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(
                f"{str(folder)!r} is there already and stays as it is; choose another name or another --into"
            ) from None
        except OSError as exc:
            raise ConfigError(f"the folder {str(folder)!r} cannot be made: {exc.strerror}") from exc
        try:
            return [_write(folder / path, text) for path, text in sorted(self.files().items())]
        except OSError as exc:
            shutil.rmtree(folder, ignore_errors=True)  # half a project helps nobody
            raise ConfigError(f"the project cannot be written to {str(folder)!r}: {exc.strerror}") from exc

    def files(self) -> dict[str, str]:
        """Return the text of each file by its path in the project."""
        values = self._values()
        root = files("agentd_new_plugin") / "templates"
        texts: dict[str, str] = {}
        for part in ("every", self.kind):
            for path, text in _templates(root / part):
                # A missing placeholder raises KeyError: no `$word` gets into a project.
                texts[Template(path).substitute(values)] = Template(text).substitute(values)
        return texts

    def _values(self) -> dict[str, str]:
        template, release = self.template, version("agentd-core")
        needs = [f"{one}>={release}" for one in ("agentd-core", *template.needs)]
        tests = [f"{one}>={release}" for one in ("agentd-testing", *template.tests)]
        target = f"{self.package}.command:command" if self.kind == "command" else f"{self.package}.plugin"
        return {
            "name": self.name,
            "kind": self.kind,
            "words": self.kind.replace("_", " "),
            "group": GROUPS[self.kind],
            "target": target,
            "distribution": self.distribution,
            "package": self.package,
            "module": template.module,
            "cls": "".join(map(str.capitalize, self.name.split("-"))) + template.suffix,
            "dependencies": _toml_lines([*needs, *template.others]),
            "tests": _toml_lines(tests),
        }


def _check_name(kind: str, name: str) -> None:
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789")[:_LONGEST].rstrip("-")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST:
        hint = f"; did you mean {plain!r}?" if plain and plain != name else ""
        raise ConfigError(
            f"a plugin's name has small letters, digits and single hyphens, begins with a letter and has at most "
            f"{_LONGEST} characters, got {name!r}{hint}"
        )
    if owner := official_distribution(kind, name):
        raise ConfigError(
            f"the {kind.replace('_', ' ')} {name!r} is agentd's own ({owner}); choose another name: of two "
            "plugins of one kind and name only one would load"
        )


def _templates(folder: Traversable, at: str = "") -> Iterator[tuple[str, str]]:
    """Yield path and text of each template below a folder."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{at}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield at + entry.name.removesuffix(_SUFFIX), entry.read_text(encoding="utf-8")


def _toml_lines(values: list[str]) -> str:
    return "\n".join(f'    "{value}",' for value in values)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
