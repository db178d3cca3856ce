"""What the tests of several distributions share."""

from __future__ import annotations

from command_process import agentd as agentd, survivors as survivors
from serving import serve as serve
