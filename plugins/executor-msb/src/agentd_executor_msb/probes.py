"""What a microVM needs from the host, looked at before one is booted: each thing that is missing, in a sentence.

On a host without virtualisation, a boot fails only after many seconds and without saying why.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

from agentd.errors import AgentdError, ConfigError, SandboxUnavailableError
from agentd.protocols import Requirement

from agentd_executor_msb.settings import MsbSettings, local_image

__all__ = [
    "explain",
    "firmware_problem",
    "image_problem",
    "list_requirements",
    "problems",
    "unpulled_problem",
    "virtualisation_problem",
]


def problems(settings: MsbSettings) -> list[str]:
    """Return one sentence for each thing that is missing here, with the next step; empty if nothing is."""
    found = (virtualisation_problem(), firmware_problem(), image_problem(settings.image))
    return [sentence for sentence in found if sentence]


def list_requirements() -> list[Requirement]:
    """Return what every microVM needs of this host, with whether it is there; an image is each session's own."""
    virtualisation, firmware = virtualisation_problem(), firmware_problem()
    return [
        Requirement(name="hardware virtualisation", ok=not virtualisation, remedy=virtualisation),
        Requirement(name="msb and its firmware", ok=not firmware, remedy=firmware),
    ]


def virtualisation_problem(
    kvm: str = "/dev/kvm", cpuinfo: str = "/proc/cpuinfo", machine: str = platform.machine()
) -> str:
    """Say why this host cannot run virtual machines, or nothing."""
    if sys.platform == "darwin":
        if machine == "arm64":
            return ""
        return "no hardware virtualisation that microsandbox can use: on macOS it needs Apple silicon."
    if machine in ("x86_64", "i686", "AMD64") and not _has_flag(cpuinfo):
        return (
            "no hardware virtualisation: the processor shows neither vmx nor svm; switch on VT-x or AMD-V in the "
            "firmware's setup, or, inside a virtual machine, nested virtualisation on its host."
        )
    if not os.path.exists(kvm):
        return (
            f"KVM is missing: there is no {kvm}; load the kernel module (sudo modprobe kvm_intel or kvm_amd), or "
            "pass the device into the container (--device /dev/kvm)."
        )
    return _kvm_problem(kvm)


def _kvm_problem(kvm: str) -> str:
    try:
        descriptor = os.open(kvm, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError:
        return (
            f"KVM is closed to this user: {kvm} cannot be opened; join its group (sudo usermod -aG kvm $USER), "
            "then log in again."
        )
    except OSError as error:
        return (
            f"KVM does not work: {kvm} cannot be opened ({error.strerror}); load the kernel module kvm_intel or "
            "kvm_amd."
        )
    os.close(descriptor)
    return ""


def _has_flag(cpuinfo: str) -> bool:
    try:
        lines = Path(cpuinfo).read_text().splitlines()
    except OSError:
        return True  # not to be known: the boot will tell
    flags = {word for line in lines if line.startswith("flags") for word in line.split()}
    return bool(flags & {"vmx", "svm"})


def firmware_problem() -> str:
    """Say that the `msb` binary or its firmware is missing, or nothing."""
    try:
        from microsandbox import resolve_runtime
    except ImportError as error:
        return f"the microsandbox package cannot be imported ({error}); install it with: pip install microsandbox."
    try:
        resolve_runtime()
    except Exception as error:  # the SDK's own, one class for absent and one for incomplete
        return (
            f"microsandbox's firmware is missing: {str(error).rstrip('.')}; unset MSB_PATH and MSB_LIBKRUNFW_PATH, or "
            "install it anew with: pip install --force-reinstall microsandbox."
        )
    return ""


def image_problem(image: str) -> str:
    """Say that a local image is missing, or nothing. A registry's name is known only when it is pulled."""
    if not local_image(image) or os.path.exists(image):
        return ""
    return (
        f"the image is missing: there is no {image}; give the path of a root file system or disk image, or a "
        "registry's name."
    )


async def unpulled_problem(image: str) -> str:
    """Say that a registry's image is not on this machine yet, or nothing. Runs in the SDK's thread."""
    from microsandbox import Image

    if local_image(image):
        return ""
    wanted = _parts(image)
    if any(_same(wanted, _parts(known.reference)) for known in await Image.list()):
        return ""
    return f"the image is missing: {image!r} is not on this machine yet; fetch it with: msb pull {image}."


def _parts(reference: str) -> tuple[str, str]:
    """Return an image's registry (or nothing) and its name with the tag that it has if none is given."""
    first, slash, rest = reference.partition("/")
    host, name = (
        (first, rest) if slash and ("." in first or ":" in first or first == "localhost") else ("", reference)
    )
    name = name.removeprefix("library/")
    return host, name if "@" in name or ":" in name.rpartition("/")[2] else f"{name}:latest"


def _same(one: tuple[str, str], other: tuple[str, str]) -> bool:
    # A name without a registry means msb's default one, whichever that is.
    return one[1] == other[1] and (one[0] == other[0] or not one[0] or not other[0])


def explain(error: Exception, settings: MsbSettings) -> AgentdError:
    """Return agentd's error for what the SDK raised when the microVM was to start."""
    from microsandbox import errors

    text = str(error).rstrip(".")
    if isinstance(error, errors.InvalidConfigError | errors.NetworkPolicyError):
        return ConfigError(f"microsandbox refuses the settings of the executor 'msb': {text}")
    if isinstance(error, errors.ImageNotFoundError | errors.ImagePullFailedError):
        return SandboxUnavailableError(
            f"the image is missing: {settings.image!r} cannot be had ({text}); see `msb pull {settings.image}`, "
            "or give the path of a local root file system."
        )
    if isinstance(error, errors.RuntimeNotInstalledError | errors.RuntimeIncompleteError):
        return SandboxUnavailableError(firmware_problem() or f"microsandbox's firmware is missing: {text}.")
    return SandboxUnavailableError(f"the microVM did not start: {text}; see `msb doctor` and `msb logs`.")
