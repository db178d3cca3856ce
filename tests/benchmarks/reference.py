"""The environment of agentd 0.8.6, the version that the benchmarks compare with, and the srt that it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["REQUIREMENTS", "ROOT", "SRT", "SRT_PACKAGE", "install_reference_srt", "reference_python"]

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ("agentd==0.8.6", "mcp<2", "openai-agents<0.20")  # the newest of each that 0.8.6 runs with
FOLDER = ROOT / ".cache" / "bench-0.8.6"
SRT_PACKAGE = (
    "@anthropic-ai/sandbox-runtime@0.0.42"  # newer ones quote their arguments: 0.8.6's commands are not found
)
SRT_FOLDER = FOLDER / "srt"
SRT = SRT_FOLDER / "node_modules" / ".bin" / "srt"


def reference_python() -> Path:
    """Return the interpreter of an environment with agentd 0.8.6, which is made on first use.

    The environment lies in the checkout's cache folder; a mark in it, written last, says that it is whole.

    :raises subprocess.CalledProcessError: if `venv` or `pip` failed; both have printed why.
    """
    python = FOLDER / "bin" / "python"
    mark = FOLDER / "installed.txt"
    wanted = "\n".join(REQUIREMENTS)
    if mark.is_file() and mark.read_text() == wanted:
        return python
    print(f"installing {' '.join(REQUIREMENTS)} into {FOLDER} (once) ...", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    subprocess.run([*pip, *REQUIREMENTS], check=True, stdout=sys.stderr)
    mark.write_text(wanted)
    return python


def install_reference_srt() -> None:
    """Install the srt that 0.8.6 works with as `SRT`, on first use, beside its environment.

    :raises RuntimeError: without npm, or if it failed.
    """
    mark = SRT_FOLDER / "installed.txt"
    if mark.is_file() and mark.read_text() == SRT_PACKAGE:
        return
    npm = shutil.which("npm")
    if npm is None:
        raise RuntimeError(f"npm is needed to install {SRT_PACKAGE}; Debian 13 or newer: apt-get install npm")
    print(f"installing {SRT_PACKAGE} into {SRT_FOLDER} (once) ...", file=sys.stderr)
    shutil.rmtree(SRT_FOLDER, ignore_errors=True)
    SRT_FOLDER.mkdir(parents=True)
    options = ["--no-save", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
    command = [npm, "install", "--prefix", str(SRT_FOLDER), *options, SRT_PACKAGE]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0 or not SRT.exists():
        last = (done.stderr.strip().splitlines() or ["npm said nothing"])[-1]
        raise RuntimeError(f"npm could not install {SRT_PACKAGE}: {last}")
    mark.write_text(SRT_PACKAGE)
