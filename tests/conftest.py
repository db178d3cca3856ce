"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Several processes test at once, on machines of any speed: how long an example takes says nothing of the code.
settings.register_profile("agentd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("agentd")

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run an async test (`@pytest.mark.anyio`) on both event loops."""
    backend = request.param
    assert isinstance(backend, str)
    return backend


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
