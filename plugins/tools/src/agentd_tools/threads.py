"""The threads of blocking tools.

Apart from those of `agentd._concurrency.pool`: tools are the user's, may hang until their time is up, and must not
hold up agentd's own work.
"""

from __future__ import annotations

from typing import Final

from agentd._concurrency.pool import WorkerPool

__all__ = ["tool_pool"]

tool_pool: Final = WorkerPool("agentd-tool", max_threads=256)
