"""What is missing is told apart, each in one sentence with the next step."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import microsandbox
import pytest
from agentd.errors import ConfigError, SandboxUnavailableError
from agentd_executor_msb import probes
from agentd_executor_msb.executor import MicrosandboxCLIExecutor
from agentd_executor_msb.thread import sdk_thread
from microsandbox import errors

VIRTUAL = "flags\t\t: fpu vmx sse\n"


@pytest.fixture
def cpuinfo(tmp_path: Path) -> Path:
    path = tmp_path / "cpuinfo"
    path.write_text(VIRTUAL)
    return path


def one_sentence(text: str) -> bool:
    return text.endswith(".") and ". " not in text


def test_a_processor_without_virtualisation(tmp_path: Path, cpuinfo: Path) -> None:
    cpuinfo.write_text("flags\t\t: fpu sse\n")
    said = probes.virtualisation_problem(str(tmp_path / "kvm"), str(cpuinfo), "x86_64")
    assert said.startswith("no hardware virtualisation")
    assert "nested virtualisation" in said
    assert one_sentence(said)


def test_no_kvm_on_a_processor_that_could(tmp_path: Path, cpuinfo: Path) -> None:
    for machine in ("x86_64", "aarch64"):
        said = probes.virtualisation_problem(str(tmp_path / "kvm"), str(cpuinfo), machine)
        assert said.startswith("KVM is missing")
        assert "modprobe" in said
        assert one_sentence(said)


def test_kvm_that_this_user_may_not_open(cpuinfo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    said = probes.virtualisation_problem(str(cpuinfo), str(cpuinfo), "x86_64")
    monkeypatch.undo()
    assert said.startswith("KVM is closed to this user")
    assert "usermod" in said
    assert one_sentence(said)


def test_kvm_that_can_be_opened_is_no_problem(cpuinfo: Path) -> None:
    assert probes.virtualisation_problem(str(cpuinfo), str(cpuinfo), "x86_64") == ""


def test_the_real_runtime_of_the_wheel_is_found_and_a_missing_part_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert probes.firmware_problem() == ""
    monkeypatch.setenv("MSB_LIBKRUNFW_PATH", str(tmp_path / "none.so"))
    said = probes.firmware_problem()
    assert said.startswith("microsandbox's firmware is missing")
    assert "--force-reinstall" in said
    assert one_sentence(said)


def test_a_local_image_that_is_not_there(tmp_path: Path) -> None:
    said = probes.image_problem(str(tmp_path / "rootfs"))
    assert said.startswith("the image is missing")
    assert one_sentence(said)
    (tmp_path / "rootfs").mkdir()
    assert probes.image_problem(str(tmp_path / "rootfs")) == ""
    assert probes.image_problem("python") == ""  # a registry's name: the pull will tell


def test_an_image_that_was_never_pulled_is_named_without_a_pull() -> None:
    said = sdk_thread().run(probes.unpulled_problem("agentd-no-such-image"))
    assert said.startswith("the image is missing: 'agentd-no-such-image' is not on this machine yet")
    assert said.endswith("msb pull agentd-no-such-image.")
    assert one_sentence(said)


def test_a_pulled_image_is_known_by_every_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    class Known:
        @staticmethod
        async def list() -> list[SimpleNamespace]:
            return [SimpleNamespace(reference="registry.example/library/python:latest")]

    monkeypatch.setattr(microsandbox, "Image", Known)
    for image, known in (
        ("python", True),
        ("library/python:latest", True),
        ("registry.example/library/python", True),
        ("python:3.12", False),
        ("me/python", False),
        ("localhost:5000/python", False),
    ):
        assert (sdk_thread().run(probes.unpulled_problem(image)) == "") is known, image


def test_verify_and_start_say_what_is_missing_without_a_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "virtualisation_problem", lambda: "KVM is missing: load it.")
    executor = MicrosandboxCLIExecutor(tmp_path / "w", image=tmp_path / "none")
    works, message = executor.verify()
    assert not works
    assert message.startswith("KVM is missing: load it. the image is missing")
    with pytest.raises(SandboxUnavailableError, match="the executor 'msb' cannot run here: KVM is missing"):
        executor.execute_bash("true")
    assert not executor._vm.known
    executor.close()


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        (errors.ImagePullFailedError("no route"), SandboxUnavailableError, "the image is missing: 'python'"),
        (errors.ImageNotFoundError("x"), SandboxUnavailableError, "msb pull python"),
        (errors.RuntimeIncompleteError("half"), SandboxUnavailableError, "firmware is missing: half"),
        (errors.InvalidConfigError("cpus"), ConfigError, "refuses the settings.*cpus"),
        (
            errors.MicrosandboxError("exited"),
            SandboxUnavailableError,
            "did not start: exited; see `msb doctor`",
        ),
    ],
)
def test_what_the_sdk_raises_becomes_one_of_agentds_errors(
    tmp_path: Path, raised: Exception, kind: type[Exception], words: str
) -> None:
    executor = MicrosandboxCLIExecutor(tmp_path / "w")
    found = probes.explain(raised, executor.settings)
    assert isinstance(found, kind)
    with pytest.raises(kind, match=words):
        raise found
