"""The sides' environments: made when they are wanted, one by one, with pinned versions, below `.cache/envs`."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path

from rivals.side import Side

__all__ = ["FOLDER", "ROOT", "is_ready", "python_of", "remove", "versions_of"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".cache" / "envs"
FREE_BYTES = 3_000_000_000  # the largest environment takes some 250 MB, pip's downloads as much again


def versions_of(environment: str) -> Path:
    """The file with the versions of an environment: all that pip would choose, so that it has nothing to choose."""
    return HERE / "versions" / f"{environment}.txt"


def is_ready(side: Side) -> bool:
    """Tell whether a side needs nothing to be installed."""
    return not side.environment or (_stamp(side).is_file() and _stamp(side).read_text() == _made_of(side))


def _stamp(side: Side) -> Path:
    return FOLDER / f"rival-{side.environment}" / ".ready"


def _made_of(side: Side) -> str:
    versions = versions_of(side.environment).read_bytes()
    return hashlib.sha256(f"{sys.version} {side.requirements}".encode() + versions).hexdigest()


def python_of(side: Side, say: Callable[[str], None]) -> Path:
    """Return the interpreter of a side's environment, and make it first if it is not there as it should be.

    What was made is kept: a run that was broken off goes on with the next environment.

    :raises RuntimeError: if the disk is nearly full, or pip failed; with pip's last line.
    """
    if not side.environment:
        return Path(sys.executable)
    place = FOLDER / f"rival-{side.environment}"
    python, versions = place / "bin" / "python", versions_of(side.environment)
    if is_ready(side):
        return python
    FOLDER.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(FOLDER).free
    if free < FREE_BYTES:
        raise RuntimeError(f"{free / 1e9:.1f} GB are free at {FOLDER}, {FREE_BYTES / 1e9:.0f} GB are wanted")
    count = sum("==" in line for line in versions.read_text().splitlines())
    say(f"installing {', '.join(side.requirements)} (of {count} packages) into {place.relative_to(ROOT)} ...")
    begin = time.monotonic()
    venv.create(place, clear=True, symlinks=True, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    install = [*pip, "install", "--quiet", "--constraint", str(versions), *side.requirements]
    done = subprocess.run(install, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        errors = [
            line for line in done.stderr.splitlines() if line.startswith("ERROR")
        ] or done.stderr.splitlines()
        raise RuntimeError(f"pip could not install it: {(errors or ['it said nothing'])[-1]}")
    _stamp(side).write_text(_made_of(side))
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file() and not path.is_symlink())
    say(f"  {time.monotonic() - begin:.0f} s, {size / 1e6:.0f} MB")
    return python


def remove(some: Sequence[Side]) -> list[Path]:
    """Remove the environments of these sides, and return where they were."""
    places = [FOLDER / f"rival-{name}" for name in dict.fromkeys(side.environment for side in some) if name]
    found = [place for place in places if place.is_dir()]
    for place in found:
        shutil.rmtree(place)
    return found
