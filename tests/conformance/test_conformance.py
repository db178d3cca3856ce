"""A part of the MCP project's conformance suite for clients, and all of that for servers."""

from __future__ import annotations

import importlib.util
import os
from concurrent.futures import ThreadPoolExecutor
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


def _need_suite() -> None:
    if not conformance.NODE.exists():
        reason = "the conformance suite is not installed: it needs Node.js with npm; then run scripts/setup"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


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
    _need_suite()
    result = conformance.run(suite, scenario, revision)
    assert result.passed, result.failures
    assert result.checks != "0/0"


@pytest.mark.timeout(900)
def test_agentd_mcp_meets_all_of_the_server_suite_but_tasks_with_the_suites_tools_behind_it() -> None:
    _need_suite()
    wanted = [
        (suite, *found) for suite in conformance.SUITES for found in conformance.scenarios(suite, "server")
    ]
    with conformance.serving() as url, ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda job: conformance.run_server(*job, url), wanted))
    assert conformance.surprises(results, "server") == []
    passed = {result.scenario for result in results if result.passed}
    released = {result.scenario for result in results if result.suite is conformance.RELEASED}
    assert passed >= released
    assert passed >= {
        "input-required-result-multi-round",
        "server-stateless",
        "caching",
        "server-initialize",
        "server-session-lifecycle",
        "server-sse-multiple-streams",
        "ping",
        "tools-list",
        "dns-rebinding-protection",
        "http-header-validation",
        "sep-2164-resource-not-found",
        "input-required-result-unsupported-methods",
    }
