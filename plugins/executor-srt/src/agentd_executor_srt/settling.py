"""Settling a workspace before code runs there: what sessions of srt that were killed altogether have left in it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from agentd.workspace import unfinished_dir

from agentd_executor_srt.handover import HandoverError, give_back_lost
from agentd_executor_srt.stand_ins import left_behind

__all__ = ["mark_dir", "settle"]

log = logging.getLogger("agentd.executor.srt")


def mark_dir(workspace: Path) -> Path:
    """Where the sessions in a workspace write down what they have made there (`stand_ins`)."""
    return unfinished_dir(workspace) / "executor.srt"


def settle(workspace: Path) -> list[str]:
    """Take away what stands in for absent files, give root's files back, and say so."""
    said = []
    removed = left_behind(str(mark_dir(workspace)), str(workspace))
    if removed is not None:
        names = f" ({', '.join(map(repr, removed[:5]))}{', ...' if removed[5:] else ''})" if removed else ""
        said.append(
            f"a sandbox in {str(workspace)!r} was killed before it could tidy up: "
            f"{len(removed)} entries that it had made were removed{names}"
        )
    if os.geteuid() == 0:
        try:
            given = give_back_lost()
        except HandoverError as error:
            said.append(f"what a killed sandbox had was not given back: {error}")
        else:
            said += [_told(path, missed) for path, missed in given.items()]
    for text in said:
        log.warning("%s", text)
    return said


def _told(path: str, missed: list[str]) -> str:
    if not missed:
        return f"a sandbox was killed: {path!r} was given back to its owner"
    return f"{len(missed)} files in {path!r} still belong to a sandbox's user: {'; '.join(missed[:3])}"
