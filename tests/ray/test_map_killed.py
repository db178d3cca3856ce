"""A map whose driver is killed is begun again, and every task is answered once."""

from __future__ import annotations

import collections
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from killed_map import read_results
from places import SUPPORT

DRIVER = SUPPORT / "batch_driver.py"


def begin(folder: Path, tasks: int, **settings: int) -> subprocess.Popen[str]:
    words = [f"{name}={value}" for name, value in settings.items()]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")]),
        "XDG_STATE_HOME": str(folder / "state"),
        "TMPDIR": str(folder / "tmp"),
    }
    (folder / "tmp").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(DRIVER), f"file://{folder}/store", str(folder), str(tasks), *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )


@pytest.mark.parametrize(
    ("tasks", "kills"), [(24, [8]), pytest.param(300, [40, 90, 200], marks=pytest.mark.slow)]
)
@pytest.mark.timeout(500)
def test_after_kills_of_the_driver_every_task_is_answered_once(
    tasks: int, kills: list[int], tmp_path: Path
) -> None:
    told: dict[str, str] = {}
    for results in kills:
        for result in read_results(begin(tmp_path, tasks), results):
            assert result["is_from_journal"] or result["id"] not in told, (
                "a result that was told was found again"
            )
            told[result["id"]] = result["text"]
    begun = time.monotonic()
    final = read_results(begin(tmp_path, tasks))
    print(f"the last run took {time.monotonic() - begun:.1f} s")
    assert len(final) == len({result["id"] for result in final}) == tasks
    assert sorted(result["text"] for result in final) == sorted(f"done: task-{n}" for n in range(tasks))
    assert {result["status"] for result in final} == {"answered"}
    assert told.items() <= {r["id"]: r["text"] for r in final}.items()
    kept = [result["id"] for result in final if result["is_from_journal"]]
    assert set(told) <= set(kept), "what had been told before was in the journal"
    effects = collections.Counter((tmp_path / "effects").read_text().split())
    assert set(effects) == {f"task-{n}" for n in range(tasks)}
    again = {task: count for task, count in effects.items() if count > 1}
    print(f"{tasks} tasks, {len(kills)} kills: blocks that ran again: {len(again)}")
    assert len(again) <= 8 * len(kills), "only turns that a kill interrupted run again"
