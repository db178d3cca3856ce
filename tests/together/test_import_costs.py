"""What the names of the distributions load: nothing that takes time before it is used."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from agentd.hookspecs import GROUPS
from loaded_modules import HEAVY, loaded_by


@pytest.mark.parametrize(
    "code",
    [
        "from agentd import patch_openai_with_ptc",
        "from agentd import display_events",
        "from agentd import tool",
        "from agentd import ConversationLog",
    ],
)
def test_no_public_name_loads_a_heavy_package(code: str) -> None:
    loaded = loaded_by(code)
    assert "attr" in loaded
    assert not {m.partition(".")[0] for m in loaded} & HEAVY
    assert not loaded & {"importlib.metadata", "importlib_metadata", "agentd.registry.record", "difflib"}


def test_a_session_loads_no_plugin_and_no_runner_before_it_is_asked_something() -> None:
    """Where all of them are installed."""
    groups = [*GROUPS.values(), "agentd.exports"]
    plugins = {point.module.partition(".")[0] for group in groups for point in entry_points(group=group)}
    assert {"agentd_parser_fence", "agentd_executor_subprocess"} <= plugins
    loaded = {m.partition(".")[0] for m in loaded_by("import agentd.session.session, agentd.session.sync")}
    assert "agentd" in loaded
    assert not loaded & {*plugins, "agentd_runner", *HEAVY}


def test_the_daemons_configuration_loads_what_reads_yaml_only_to_read_it() -> None:
    loaded = loaded_by("import agentd_daemon.config.loading, agentd_daemon.config.schema, agentd_daemon.uris")
    assert "agentd_daemon.config.values" in loaded
    assert not {m.partition(".")[0] for m in loaded} & (HEAVY | {"cattrs", "msgspec"})
