"""What the tests of this folder share."""

from __future__ import annotations

from command_process import agentd as agentd
