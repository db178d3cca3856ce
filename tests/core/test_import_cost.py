"""What `import agentd` loads: nothing that takes time."""

from __future__ import annotations

import sys

import pytest
from loaded_modules import HEAVY, loaded_by

UNNEEDED = HEAVY | {
    "msgspec", "anyio", "click", "attr", "attrs", "cattrs", "pluggy", "importlib_metadata", "asyncio",
    "email", "importlib.metadata",
}  # fmt: skip


def test_importing_agentd_loads_nothing_but_itself_and_the_standard_library() -> None:
    loaded = loaded_by("import agentd")
    assert "agentd" in loaded
    assert not loaded & UNNEEDED
    outside = {m.partition(".")[0] for m in loaded} - set(sys.stdlib_module_names)
    assert outside == {"agentd"}


@pytest.mark.parametrize(
    "code",
    [
        "from agentd import AgentdError, TextDelta, Registry",
        "from agentd import Session, SyncSession",
        "from agentd import Registry; Registry().records()",
        "import agentd; dir(agentd)",
    ],
)
def test_no_public_name_loads_a_heavy_package(code: str) -> None:
    assert not {m.partition(".")[0] for m in loaded_by(code)} & HEAVY
