"""An agent that wakes itself is set aside, and one that others wake goes on; by a clock that the tests set."""

from __future__ import annotations

import logging

import attrs
import pytest
from agentd_daemon.own_wakes import FIRST_S, LONGEST_S, SOON_S, OwnWakes, Waker

PAGE = Waker(uri="page", called="the page", most=3)
OTHER = Waker(uri="other", called="the other", most=3)


@attrs.define
class Play:
    """An agent that works for two seconds on each task, and what its guard says."""

    at: float = 0.0
    number: int = 0
    guard: OwnWakes = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.guard = OwnWakes("a", now=lambda: self.at)

    def change(self, waker: Waker = PAGE, *, may_be_own: bool = True, age_s: float = 0.0) -> str:
        """Have something wake the agent, and return the task."""
        self.number += 1
        task = str(self.number)
        self.guard.accepted(task, waker, may_be_own=may_be_own, age_s=age_s)
        return task

    def work(self, task: str, *, changes: Waker | None = None, acts: bool = True) -> str:
        """Work on a task, which perhaps changes something, and return the task that this leads to."""
        self.guard.begin(task)
        self.at += 2
        caused = self.change(changes) if changes is not None else ""
        if acts:  # a call is told of when it has ended
            self.guard.act()
        self.guard.end()
        return caused

    def wake_itself(self, waker: Waker = PAGE) -> tuple[int, str]:
        """Go on until the next task is held; return how many tasks were worked on, and the one that waits."""
        task, done = self.change(waker), 0
        while not self.guard.held:
            task = self.work(task, changes=waker)
            done += 1
            assert done < 100
        return done, task


def test_an_agent_that_wakes_itself_is_stopped_after_so_many_times_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    play = Play()
    done, _ = play.wake_itself()
    assert done == 1 + 3, "somebody else's change, and three of its own"
    assert play.guard.held == {"page"}
    assert "a: the page is set aside for 30 s: 3 times in a row, the agent was woken" in caplog.text
    assert "/resume a" in play.guard.notice


def test_each_pause_is_twice_as_long_as_the_one_before_and_bounded() -> None:
    play = Play()
    _, task = play.wake_itself()
    pauses = []
    for _ in range(9):
        pauses.append(play.guard.wait_s)
        play.at += play.guard.wait_s
        assert play.guard.held == frozenset()
        task = play.work(task, changes=PAGE)
        assert play.guard.held == {"page"}
    assert pauses == [30, 60, 120, 240, 480, 960, 1920, LONGEST_S, LONGEST_S]


@pytest.mark.parametrize("waker", [PAGE, OTHER])
def test_two_resources_that_take_turns_count_together(waker: Waker) -> None:
    play = Play()
    task, done = play.change(waker), 0
    while not play.guard.held:
        waker = OTHER if waker is PAGE else PAGE
        task = play.work(task, changes=waker)
        done += 1
    assert done == 4
    assert len(play.guard.held) == 1
    assert play.work(play.change(may_be_own=False), changes=None) == "", "and other tasks go on"


@pytest.mark.parametrize("waker", [PAGE, OTHER])
def test_a_chain_with_changes_by_others_in_between_goes_on_for_ever(waker: Waker) -> None:
    play = Play()
    for _ in range(50):
        task = play.change(waker)  # by somebody else, in a quiet moment
        for _ in range(3):
            task = play.work(task, changes=PAGE)
        play.work(task)
        assert play.guard.held == frozenset()
        play.at += SOON_S + 1


def test_a_change_in_a_quiet_moment_lets_all_of_its_trigger_go_on_and_counts_anew() -> None:
    play = Play()
    _, waiting = play.wake_itself()
    play.at += SOON_S - 1
    play.change()
    assert play.guard.held == {"page"}, "so soon, it may still be its own"
    play.at += 2
    play.change(OTHER)
    assert play.guard.held == {"page"}, "something else says nothing of this one"
    play.change()
    assert play.guard.held == frozenset()
    assert play.guard.notice == ""
    for _ in range(3):
        waiting = play.work(waiting, changes=PAGE)
    assert play.guard.held == frozenset()


def test_what_went_into_a_task_that_somebody_else_has_caused_leaves_it_so() -> None:
    play = Play()
    task = play.change()
    running = play.change(OTHER)
    play.guard.begin(running)
    play.guard.act()
    for _ in range(10):
        play.guard.accepted(task, PAGE)
    play.guard.end()
    done = 0
    while not play.guard.held:
        task, done = play.work(task, changes=PAGE), done + 1
    assert done == 4


def test_what_is_looked_at_rarely_is_its_own_though_it_is_seen_late_and_is_not_if_it_goes_on_without_it() -> (
    None
):
    """As with a page that is polled each minute."""
    play = Play()
    task, done = play.change(), 0
    while not play.guard.held:
        play.work(task)  # and changes something, which is seen when the server is asked next
        play.at += 58
        task = play.change(age_s=60)
        done += 1
    assert done == 4
    assert play.guard.wait_s >= 120, "so a look in which nothing is its own comes within the pause"
    play.at += 60
    play.change(age_s=60)
    assert play.guard.held == frozenset(), "it was not at work meanwhile, so somebody else changes the page"


def test_an_agent_that_only_reads_and_answers_is_never_taken_for_the_cause() -> None:
    """However quickly others change what it watches, and whatever it has done in tasks before."""
    play = Play()
    task = play.change()
    for _ in range(3):
        task = play.work(task, changes=PAGE)
    for _ in range(50):
        task = play.work(task, changes=PAGE, acts=False)
        task = play.change()
        play.at += SOON_S / 10
    assert play.guard.held == frozenset()


def test_times_and_what_a_person_asks_for_never_count_and_what_follows_from_them_does() -> None:
    play = Play()
    for _ in range(50):
        play.work(play.change(may_be_own=False))
        play.work("typed by a person")
    task = play.work("typed by a person", changes=PAGE)
    for _ in range(2):
        task = play.work(task, changes=PAGE)
    assert play.guard.held == frozenset()
    play.work(task, changes=PAGE)
    assert play.guard.held == {"page"}


def test_a_person_lets_it_go_on_and_the_bound_can_be_lifted() -> None:
    play = Play()
    assert not play.guard.release()
    _, task = play.wake_itself()
    assert play.guard.release()
    assert play.guard.held == frozenset()
    for _ in range(3):
        task = play.work(task, changes=PAGE)
    assert play.guard.held == frozenset(), "it counts anew"
    play.work(task, changes=PAGE)
    assert play.guard.held == {"page"}

    play, free = Play(), attrs.evolve(PAGE, most=None)
    task = play.change(free)
    for _ in range(1000):
        task = play.work(task, changes=free)
    assert play.guard.held == frozenset()


def test_a_task_that_is_tried_again_is_as_deep_as_before() -> None:
    play = Play()
    task = play.change()
    for _ in range(3):
        play.work(task)
        task = play.work(task, changes=PAGE)
    assert play.guard.held == frozenset()
    play.work(task, changes=PAGE)
    assert play.guard.held == {"page"}


def test_many_tasks_of_a_long_life_are_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    play = Play()
    for number in range(20_000):
        play.guard.accepted(str(number), PAGE)
    assert len(play.guard._depths) == 10_000
    assert FIRST_S > SOON_S
