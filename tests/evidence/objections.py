"""What data sets' own checkers are known to object to, and why: that is no failure of a run.

An objection that is not in the table is one. A known one that a replay no longer meets is told, so that the
table can be put right.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from evidence.ways import USUAL

__all__ = ["KNOWN", "KnownObjection", "Sorted", "sort"]

Entry = Mapping[str, Any]


@attrs.frozen(kw_only=True)
class KnownObjection:
    """An objection to one case, in whichever way its gold calls are made.

    `says` is what it begins with; `reason` says what is wrong with the data set.
    """

    case: str
    says: str
    reason: str


KNOWN: Final = (
    KnownObjection(
        case="multi_turn_miss_func_49",
        says="turn 1: Model response execution results so far does not contain all the ground truth",
        reason="a gold call of the second turn uses `tail`, which the case holds back until the fourth, so that no "
        "model can make that call (`findings/bfcl-gold-call-of-a-function-that-is-held-out.sh`)",
    ),
)


@attrs.frozen
class Sorted:
    """The objections of a run: what is unknown, what is known with the ways in which it was met, and what is known and
    was not met any more, each named with its way."""

    unknown: Sequence[str]
    known: Mapping[KnownObjection, Sequence[str]]
    gone: Sequence[str]


def sort(entries: Iterable[Entry], known: Sequence[KnownObjection] = KNOWN) -> Sorted:
    """Tell known objections from others.

    :param entries: the results of replays; of those of a known case, the usual ways alone can miss its objection.
    """
    by_case = {one.case: one for one in known}
    unknown: list[str] = []
    met: dict[KnownObjection, list[str]] = {}
    gone: list[str] = []
    for entry in entries:
        one, said = by_case.get(entry["case"]), entry["objection"]
        if one is not None and said.startswith(one.says):
            if entry["way"] not in met.setdefault(one, []):
                met[one].append(entry["way"])
        elif said:
            unknown.append(f"{entry['case']} as {entry['way']}: {said}")
        elif one is not None and entry["way"] in USUAL:
            gone.append(f"{entry['case']} as {entry['way']}")
    return Sorted(unknown, met, list(dict.fromkeys(gone)))
