"""A part of the MCP project's client conformance suite; `make conformance` runs the whole."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def _runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_run", Path(__file__).with_name("run.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


conformance = _runner()


@pytest.mark.parametrize(
    ("suite", "scenario", "revision"),
    [
        (conformance.RELEASED, "initialize", ""),
        (conformance.RELEASED, "tools_call", ""),
        (conformance.NEXT, "tools_call", "2026-07-28"),
        (conformance.NEXT, "auth/metadata-default", "2026-07-28"),
        (conformance.NEXT, "sep-2322-client-request-state", "2026-07-28"),
    ],
    ids=lambda value: getattr(value, "package", value),
)
def test_a_scenario_of_the_conformance_suite_passes(suite: Any, scenario: str, revision: str) -> None:
    if not conformance.NODE.exists():
        reason = "the conformance suite is not installed: it needs Node.js with npm; then run scripts/setup"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    result = conformance.run(suite, scenario, revision)
    assert result.passed, result.failures
    assert result.checks != "0/0"
