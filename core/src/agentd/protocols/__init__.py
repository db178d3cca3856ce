"""What the parts expect of each other: the structural types that plugins implement.

Plugins need not inherit anything. The objects are made by the hooks of `agentd.hookspecs`.
"""

from __future__ import annotations

from agentd.protocols import executors, models, parsers, sinks, skills, snapshots, tools
from agentd.protocols.executors import *
from agentd.protocols.models import *
from agentd.protocols.parsers import *
from agentd.protocols.sinks import *
from agentd.protocols.skills import *
from agentd.protocols.snapshots import *
from agentd.protocols.tools import *

__all__: list[str] = []  # each name is made public where it is defined
__all__ += executors.__all__
__all__ += models.__all__
__all__ += parsers.__all__
__all__ += sinks.__all__
__all__ += skills.__all__
__all__ += snapshots.__all__
__all__ += tools.__all__
