"""The pytest plugin `agentd`, found by its entry point: a failing `assert` of a contract shows its values.

It is imported at the start of every pytest run of whoever has agentd installed, so it imports nothing but pytest.
"""

from __future__ import annotations

import sys

import pytest

__all__ = ["CONTRACTS"]

CONTRACTS = (
    *("commands", "executors", "models", "parsers", "renderers"),
    *("sinks", "sources", "stores", "subscriptions"),
)
"""The modules of `agentd_testing` with contracts."""

pytest.register_assert_rewrite(
    *(name for part in CONTRACTS if (name := f"agentd_testing.{part}") not in sys.modules)
)
