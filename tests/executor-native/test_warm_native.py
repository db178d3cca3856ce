"""Modules that earlier blocks have imported are there in later ones, and right after the fork, in the sandbox too."""

from __future__ import annotations

import native
from warm_blocks import WarmSandboxBlocks


class TestWarmNative(WarmSandboxBlocks):
    make = staticmethod(native.make)
