"""Wheels of all distributions, and combinations of them in clean environments."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# the first test of a session builds all wheels, on a busy machine that takes a minute
pytestmark = [pytest.mark.packaging, pytest.mark.network, pytest.mark.timeout(300)]

Make = Callable[..., Any]

EVERYTHING = ("agentd",)
CORE = ("agentd-core",)
CORE_AND_EXECUTOR = ("agentd-core", "agentd-executor-subprocess")
CORE_AND_SRT = ("agentd-core", "agentd-executor-srt")

COMBINATIONS = {
    CORE: set(),
    CORE_AND_EXECUTOR: {("executor", "subprocess")},
    CORE_AND_SRT: {("executor", "srt")},
    EVERYTHING: {
        ("executor", "auto"),
        ("executor", "native"),
        ("executor", "srt"),
        ("executor", "subprocess"),
        ("parser", "fence"),
        ("parser", "xml"),
        ("tool_source", "mcp"),
        ("tool_source", "models"),
        ("tool_source", "python"),
        ("skill_renderer", "agentskills"),
        ("event_sink", "console"),
        ("event_sink", "html"),
        ("event_sink", "jsonl"),
        ("model", "openai"),
        ("snapshot_store", "packs"),
        *(("command", name) for name in ("run", "chat", "plugins", "config", "doctor", "completion", "demo")),
        *(("command", name) for name in ("daemon", "status", "approvals", "check", "schema")),
        *(("command", name) for name in ("mcp", "trace", "new-plugin")),
    },
}
"""The plugins of each combination."""


def test_every_wheel_is_typed_and_licensed_and_the_meta_wheel_has_no_modules(
    wheels: Path, projects: dict[str, Path]
) -> None:
    ours = sorted(wheels.glob("agentd*.whl"))
    assert len(ours) == len(projects)
    for wheel in ours:
        names = zipfile.ZipFile(wheel).namelist()
        assert any(name.endswith("/licenses/LICENSE") for name in names), wheel.name
        modules = [name for name in names if ".dist-info/" not in name]
        if wheel.name.startswith("agentd-"):
            assert not modules
        else:
            assert any(name.endswith("/py.typed") for name in modules), wheel.name
            assert all(name.startswith("agentd") for name in modules), wheel.name


def test_the_meta_wheel_brings_the_command_itself_as_uvx_and_pipx_want_it(wheels: Path) -> None:
    (wheel,) = wheels.glob("agentd-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "agentd = agentd.__main__:main" in archive.read(name).decode()


@pytest.mark.parametrize("distributions", COMBINATIONS, ids="+".join)
def test_each_combination_passes_its_own_check(distributions: tuple[str, ...], environment: Make) -> None:
    done = environment(*distributions).run("agentd", "plugins", "--check", "--json")
    records = json.loads(done.stdout)
    assert not [r["error"] for r in records if r["error"]]
    assert done.returncode == 0, done.stderr
    assert {(r["kind"], r["name"]) for r in records} == COMBINATIONS[distributions]
    assert {r["state"] for r in records} <= {"loaded"}


@pytest.mark.parametrize("distributions", COMBINATIONS, ids="+".join)
def test_each_combination_says_its_version(
    distributions: tuple[str, ...], environment: Make, wheels: Path
) -> None:
    (wheel,) = wheels.glob("agentd_core-*.whl")
    version = wheel.name.split("-")[1]
    done = environment(*distributions).run("agentd", "--version")
    assert done.returncode == 0, done.stderr
    assert version in done.stdout


@pytest.mark.parametrize("distributions", COMBINATIONS, ids="+".join)
def test_every_name_of_core_is_importable_in_each_combination(
    distributions: tuple[str, ...], environment: Make
) -> None:
    done = environment(*distributions).python("from agentd import *; import agentd; agentd.Session")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("distributions", "name", "brings"),
    [
        (CORE, "SubprocessExecutor", "agentd-executor-subprocess"),
        (CORE, "create_sandbox_runtime_executor", "agentd-executor-srt"),
        (EVERYTHING, "create_microsandbox_cli_executor", "agentd-executor-msb"),
    ],
)
def test_importing_what_is_missing_gives_the_pip_command(
    distributions: tuple[str, ...], name: str, brings: str, environment: Make
) -> None:
    done = environment(*distributions).python(f"from agentd import {name}")
    assert done.returncode == 1
    assert f"pip install {brings}" in done.stderr.splitlines()[-1]


def test_what_a_plugin_exports_is_importable(environment: Make) -> None:
    done = environment(*CORE_AND_EXECUTOR).python("from agentd import SubprocessExecutor")
    assert done.returncode == 0, done.stderr


def test_core_alone_names_the_executor_that_is_missing(environment: Make) -> None:
    done = environment(*CORE).python("import agentd; agentd.Registry().create_executor('subprocess', '.')")
    assert "pip install agentd-executor-subprocess" in done.stderr


def test_core_alone_names_the_plugin_for_mcp_servers(environment: Make) -> None:
    done = environment(*CORE).python("import agentd; agentd.Registry().create_tool_sources('npx -y server')")
    assert "pip install agentd-mcp-bridge" in done.stderr


AGENT_WITHOUT_PARSER = """
import anyio
from agentd import Session

class Model:
    name = "never asked"

async def main():
    async with Session(model=Model(), executor="subprocess", cwd=".") as session:
        async for _ in session.run("hello"):
            pass

anyio.run(main)
"""


def test_an_agent_without_a_parser_names_the_parser_to_install(environment: Make) -> None:
    done = environment(*CORE_AND_EXECUTOR).python(AGENT_WITHOUT_PARSER)
    assert done.returncode == 1
    assert "pip install agentd-parser-fence" in done.stderr


def test_the_script_for_srt_can_be_run_where_it_is_installed(environment: Make) -> None:
    code = "from agentd_executor_srt.additions import lacking_additions; print(lacking_additions()['bubblewrap.sh'])"
    done = environment(*CORE_AND_SRT).python(code)
    assert (done.stdout, done.stderr) == ("\n", "")
