"""What an EXIT frame says to the host, in whatever way it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from agentd_runner.host.border import read_exit
from agentd_runner.host.jobs import MAX_NEWS, JobLedger
from agentd_runner.inside.frames import FrameError
from hypothesis import given, strategies as st

SECONDS = st.floats(0, 1e10) | st.integers(-1, 10**10)
ENDS = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["completed", "failed", "timeout", "gone"]),
        "exit_code": st.integers(-1, 300),
        "wall_s": SECONDS,
        "cpu_s": SECONDS,
        "peak_memory_bytes": st.integers(-1, 1 << 64),
        "message": st.text(),
    }
)


def _read(end: dict[str, Any]) -> dict[str, Any] | None:
    try:
        return read_exit(json.dumps(end).encode())
    except FrameError:
        return None


@given(ENDS)
def test_an_end_is_read_alike_in_the_usual_order_of_its_fields_and_in_another(end: dict[str, Any]) -> None:
    assert _read(end) == _read(dict(reversed(end.items())))


def test_an_end_is_read_as_it_was_sent() -> None:
    end = {
        "status": "failed",
        "exit_code": 255,
        "wall_s": 0.5,
        "cpu_s": 1e-05,
        "peak_memory_bytes": 0,
        "message": "a b",
    }
    assert _read(end) == end
    assert _read({**end, "channels": 3}) == {**end, "channels": 3}


@pytest.mark.parametrize(
    "change", [{"exit_code": 256}, {"wall_s": 1e9}, {"channels": -1}, {"status": "gone"}]
)
def test_an_end_that_no_runner_sends_is_refused(change: dict[str, Any]) -> None:
    end = {"status": "failed", "exit_code": 1, "wall_s": 0, "cpu_s": 0, "peak_memory_bytes": 0, "message": ""}
    assert _read(end) == end
    assert _read(end | change) is None


def told(state: str, name: str = "web", message: str = "") -> dict[str, Any]:
    return {"name": name, "state": state, "exit_code": 3, "wall_s": 1.25, "message": message}


def test_what_is_kept_of_jobs_is_bounded_and_told_once() -> None:
    ledger = JobLedger(2)
    take = ledger.listener()
    for _ in range(MAX_NEWS + 5):
        take(told("started"))
        take(told("ended", message="x" * 10_000))
    news = ledger.news()
    assert news[0] == "5 more jobs have ended"
    assert len(news) == MAX_NEWS + 1
    assert news[1].startswith("the job 'web' has ended after 1.2 s, exit code 3 (xxx")
    assert max(map(len, news)) < 500
    assert ledger.news() == []


def test_jobs_that_a_lost_runner_had_have_ended() -> None:
    ledger = JobLedger(2)
    take = ledger.listener()
    take(told("started"))
    assert ledger.running == ("web",)
    ledger.lose("the runner ended")
    assert (ledger.running, ledger.news()) == ((), ["the job 'web' was ended: the runner ended"])
    ledger.lose("again")
    assert ledger.news() == []
    take(told("ended"))  # what was on its way when it was lost
    assert ledger.news() == []
    with pytest.raises(FrameError, match="does not run"):
        ledger.listener()(told("ended"))
