"""What the files say together, and what of it counts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import attrs

from agentd_cli.settings.file import (
    FILE_NAME,
    FileValue,
    SettingsFile,
    project_file,
    read_settings_file,
    user_file,
)
from agentd_cli.settings.stricter import needs_word
from agentd_cli.settings.trust import Word, content_digest, word_for

__all__ = ["ENVIRONMENT", "ResolvedSettings", "Setting", "read_settings"]

ENVIRONMENT: Final = {"model": "AGENTD_MODEL", "executor": "AGENTD_EXECUTOR"}
"""Variables of agentd's own, which win over files."""

State = Literal["counts", "overridden", "needs your word"]


@attrs.frozen(kw_only=True)
class Setting:
    """A value of a file; `why` it does not count, if it does not."""

    said: FileValue
    file: Path
    state: State
    why: str = ""


@attrs.define(kw_only=True)
class ResolvedSettings:
    """What the two files say.

    :ivar project: the project's file, if there is one.
    :ivar word: what the person has said of that file as it is now.
    :ivar digest: what that word is for.
    """

    files: list[SettingsFile] = attrs.field(factory=list)
    project: SettingsFile | None = None
    settings: list[Setting] = attrs.field(factory=list)
    word: Word | None = None
    digest: str = ""

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong with the files."""
        return [problem for file in self.files for problem in file.problems]

    @property
    def left_out(self) -> list[Setting]:
        """What counts only with the person's word, and does not."""
        return [setting for setting in self.settings if setting.state == "needs your word"]

    def values(self) -> dict[str, Any]:
        """Return what counts, by the parameter of the command."""
        return {
            setting.said.key.parameter: setting.said.value
            for setting in self.settings
            if setting.state == "counts"
        }


def read_settings(folder: Path, *, word: Word | None = None) -> ResolvedSettings:
    """Read the user's file and that of the project in `folder`. What is wrong is in `problems`.

    :param word: what the person says of the project's file now; None for what was said before.
    :raises ConfigError: if what the project's file names is too large to be trusted.
    """
    found = ResolvedSettings()
    own = user_file()
    if own.exists():
        found.files.append(read_settings_file(own))
    theirs = project_file(folder)
    if theirs is not None and not (own.exists() and theirs.samefile(own)):
        found.project = read_settings_file(theirs)
        found.files.append(found.project)
    mine = found.files[0].values if own.exists() else {}
    said = found.project.values if found.project is not None else {}
    without = _without_project(mine)
    wanting = {name for name, one in said.items() if needs_word(name, one.value, without)}
    if found.project is not None and wanting:
        named = [path for name in wanting for path in said[name].key.files(said[name].value)]
        found.digest = content_digest(found.project.path, found.project.content, named)
        found.word = word or word_for(found.project.path, found.digest)
    refused = wanting if found.word != "yes" else set()
    for name, one in mine.items():
        over = FILE_NAME + " of the project" if name in said and name not in refused else _variable(name)
        found.settings.append(_setting(one, own, over))
    for name, one in said.items():
        assert found.project is not None
        if name in refused:
            why = "you have said no" if found.word == "no" else "agentd config --trust gives it"
            found.settings.append(
                Setting(said=one, file=found.project.path, state="needs your word", why=why)
            )
        else:
            found.settings.append(_setting(one, found.project.path, _variable(name)))
    return found


def _without_project(mine: Mapping[str, FileValue]) -> dict[str, Any]:
    own = {name: one.value for name, one in mine.items()}
    return own | {name: os.environ[variable] for name, variable in ENVIRONMENT.items() if _variable(name)}


def _variable(name: str) -> str:
    variable = ENVIRONMENT.get(name, "")
    return variable if variable and os.environ.get(variable) else ""


def _setting(said: FileValue, file: Path, over: str) -> Setting:
    return Setting(said=said, file=file, state="overridden" if over else "counts", why=over and f"by {over}")
