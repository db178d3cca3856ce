"""Modules that earlier blocks have imported are there in later ones, and right after the fork, in the sandbox too."""

from __future__ import annotations

import sandbox
from warm_blocks import WarmSandboxBlocks


class TestWarmSrt(WarmSandboxBlocks):
    make = staticmethod(sandbox.make)
