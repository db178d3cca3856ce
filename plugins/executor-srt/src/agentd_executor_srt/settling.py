"""Settling a workspace before code runs there: what sessions of srt that were killed altogether have left in it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from agentd_runner.host.placeholders import settle_stand_ins

from agentd_executor_srt.handover import HandoverError, give_back_lost

__all__ = ["settle"]

log = logging.getLogger("agentd.executor.srt")


def settle(workspace: Path) -> list[str]:
    """Take away what stands in for absent files, give root's files back, and say so."""
    said = settle_stand_ins(workspace, "srt")
    if os.geteuid() == 0:
        said += _settle_owners()
    return said


def _settle_owners() -> list[str]:
    try:
        given = give_back_lost()
    except HandoverError as error:
        said = [f"what a killed sandbox had was not given back: {error}"]
    else:
        said = [_told(path, missed) for path, missed in given.items()]
    for text in said:
        log.warning("%s", text)
    return said


def _told(path: str, missed: list[str]) -> str:
    if not missed:
        return f"a sandbox was killed: {path!r} was given back to its owner"
    return f"{len(missed)} files in {path!r} still belong to a sandbox's user: {'; '.join(missed[:3])}"
