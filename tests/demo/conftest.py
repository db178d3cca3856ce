"""What the tests of the demo share."""

from __future__ import annotations

from command_process import agentd as agentd
from command_process import compiled as compiled
from command_process import survivors as survivors
