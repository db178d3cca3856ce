"""Options: what is refused and how it is said, and what the SDK is given."""

from __future__ import annotations

import inspect
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import agentd
import pytest
from agentd.errors import ConfigError
from agentd.registry import Registry
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.factory import OPTIONS, create_microsandbox_cli_executor
from agentd_executor_msb.network import check_network, to_network
from agentd_skills import layout_of
from hypothesis import given, strategies as st
from microsandbox.types import Network


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"memory": 0}, "memory: must be a whole number from 1"),
        ({"memory": "1024"}, "memory: must be a whole number from 1"),
        ({"cpus": 0.5}, "cpus: must be a whole number"),
        ({"image": ""}, "image: must be"),
        ({"python": ""}, "python: must be"),
        ({"guest_dir": "work"}, "guest_dir: a place in the microVM is an absolute path"),
        ({"guest_dir": "/a/../b"}, "guest_dir: a place"),
        ({"pull": "sometimes"}, "pull: must be one of 'if-missing', 'always', 'never'"),
        ({"security": "most"}, "security: must be one of"),
        ({"network": "nnone"}, "network: must be one of"),
        ({"network": ["allow@not a host"]}, "is no rule"),
        ({"network": ["https://api.github.com"]}, "is no rule"),
        ({"volumes": ["/nowhere-at-all:/data"]}, "'/nowhere-at-all' is no directory"),
        ({"volumes": [("/usr", "/workspace")]}, "'/workspace' is mounted twice"),
        ({"volumes": [("/usr", "/data", "maybe")]}, "volumes: must be"),
        (
            {"secrets": {"A": {"hosts": ["x.com"], "value": "v"}}},
            "secrets: they are of use only where the network allows",
        ),
        ({"network": "all", "secrets": {"A": ["x.com"]}}, r"secrets\['A'\]: has no value"),
        ({"network": "all", "secrets": {"A": "x.com"}}, r"secrets\['A'\]: must be a list of host names"),
        ({"network": "all", "secrets": {"A-B": ["x.com"]}}, "no name of an environment variable"),
        ({"idle_timeout_s": 1}, "idle_timeout_s: must be at least 10"),
        ({"state": "sometimes"}, "state: must be"),
    ],
)
def test_a_bad_option_is_refused_before_anything_starts(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        MicrosandboxCLIExecutor(tmp_path, **options)


def test_an_unknown_option_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'memory'"):
        create_microsandbox_cli_executor(workspace_dir=tmp_path, memroy=512)


def test_the_plugin_takes_every_parameter_and_plain_values_of_a_configuration_file(tmp_path: Path) -> None:
    parameters = set(inspect.signature(MicrosandboxCLIExecutor).parameters) - {"workspace_dir"}
    assert parameters | {"env"} == set(OPTIONS)
    made = Registry().create_executor(
        "msb", tmp_path, memory=512, limits={"timeout_s": 5}, env={"A": "1"}, network=["example.com"]
    )
    assert isinstance(made, MicrosandboxCLIExecutor)
    assert (made.settings.memory, made.limits.timeout_s, made.env) == (512, 5, {"A": "1"})


def test_the_names_that_users_of_agentd_know_are_exported_with_their_parameters(tmp_path: Path) -> None:
    assert agentd.MicrosandboxCLIExecutor is MicrosandboxCLIExecutor
    made = agentd.create_microsandbox_cli_executor(
        conversation_id="c1",
        base_dir=tmp_path / "base",
        image="python",
        memory=1024,
        cpus=1,
        timeout=60,
        workspace_dir=None,
        additional_volumes=[(str(tmp_path), "/data")],
        envs={"A": "1"},
    )
    assert made.workspace_dir == tmp_path / "base" / "workspace"
    assert made.settings.mounts[0].guest == "/data"
    assert made.limits.timeout_s == 60


def test_a_conversation_has_the_same_workspace_in_every_process_and_inside_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    first = create_microsandbox_cli_executor("x/../../../evil")
    assert first.workspace_dir == create_microsandbox_cli_executor("x/../../../evil").workspace_dir
    assert first.workspace_dir.is_relative_to(tmp_path / "agentd" / "conversations")


def test_what_microsandbox_keeps_cannot_be_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MSB_HOME", str(tmp_path / "home" / "msb"))
    (tmp_path / "home" / "msb" / "db").mkdir(parents=True)
    for host in (tmp_path / "home", tmp_path / "home" / "msb", tmp_path / "home" / "msb" / "db"):
        with pytest.raises(ConfigError, match="keeps secrets and keys"):
            MicrosandboxCLIExecutor(tmp_path / "w", volumes=[(str(host), "/data")])
        executor = MicrosandboxCLIExecutor(host)
        with pytest.raises(ConfigError, match="keeps secrets and keys"):
            executor.settings.create_options(executor.workspace_dir)


def test_secrets_are_stored_only_where_no_other_user_can_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "msb"
    monkeypatch.setenv("MSB_HOME", str(state))
    executor = MicrosandboxCLIExecutor(
        tmp_path / "w", network=["x.com"], secrets={"A": {"hosts": ["x.com"], "value": "v"}}
    )
    executor.settings.create_options(executor.workspace_dir)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    state.chmod(0o755)
    with pytest.raises(ConfigError, match="chmod 700"):
        executor.settings.create_options(executor.workspace_dir)


def test_a_skills_directory_elsewhere_is_mounted_if_it_is_known_in_time(tmp_path: Path) -> None:
    (tmp_path / "skills").mkdir()
    executor = MicrosandboxCLIExecutor(tmp_path / "w")
    executor.attach(tools=None, layout=layout_of(tmp_path / "skills"))
    mount = executor._create_options()["volumes"]["/opt/agentd/skills"]
    assert (mount.bind, mount.readonly) == (str(tmp_path / "skills"), True)


def test_nothing_heavy_is_imported_before_an_action() -> None:
    code = (
        "import sys, agentd_executor_msb.plugin\n"
        "assert 'agentd_runner.host' not in sys.modules\n"
        "made = agentd_executor_msb.plugin.agentd_create_executor('.', {'network': ['example.com']})\n"
        "assert 'microsandbox' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def rules(setting: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = to_network(setting)._to_dict()["custom_policy"].get("rules", [])
    return found


def test_a_name_alone_allows_its_web_ports_and_look_ups() -> None:
    found = rules(["api.github.com"])
    assert [(r["destination"], r["port"]) for r in found] == [
        *[("host", "53")] * 2,
        *(("api.github.com", port) for port in ("443", "80")),
    ]


def test_no_network_means_no_rule_at_all_not_even_for_names() -> None:
    policy = to_network("none")._to_dict()["custom_policy"]
    assert policy == {"default_egress": "deny", "default_ingress": "deny"}
    assert not any(rule.get("port") == "53" for rule in rules(["allow@10.0.0.0/8:tcp:5432", "deny@evil.com"]))


def test_the_sdks_own_network_is_passed_on() -> None:
    mine = Network.allow_all()
    assert to_network(mine) is mine


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_named_error(text: str) -> None:
    try:
        check_network([text])
    except ConfigError:
        with pytest.raises(ConfigError, match="network:"):
            to_network([text])
    else:
        assert rules([text])
