"""The abuse suite of `agentd escape-test`: small cases as data, each harmless where it succeeds."""

from __future__ import annotations

from agentd_testing.escapes.case import GROUPS, Case, load_cases, select
from agentd_testing.escapes.expectation import Expectation, KnownOpen, differences, load_expectation
from agentd_testing.escapes.run import Outcome, Verdict, run_cases

__all__ = [
    "GROUPS",
    "Case",
    "Expectation",
    "KnownOpen",
    "Outcome",
    "Verdict",
    "differences",
    "load_cases",
    "load_expectation",
    "run_cases",
    "select",
]
