"""The environment of `make evidence`: the data sets, the tokenizer and this repository's distributions, editable.

The data sets' distributions want hundreds of packages of which the replay needs few, and versions of numpy that do
not go together. So `requirements.txt` has every distribution that is needed, with its version, and pip resolves
nothing.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "OURS", "REQUIREMENTS", "ROOT", "python"]

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = ROOT / ".cache" / "envs" / "evidence"
REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
OURS: Final = (
    "core",
    *(f"plugins/{name}" for name in ("executor-subprocess", "history", "model-openai", "parser-fence")),
    *(f"plugins/{name}" for name in ("policy", "runner", "skills", "tools")),
)


def python() -> Path:
    """Return the environment's interpreter; the environment is made on first use, and when its requirements change.

    :raises subprocess.CalledProcessError: if pip failed; it has printed why.
    """
    interpreter, stamp = FOLDER / "bin" / "python", FOLDER / ".ready"
    made_of = hashlib.sha256(sys.version.encode() + REQUIREMENTS.read_bytes() + repr(OURS).encode())
    for folder in OURS:
        made_of.update((ROOT / folder / "pyproject.toml").read_bytes())
    if stamp.is_file() and stamp.read_text() == made_of.hexdigest():
        return interpreter
    print(f"making {FOLDER.relative_to(ROOT)} (once; it takes some minutes) ...", file=sys.stderr, flush=True)
    venv.create(FOLDER, clear=True, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(interpreter)]
    install = [*pip, "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--requirement", str(REQUIREMENTS)], check=True, stdout=sys.stderr)
    editable = [part for folder in OURS for part in ("--editable", str(ROOT / folder))]
    subprocess.run([*install, "--no-build-isolation", *editable], check=True, stdout=sys.stderr)
    stamp.write_text(made_of.hexdigest())
    return interpreter
