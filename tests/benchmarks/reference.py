"""The environment of agentd 0.8.6, the version that the benchmarks compare with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["REQUIREMENTS", "ROOT", "reference_python"]

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = ("agentd==0.8.6", "mcp<2", "openai-agents<0.20")  # the newest of each that 0.8.6 runs with
FOLDER = ROOT / ".cache" / "bench-0.8.6"


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
