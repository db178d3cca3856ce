"""Whether microVMs can be booted here."""

from __future__ import annotations

import os

from agentd_executor_msb import probes

__all__ = ["why_no_kvm"]


def why_no_kvm() -> str:
    """Why a microVM cannot be booted in these tests, or nothing. Images are not pulled: a local one is named."""
    if missing := probes.virtualisation_problem():
        return missing
    if "AGENTD_TEST_ROOTFS" not in os.environ:
        return "AGENTD_TEST_ROOTFS names no local root file system (a directory with Python 3.11, bash, env)"
    return ""
