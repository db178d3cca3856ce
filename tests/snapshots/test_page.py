"""The example of the snapshots page does what the page shows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_example_prints_what_the_page_shows(repository: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(repository / "docs" / "examples" / "snapshots.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    page = (repository / "docs" / "snapshots.md").read_text()
    shown = re.search(r"``` \{ \.text \.no-copy \}\n(.*?)```", page, re.DOTALL)
    assert shown is not None
    assert done.stdout == shown[1]


def test_the_page_names_every_method_and_every_reason(repository: Path) -> None:
    from agentd_snapshots import LeftOut, Snapshots

    page = (repository / "docs" / "snapshots.md").read_text()
    methods = [
        name for name in vars(Snapshots) if not name.startswith("_") and callable(getattr(Snapshots, name))
    ]
    assert [name for name in methods if name != "find" and f"`{name}" not in page] == []
    reasons = re.findall(r"`([a-z -]+)`", (LeftOut.__doc__ or "").partition("`reason`")[2])
    assert len(reasons) == 8
    assert [reason for reason in reasons if f"`{reason}`" not in page] == []
