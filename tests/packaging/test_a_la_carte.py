"""The core alone and with a few plugins: how little is installed, what is loaded, what is said to be missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agentd_testing import fake_distribution

pytestmark = [pytest.mark.packaging, pytest.mark.network, pytest.mark.timeout(300)]

Make = Callable[..., Any]

CORE = ("agentd-core",)
CORE_AND_SRT = ("agentd-core", "agentd-executor-srt")
EVERYTHING = ("agentd",)
WITH_LITELLM = ("agentd", "agentd-model-litellm")

INSTALLED = """
import json
from importlib.metadata import distributions
found = {d.name: sum((d.locate_file(f).stat().st_size for f in d.files or ())) for d in distributions()}
print(json.dumps(found))
"""
LOADED = "import {0}, sys; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
HEAVY = {"openai", "litellm", "mcp", "pydantic", "rich"}


def installed(environment: Any) -> dict[str, int]:
    """Size in bytes of each distribution in an environment."""
    done = environment.python(INSTALLED)
    assert done.returncode == 0, done.stderr
    found: dict[str, int] = json.loads(done.stdout)
    return found


def loaded(environment: Any, module: str) -> set[str]:
    """The top-level names that importing a module loads."""
    done = environment.python(LOADED.format(module))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_core_alone_is_at_most_six_distributions_and_four_megabytes(environment: Make) -> None:
    found = installed(environment(*CORE))
    assert found.keys() >= {"agentd-core", "anyio", "attrs", "pluggy"}
    assert len(found) <= 6, sorted(found)
    assert [name for name in found if name.startswith("agentd")] == ["agentd-core"]
    assert sum(found.values()) <= 4 * 1024**2, found


def test_an_executor_brings_the_runner_and_nothing_else(environment: Make) -> None:
    more = installed(environment(*CORE_AND_SRT)).keys() - installed(environment(*CORE)).keys()
    assert more == {"agentd-executor-srt", "agentd-runner"}


def test_core_and_srt_make_an_executor(environment: Make, tmp_path: Path) -> None:
    code = f"""
import agentd
made = agentd.Registry().create_executor("srt", {str(tmp_path)!r})
print(type(made) is agentd.SandboxRuntimeExecutor)
made.close()
"""
    done = environment(*CORE_AND_SRT).python(code)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.parametrize(
    ("ask", "brings"),
    [
        ("agentd.Registry().create_executor('subprocess', '.')", "agentd-executor-subprocess"),
        ("agentd.Registry().create_notations()", "agentd-parser-fence"),
        ("agentd.Registry().create_notations(['xml'])", "agentd-parser-xml"),
        ("agentd.Registry().create_event_sink('console')", "agentd-sink-console"),
        ("agentd.Registry().create_skill_renderer()", "agentd-skills"),
        ("agentd.Registry().create_snapshot_store('packs', None, None, list)", "agentd-snapshots"),
        ("agentd.Registry().open_model('gpt-5')", "agentd-model-openai"),
        ("agentd.tool", "agentd-tools"),
        ("agentd.patch_openai_with_ptc", "agentd-openai"),
        ("agentd.ConversationLog", "agentd-sink-jsonl"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(
    ask: str, brings: str, environment: Make
) -> None:
    done = environment(*CORE_AND_SRT).python(f"import agentd; {ask}")
    assert done.returncode == 1
    assert f"pip install {brings}" in done.stderr.splitlines()[-1]


def test_importing_the_session_loads_neither_the_runner_nor_a_plugin(environment: Make) -> None:
    names = loaded(environment(*EVERYTHING), "agentd.session.session")
    assert {name for name in names if name.startswith("agentd")} == {"agentd"}


@pytest.mark.parametrize("module", ["agentd", "agentd.session.session"])
def test_no_heavy_package_is_loaded_though_all_are_installed(module: str, environment: Make) -> None:
    both = environment(*WITH_LITELLM)
    assert {name.lower() for name in installed(both)} >= HEAVY
    assert not loaded(both, module) & HEAVY


def test_without_agentd_cli_the_core_lists_plugins_and_says_what_brings_the_rest(environment: Make) -> None:
    alone = environment(*CORE_AND_SRT)
    done = alone.run("agentd", "plugins")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:3] == ["srt", "executor", "agentd-executor-srt"]
    assert "pip install agentd-cli" in alone.run("agentd", "--help").stdout
    refused = alone.run("agentd", "daemon", "agents.yaml")
    assert refused.returncode == 2
    assert "pip install agentd-cli agentd-daemon" in refused.stderr


def test_a_broken_command_is_listed_with_its_error_and_the_others_work(
    environment: Make, tmp_path: Path
) -> None:
    fake_distribution(
        tmp_path,
        "acme",
        entry_points={"agentd.commands": {"broken": "acme_broken:command"}},
        modules={"acme_broken": "raise RuntimeError('the wrong day')"},
    )
    path = {"PYTHONPATH": str(tmp_path)}
    everything = environment(*EVERYTHING)
    helped = everything.run("agentd", "--help", **path)
    assert helped.returncode == 0, helped.stderr
    assert "doctor" in helped.stdout
    listed = everything.run("agentd", "plugins", "--check", "--kind", "command", **path)
    assert listed.returncode == 1
    assert "the wrong day" in listed.stdout
    assert everything.run("agentd", "schema", **path).returncode == 0
    broken = everything.run("agentd", "broken", **path)
    assert broken.returncode != 0
    assert "the wrong day" in broken.stderr
    assert "Traceback" not in broken.stderr
