"""What the tests of the command share."""

from __future__ import annotations

from command_process import agentd as agentd, compiled as compiled, survivors as survivors
