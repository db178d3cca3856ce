"""What `import agentd` loads: nothing that takes time."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {"openai", "litellm", "mcp", "pydantic", "rich", "yaml"}
UNNEEDED = HEAVY | {
    "msgspec", "anyio", "click", "attr", "attrs", "cattrs", "pluggy", "importlib_metadata", "asyncio",
    "email", "importlib.metadata",
}  # fmt: skip


def loaded_by(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has loaded for `code` beyond what it starts with."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


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
        "from agentd import patch_openai_with_ptc",
        "from agentd import display_events",
        "from agentd import tool",
        "from agentd import ConversationLog",
        "from agentd import Registry; Registry().records()",
        "import agentd; dir(agentd)",
    ],
)
def test_no_public_name_loads_a_heavy_package(code: str) -> None:
    assert not {m.partition(".")[0] for m in loaded_by(code)} & HEAVY


def test_the_daemons_configuration_loads_what_reads_yaml_only_to_read_it() -> None:
    loaded = loaded_by("import agentd_daemon.config.loading, agentd_daemon.config.schema, agentd_daemon.uris")
    assert "agentd_daemon.config.values" in loaded
    assert not {m.partition(".")[0] for m in loaded} & (HEAVY | {"cattrs", "msgspec"})
