"""What has heavy requirements passes its tests where they are: each adapter to a framework in the versions of its
constraints.txt, the store with Google's client."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = sorted(path.parent.name for path in ROOT.glob("plugins/*/constraints.txt"))

pytestmark = [pytest.mark.packaging, pytest.mark.network, pytest.mark.timeout(900)]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_passes_the_frameworks_own_suite_and_its_own_tests(adapter: str) -> None:
    assert " passed" in _test_alone(adapter)


def test_the_store_passes_its_tests_on_google_cloud_storage() -> None:
    told = _test_alone("store", "-k", "gs and not s3")
    assert " passed" in told
    assert "gcsfs is in an environment of its own" not in told


def _test_alone(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/test-alone", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=880,
        check=False,
    )
    print(done.stdout[-20_000:])
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    return done.stdout


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_its_versions_are_names_and_versions_alone(adapter: str) -> None:
    for line in (ROOT / "plugins" / adapter / "constraints.txt").read_text().splitlines():
        assert line.startswith("#") or (line.count("==") == 1 and "/" not in line and "@" not in line), line
