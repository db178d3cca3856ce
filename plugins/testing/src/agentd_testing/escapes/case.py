"""Cases as data: one YAML file for each group, read and checked here."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, Final, Literal, get_args

import attrs
from agentd.errors import ConfigError

__all__ = ["GROUPS", "Case", "Judge", "Language", "load_cases", "select"]

GROUPS: Final = (
    "files", "links", "hooks", "secrets", "proc", "network", "sockets", "ipc", "kernel", "processes", "resources",
    "output", "bridge", "skills", "create",
)  # fmt: skip
Language = Literal["python", "bash", "create"]
Judge = Literal["says", "outside", "survivor", "timeout", "bounded", "survives", "next", "rerender"]


@attrs.frozen(kw_only=True)
class Case:
    """One thing that code in a sandbox may try. It does no harm where it succeeds.

    `code` runs inside (Python has the names of `inside` at hand; bash has `say open|blocked TEXT`); for `create` it
    is the path of the file to make, with `{name}` for facts of the world. `setup` is Python that runs inside before.
    `then` is Python that runs as the next block.

    `judge` says who decides: `says` the code itself; `outside` the host, open if anything beside the workspace has
    changed; `survivor` open if a process with the case's mark lives on; `timeout` open unless the block is ended in
    time; `bounded` open if more output arrives than the limit; `survives` open if the next block does not work;
    `next` the block in `then`; `rerender` open if writing the skills anew changes anything outside.

    `needs` are conditions of the host without which the case says nothing (`path:GLOB`, `command:NAME`,
    `socket:FAMILY:KIND:PROTOCOL`, `route4`, `route6`, `loopback6`, `keyring`, `system-v`); `why` says what is at stake
    where it is open.
    """

    id: str
    group: str
    code: str
    why: str
    language: Language = "python"
    judge: Judge = "says"
    setup: str = ""
    then: str = ""
    needs: tuple[str, ...] = ()
    timeout_s: float = 15.0

    @property
    def name(self) -> str:
        """The id with its group: how lists and options name the case."""
        return f"{self.group}/{self.id}"


def load_cases() -> tuple[Case, ...]:
    """Return all cases, in the order of groups and files."""
    import yaml

    folder = files("agentd_testing.escapes") / "cases"
    cases: list[Case] = []
    for group in GROUPS:
        text = (folder / f"{group}.yaml").read_text(encoding="utf-8")
        cases += [_case(group, entry) for entry in yaml.safe_load(text)]
    names = [case.name for case in cases]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"two cases have one id: {', '.join(doubled)}")
    return tuple(cases)


def _case(group: str, entry: dict[str, Any]) -> Case:
    known = {field.name for field in attrs.fields(Case)} - {"group"}
    if wrong := set(entry) - known:
        raise ConfigError(f"case {group}/{entry.get('id')}: unknown {', '.join(sorted(wrong))}")
    case = Case(group=group, **{**entry, "needs": tuple(entry.get("needs", ()))})
    if case.judge not in get_args(Judge) or case.language not in get_args(Language):
        raise ConfigError(f"case {case.name}: judge {case.judge!r}, language {case.language!r}")
    return case


def select(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Return the cases whose `group/id`, group or id matches one of the patterns; all without a pattern.

    Raises `ConfigError` if none does.
    """
    if not patterns:
        return list(cases)
    chosen = [
        case
        for case in cases
        if any(fnmatchcase(word, p) for p in patterns for word in (case.name, case.group, case.id))
    ]
    if not chosen:
        raise ConfigError(f"no case matches {', '.join(map(repr, patterns))}; groups: {', '.join(GROUPS)}")
    return chosen
