"""What the tests of the demo share."""

from __future__ import annotations

from command_process import agentd as agentd, survivors as survivors
