"""What all tests share."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Several processes test at once, on machines of any speed: how long an example takes says nothing of the code.
settings.register_profile("agentd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agentd")

REPOSITORY = Path(__file__).resolve().parents[1]

# Adapters to frameworks are tested where the framework is: tests/packaging/test_adapters.py has that done.
collect_ignore = [path.parent.name for path in REPOSITORY.glob("plugins/*/constraints.txt")]


ALWAYS_SLOW = ("soak", "packaging", "network")


def pytest_configure(config: pytest.Config) -> None:
    """Keep what tests leave in the user's state folder (snapshots, journals, marks) out of that of the person."""
    folder = tempfile.mkdtemp(prefix="agentd-tests-state-")
    os.environ["XDG_STATE_HOME"] = folder  # before any fixture; what tests start inherits it
    # Many images of Python set it. Thousands of processes would compile all of agentd anew, each worker all tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out of `make test` what is slow by its kind, and begin with what takes minutes."""
    for item in items:
        if any(item.get_closest_marker(marker) for marker in ALWAYS_SLOW):
            item.add_marker("slow")
    # A worker that is the last to end is waited for alone. The sort is stable, so that all workers have the same list.
    items.sort(key=lambda item: item.get_closest_marker("packaging") is None)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from the half a million objects of all tests: each full look took 0.3 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run an async test (`@pytest.mark.anyio`) on both event loops."""
    backend = request.param
    assert isinstance(backend, str)
    return backend


@pytest.fixture(autouse=True)
def _one_fork_bomb_at_a_time(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Two in the processes that test would share the user's number of processes, and neither exceed its limit."""
    if "fork_bomb" not in request.node.name:
        yield
        return
    with open(tmp_path_factory.getbasetemp().parent / "fork-bomb.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture(autouse=True)
def _no_settings_of_the_person(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep keys, addresses and preferences of whoever runs the tests out of them."""
    for name in list(os.environ):
        if name.startswith(("AGENTD_", "OPENAI_", "ANTHROPIC_", "GEMINI_", "GOOGLE_API_")):
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
