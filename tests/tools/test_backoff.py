"""The back-off: how long to wait."""

from __future__ import annotations

from agentd_tools.backoff import Backoff
from hypothesis import given, strategies as st


def test_each_wait_is_twice_as_long_up_to_the_longest() -> None:
    backoff = Backoff(first_s=1.0, longest_s=5.0, spread=0.0)
    assert [backoff.next_s() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    backoff.reset()
    assert backoff.next_s() == 1.0


@given(st.floats(0.0, 1.0), st.integers(0, 3000))
def test_chance_makes_waits_shorter_only_and_no_count_is_too_large(spread: float, tries: int) -> None:
    backoff = Backoff(first_s=1.0, longest_s=8.0, spread=spread)
    backoff.tries = tries
    full = min(2.0**tries, 8.0) if tries < 10 else 8.0
    assert full * (1.0 - spread) <= backoff.next_s() <= full


def test_free_tries_come_at_once_and_what_lived_long_begins_anew() -> None:
    backoff = Backoff(first_s=100.0, longest_s=900.0, free=1, well_s=30.0)
    backoff.failed()
    assert backoff.remaining_s() == 0.0
    backoff.failed(lived_s=1.0)
    assert 79.0 < backoff.remaining_s() <= 100.0
    backoff.failed(lived_s=31.0)
    assert backoff.remaining_s() == 0.0
