"""The part of a sandbox's end that its session does not wait for: giving back folders with very many files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from agentd_executor_srt.handover import GIVING_BACK_S
from agentd_executor_srt.process import SandboxProcess
from agentd_executor_srt.run_dir import remove_run_dir

__all__ = ["end_later"]

QUIET_S = 2.0  # after which it is said

log = logging.getLogger("agentd.executor.srt")


def end_later(process: SandboxProcess, run_dir: Path, folders: Sequence[Path]) -> None:
    """Wait for the supervisor in a thread of its own, and log what it could not do.

    The thread keeps this program from ending: in a container, the supervisor would end with it.
    """
    named = ", ".join(f"{str(folder)!a}" for folder in folders) or "the workspace"

    def wait() -> None:
        if not process.wait_ended(QUIET_S):
            log.warning(
                "%s: files are being given back to their owner, which goes on in the background", named
            )
            if not process.wait_ended(GIVING_BACK_S):
                log.warning(
                    "%s: files still belong to the sandbox's user: its supervisor has not ended", named
                )
        remove_run_dir(run_dir)

    threading.Thread(target=wait, name="agentd-srt-ending").start()
