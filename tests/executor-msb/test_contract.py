"""The real SDK and the real `msb`, as far as a host without hardware virtualisation goes: up to the boot.

msb checks and stores a microVM's configuration before it boots it; the SDK shows what it has understood.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import microsandbox
import pytest
from microsandbox.types import ExecEventType, SandboxStatus
from places import SUPPORT

OPTIONS: dict[str, Any] = {
    "conversation_id": "a b/../c",
    "memory": 700,
    "cpus": 2,
    "network": [
        "api.github.com",
        "*.example.com",
        "deny@10.0.0.0/8:tcp:5432",
        "allow@[2001:db8::1]:udp:53",
        "allow@public:tcp:1-1024",
        "allow:ingress@host",
    ],
    "secrets": {"CONTRACT_SECRET": ["api.github.com"]},
    "user": "1000",
    "security": "restricted",
    "pull": "never",
    "idle_timeout_s": 600,
}


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    # Short, because msb makes Unix sockets below its home.
    folder = Path(tempfile.mkdtemp(prefix="msb-"))
    for name in ("rootfs", "data", "home"):
        (folder / name).mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def told(place: Path) -> dict[str, Any]:
    """What msb says of a microVM that the executor has asked for, and what is left after its end."""
    image = os.environ.get("AGENTD_TEST_ROOTFS", str(place / "rootfs"))
    options = {
        **OPTIONS,
        "image": image,
        "workspace_dir": str(place / "workspace"),
        "additional_volumes": [[str(place / "data"), "/data", "ro"]],
    }
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "contract.py"), json.dumps(options)],
        env={"PATH": os.environ["PATH"], "HOME": str(place / "home"), "MSB_HOME": str(place / "home")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["config"] is not None, found
    return found


def test_msb_has_stored_what_was_asked_for(told: dict[str, Any], place: Path) -> None:
    config = told["config"]
    assert config["name"] == told["name"]
    assert config["resources"]["memory_mib"] == 700
    assert config["resources"]["cpus"] == 2
    assert config["lifecycle"] == {"ephemeral": True, "idle_timeout_secs": 600, "max_duration_secs": None}
    assert config["runtime"]["workdir"] == "/workspace"
    assert config["runtime"]["user"] == "1000"
    assert config["security_profile"] == "restricted"
    assert config["pull_policy"] == "Never"
    assert config["image"]["Bind"]["path"] == os.environ.get("AGENTD_TEST_ROOTFS", str(place / "rootfs"))
    assert list(config["labels"]) == ["agentd.settings"]


def test_mounts_are_as_asked_and_can_neither_raise_rights_nor_make_devices(
    told: dict[str, Any], place: Path
) -> None:
    mounts = {mount["guest"]: mount for mount in told["config"]["mounts"]}
    assert {guest: (m["host"], m["options"]["readonly"]) for guest, m in mounts.items()} == {
        "/workspace": (str(place / "workspace"), False),
        "/workspace/skills": (str(place / "workspace" / "skills"), True),
        "/data": (str(place / "data"), True),
    }
    for mount in mounts.values():
        assert mount["options"]["nosuid"]
        assert mount["options"]["nodev"]
        assert (mount["stat_virtualization"], mount["host_permissions"]) == ("relaxed", "mirror")
        owner = (mount["options"]["override_uid"], mount["options"]["override_gid"])
        assert owner == (1000, 1000)  # as `user` is


def test_network_rules_are_understood_as_they_are_meant(told: dict[str, Any]) -> None:
    network = told["config"]["network"]
    policy = network["policy"]
    assert (policy["default_egress"], policy["default_ingress"]) == ("deny", "deny")
    seen = [
        (
            rule["action"],
            rule["direction"],
            *rule["destination"].items(),
            *rule["protocols"],
            *((ports["start"], ports["end"]) for ports in rule["ports"]),
        )
        for rule in policy["rules"]
    ]
    assert seen == [
        ("allow", "egress", ("group", "host"), "udp", (53, 53)),
        ("allow", "egress", ("group", "host"), "tcp", (53, 53)),
        ("allow", "egress", ("domain", "api.github.com"), "tcp", (443, 443)),
        ("allow", "egress", ("domain", "api.github.com"), "tcp", (80, 80)),
        ("allow", "egress", ("domain_suffix", "example.com"), "tcp", (443, 443)),
        ("allow", "egress", ("domain_suffix", "example.com"), "tcp", (80, 80)),
        ("deny", "egress", ("cidr", "10.0.0.0/8"), "tcp", (5432, 5432)),
        ("allow", "egress", ("cidr", "2001:db8::1/128"), "udp", (53, 53)),
        ("allow", "egress", ("group", "public"), "tcp", (1, 1024)),
        ("allow", "ingress", ("group", "host")),
    ]
    assert network["ports"] == []  # nothing listens on the host


def test_a_secret_goes_to_its_hosts_alone_and_the_guest_gets_the_placeholder(told: dict[str, Any]) -> None:
    (secret,) = told["config"]["network"]["secrets"]["secrets"]
    assert secret["env_var"] == "CONTRACT_SECRET"
    assert secret["placeholder"] == "$MSB_CONTRACT_SECRET"
    assert secret["allowed_hosts"] == [{"exact": "api.github.com"}]
    assert secret["require_tls_identity"] is True
    assert told["config"]["env"] == []


def test_no_command_line_shows_the_secret(told: dict[str, Any]) -> None:
    assert told["secret_in_argv"] == 0


def test_nothing_is_left_of_it_and_the_failure_is_agentds_own_error(
    told: dict[str, Any], place: Path, survivors: Callable[[str], list[str]]
) -> None:
    assert survivors(str(place)) == []
    assert json.loads(told["left"]) == []
    assert told["start"] == "None" or told["start"].startswith("SandboxUnavailableError('the microVM did not")


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    """What msb says of a real disk that was kept, and of a microVM that begins with it, up to its boot."""
    place = Path(tempfile.mkdtemp(prefix="msb-"))
    (place / "home").mkdir(mode=0o700)
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "contract_disks.py"), str(place)],
        env={"PATH": os.environ["PATH"], "HOME": str(place / "home"), "MSB_HOME": str(place / "home")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    shutil.rmtree(place)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_msb_keeps_a_disk_under_a_name_of_its_own_with_the_label_beside_it(kept: dict[str, Any]) -> None:
    assert kept["kept"]["label"] == "x/../../evil"
    assert kept["unlabelled"]["label"] is None
    assert kept["kept"]["image"] == "tiny"
    assert abs(kept["kept"]["timestamp"] - kept["unlabelled"]["timestamp"]) < 60  # seconds
    assert "there are: " in kept["unknown"]
    assert kept["left"] == []


def test_a_restored_microvm_has_the_mounts_and_rules_of_its_own_settings(kept: dict[str, Any]) -> None:
    config = kept["inspect"]
    assert config["snapshot_parent"] == kept["kept"]["id"]
    (mount,) = config["mounts"]  # the skills of the microVM that the disk is from are not asked for
    assert mount["guest"] == "/workspace"
    assert mount["host"].endswith("/two")
    assert (mount["options"]["nosuid"], mount["options"]["nodev"]) == (True, True)
    assert config["resources"]["memory_mib"] == 300
    assert (config["runtime"]["user"], config["security_profile"]) == ("1000", "restricted")
    assert config["lifecycle"]["idle_timeout_secs"] == 60
    policy = config["network"]["policy"]
    assert (policy["default_egress"], policy["default_ingress"]) == ("deny", "deny")
    assert {"domain": "api.github.com"} in [rule["destination"] for rule in policy["rules"]]
    assert config["network"]["secrets"]["secrets"] == []


def test_the_sdk_has_what_the_executor_uses() -> None:
    """A newer SDK without one of these breaks the executor only where a microVM runs, so it is held here."""
    for name in ("create", "restore", "get", "list_with", "exec", "exec_stream", "touch"):
        assert callable(getattr(microsandbox.Sandbox, name))
    for name in ("connect", "resume", "destroy", "remove", "config", "status"):
        assert hasattr(microsandbox.SandboxHandle, name)
    for name in ("take_stdin", "recv", "kill"):
        assert callable(getattr(microsandbox.ExecHandle, name))
    for name in ("write", "close"):
        assert callable(getattr(microsandbox.ExecSink, name))
    for name in ("create", "list", "remove"):
        assert callable(getattr(microsandbox.Snapshot, name))
    kinds = {"started", "stdout", "stderr", "exited", "failed", "stdin_error"}
    assert {str(kind) for kind in ExecEventType} == kinds
    assert {"running", "starting", "paused"} <= {str(status) for status in SandboxStatus}
