"""Which cases are known to be open in an executor, why, and how that differs from what was seen."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
from agentd.errors import ConfigError
from agentd_runner.host.plain_values import read_values

from agentd_testing.escapes.case import Case
from agentd_testing.escapes.run import Outcome

__all__ = ["Expectation", "KnownOpen", "differences", "load_expectation"]

When = Literal["always", "root", "user", "maybe"]


@attrs.frozen(kw_only=True)
class KnownOpen:
    """An entry of the list. `when`: `root` or `user` only with or without uid 0; `maybe` depends on the machine."""

    reason: str
    when: When = "always"


@attrs.frozen(kw_only=True)
class Expectation:
    """A checked-in list: the executor's name and its known-open cases by `group/id`.

    It holds for an executor with these `options`. `name` is the file's, without its ending.
    """

    executor: str
    known_open: dict[str, KnownOpen]
    options: dict[str, str] = attrs.field(factory=dict)
    name: str = ""

    def allowed(self, case: Case) -> set[str]:
        """Return the verdicts that this list allows for a case."""
        known = self.known_open.get(case.name)
        if known is None:
            return {"blocked"}
        if known.when == "maybe":
            return {"blocked", "open"}
        holds = known.when == "always" or (known.when == "root") == (os.geteuid() == 0)
        return {"open"} if holds else {"blocked"}


def load_expectation(path: Path) -> Expectation:
    """Read a list: YAML with `executor`, perhaps `options`, and `known_open`: a case's reason or `{reason, when}`.

    Raises `ConfigError` for a file that cannot be read or is of another shape.
    """
    import yaml

    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        entries = data["known_open"]
        data["name"] = path.stem
        data["known_open"] = {
            name: read_values(
                {"reason": entry} if isinstance(entry, str) else entry, KnownOpen, where=f"{path}: {name}"
            )
            for name, entry in entries.items()
        }
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: no list of known-open cases: {error}") from error
    return read_values(data, Expectation, where=str(path))


def differences(expected: Expectation, outcomes: Sequence[Outcome], cases: Sequence[Case]) -> list[str]:
    """Return a sentence for each case that came out in another way than the list says.

    Cases that say nothing on this host are left out. `cases` are all that exist: a name that is none of them is a
    difference, too.
    """
    found = []
    for outcome in outcomes:
        allowed = expected.allowed(outcome.case)
        if not outcome.applicable or outcome.verdict in allowed:
            continue
        name = outcome.case.name
        if outcome.verdict == "broken":
            found.append(f"{name} did not run as meant: {outcome.detail}")
        elif outcome.verdict == "open":
            found.append(f"{name} is open and not on the list: {outcome.detail} ({outcome.case.why})")
        else:
            found.append(f"{name} is on the list but blocked: {outcome.detail}")
    names = {case.name for case in cases}
    found += [f"{name} is on the list and no case" for name in expected.known_open if name not in names]
    return found
