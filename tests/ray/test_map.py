"""`map`: order, retries, budgets, identity, and what is refused, with real sessions in this process."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from agentd import Session
from agentd.errors import ConfigError
from agentd_ray import LocalFleet, MapBudget, MapResult, map_tasks as reading
from agentd_ray.map_journal import MapInUseError, MapJournal, MapTakenOverError
from agentd_ray.map_records import JournalEntry
from agentd_ray.map_tasks import map_tasks
from batch_model import BatchModel

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.delenv("AGENTD_STORE_KEY", raising=False)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/store"


def local(model: Any = BatchModel, **more: Any) -> LocalFleet:
    return LocalFleet(**{"model": model, "executor": "subprocess", "tools": [], "lease_s": 1.0, **more})


async def all_of(results: Any) -> list[MapResult]:
    return [result async for result in results]


async def test_every_task_is_answered_once() -> None:
    async with local() as fleet:
        found = await all_of(fleet.map([f"task {n}" for n in range(20)], concurrency=4))
    assert sorted(result.index for result in found) == list(range(20))
    assert all(result.status == "answered" and result.text == f"done: {result.task}" for result in found)
    assert {result.attempts for result in found} == {1}


@pytest.mark.parametrize("ordered", [True, False])
async def test_in_order_if_asked_for_it(ordered: bool, tmp_path: Path) -> None:
    class Slow(BatchModel):
        """The first task ends behind the third."""

        def add_task(self, text: str) -> None:
            super().add_task(text)
            first, third = "while ! [ -e ../third ]; do sleep 0.01; done", "touch ../third"
            self.command = {"0": first, "2": third}.get(text, "")

    async with local(Slow, folder=tmp_path) as fleet:
        found = await all_of(fleet.map(list("0123456"), concurrency=3, ordered=ordered))
    indexes = [result.index for result in found]
    assert sorted(indexes) == list(range(7))
    assert (indexes == list(range(7))) is ordered


async def test_a_task_that_fails_is_tried_again_and_then_told() -> None:
    models = iter([BatchModel(failures=1), BatchModel(), BatchModel(failures=9), BatchModel(failures=9)])
    async with local(lambda: next(models)) as fleet:
        run = fleet.map(["one", "two"], concurrency=1, retries=1, retry_pause_s=0)
        one, two = await all_of(run)
    assert (one.status, one.attempts, one.text) == ("answered", 2, "done: one")
    assert (two.status, two.attempts) == ("failed", 2)
    assert "the provider is not there" in two.error
    assert two.exception is not None
    assert (run.counts.answered, run.counts.failed, run.counts.retries, run.counts.running) == (1, 1, 2, 0)


async def test_what_cannot_be_meant_is_not_tried_again() -> None:
    async with local(executor="sub") as fleet:
        (result,) = await all_of(fleet.map(["one"]))
    assert (result.status, result.attempts) == ("failed", 1)
    assert "unknown executor 'sub'" in result.error


async def test_when_a_budget_is_spent_the_rest_is_told_and_not_done() -> None:
    async with local(lambda: BatchModel(price=0.25)) as fleet:
        run = fleet.map(list("abcdef"), concurrency=1, budget=MapBudget(max_cost_usd=0.6), ordered=True)
        found = await all_of(run)
        assert [result.status for result in found] == ["answered"] * 3 + ["not_done"] * 3
        assert found[3].error == "it was not handed out: its budget of $0.6 is spent ($0.7500)"
        assert run.counts.usage.cost_usd == 0.75
        found = await all_of(fleet.map(list("abc"), concurrency=1, budget=MapBudget(max_tokens=110)))
        assert [result.status for result in found] == ["answered", "not_done", "not_done"]
    async with local() as fleet:
        found = await all_of(fleet.map(list("abc"), concurrency=1, budget=MapBudget(max_cost_usd=9)))
    assert "no price of the model is known" in found[1].error


async def test_after_too_many_failures_nothing_more_is_handed_out() -> None:
    async with local(lambda: BatchModel(failures=9)) as fleet:
        found = await all_of(
            fleet.map(list("abcd"), concurrency=1, retries=0, budget=MapBudget(max_failures=1))
        )
    assert [result.status for result in found] == ["failed", "failed", "not_done", "not_done"]


async def test_files_and_tools_of_a_task_are_its_own(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n")
    tasks = [
        {"id": "one", "task": "first", "files": [tmp_path / "data.csv"]},
        {"id": "two", "task": "second", "files": {"deep/data.csv": "c,d\n"}},
    ]
    shown = "cat data.csv deep/data.csv 2>/dev/null > ../{task}; true"
    async with local(lambda: BatchModel(shown), folder=tmp_path / "work") as fleet:
        found = await all_of(fleet.map(tasks, ordered=True))
    assert [result.id for result in found] == ["one", "two"]
    assert (tmp_path / "work" / "first").read_text() == "a,b\n"
    assert (tmp_path / "work" / "second").read_text() == "c,d\n"


async def test_an_answer_has_a_type_also_from_the_journal(url: str) -> None:
    class Counts(BatchModel):
        def add_task(self, text: str) -> None:
            super().add_task("9")

        async def _events(self) -> Any:
            async for event in super()._events():
                if getattr(event, "text", "").startswith("done: "):
                    event = type(event)(event.text.removeprefix("done: "))
                yield event

    for is_from_journal in (False, True):
        async with local(Counts, store=url) as fleet:
            (result,) = await all_of(fleet.map(["count"], name="counts", output=int))
        assert (result.value, result.is_from_journal) == (9, is_from_journal)


async def test_a_second_run_of_a_name_asks_nobody_who_has_answered(url: str) -> None:
    asked: list[str] = []

    class Asked(BatchModel):
        def add_task(self, text: str) -> None:
            asked.append(text)
            super().add_task(text)

    async with local(Asked, store=url) as fleet:
        first = await all_of(
            fleet.map(list("abc"), name="m", budget=MapBudget(max_tokens=200), concurrency=1)
        )
        assert [result.status for result in first] == ["answered", "answered", "not_done"]
        again = await all_of(fleet.map(list("abc"), name="m", ordered=True))
    assert asked == ["a", "b", "c"]
    assert [result.text for result in again] == ["done: a", "done: b", "done: c"]
    assert [result.is_from_journal for result in again] == [True, True, False]
    assert again[0].usage.total_tokens == 110


async def test_what_failed_is_tried_again_in_the_next_run(url: str) -> None:
    async with local(lambda: BatchModel(failures=9), store=url) as fleet:
        (result,) = await all_of(fleet.map(["a"], name="m", retries=0))
        assert result.status == "failed"
    async with local(store=url) as fleet:
        (result,) = await all_of(fleet.map(["a"], name="m", retries=0))
    assert (result.status, result.text) == ("answered", "done: a")


async def test_a_conversation_that_had_its_answer_is_not_asked_for_it_again(url: str) -> None:
    """The driver may die between the last checkpoint and the entry of its journal."""
    (task,) = map_tasks(["a"])
    async with local(store=url) as fleet:
        session = await fleet.session(conversation_id=task.conversation("m"))
        await session.ask("a")
        await session.aclose()
    async with local(lambda: BatchModel(failures=9), store=url) as fleet:
        (result,) = await all_of(fleet.map(["a"], name="m", retries=0))
    assert (result.status, result.text, result.usage.total_tokens) == ("answered", "done: a", 110)


async def test_another_list_of_tasks_is_told_and_not_mixed_up(url: str) -> None:
    async with local(store=url) as fleet:
        await all_of(fleet.map(list("abc"), name="m"))
        with pytest.raises(ConfigError, match=r"begun with 3 tasks, .* 1 are new .*; 1 are gone"):
            await all_of(fleet.map(list("xab"), name="m"))
        found = await all_of(fleet.map(list("xab"), name="m", changed="allow", ordered=True))
        assert [result.text for result in found] == ["done: x", "done: a", "done: b"]
        assert [result.is_from_journal for result in found] == [False, True, True]
        await all_of(fleet.map([{"id": "i", "task": "a"}], name="other"))
        with pytest.raises(ConfigError, match="1 say something else"):
            await all_of(fleet.map([{"id": "i", "task": "b"}], name="other"))
        (result,) = await all_of(fleet.map([{"id": "i", "task": "b"}], name="other", changed="allow"))
    assert result.text == "done: b"


async def test_equal_tasks_are_two_tasks(url: str) -> None:
    async with local(store=url) as fleet:
        found = await all_of(fleet.map(["a", "a"], name="m"))
    assert len({result.id for result in found}) == 2
    assert len({result.conversation for result in found}) == 2


async def test_a_map_that_runs_elsewhere_is_refused(url: str) -> None:
    async with local(store=url) as fleet:
        run = fleet.map(list("abc"), name="m")
        async with run:
            await anext(run)
            with pytest.raises(MapInUseError, match="runs in another process"):
                await all_of(fleet.map(list("abc"), name="m"))
        assert len(await all_of(fleet.map(list("abc"), name="m"))) == 3


async def test_a_map_that_was_taken_over_ends(url: str) -> None:
    other = MapJournal(url, "m")

    class Thief(BatchModel):
        def add_task(self, text: str) -> None:
            super().add_task(text)
            other.read()
            assert other._create(JournalEntry("opened", "somebody"))

    async with local(Thief, store=url) as fleet:
        with pytest.raises(MapTakenOverError, match="'m' was taken over"):
            await all_of(fleet.map(["a"], name="m"))


async def test_leaving_early_ends_what_runs(tmp_path: Path) -> None:
    command = f"[ {{task}} = a ] || {{{{ touch {tmp_path}/begun; sleep 60; }}}}"
    async with local(lambda: BatchModel(command)) as fleet:
        async with fleet.map(["b", "a"], concurrency=2) as run:
            async for result in run:
                assert result.text == "done: a"
                break
        assert run.counts.running == 0
        assert not fleet._open


def test_a_dropped_map_needs_no_loop() -> None:
    local().map(["a"])


@pytest.mark.parametrize(
    ("tasks", "settings", "said"),
    [
        ("one", {}, "must be a list of tasks, got one str"),
        (["a", 7], {}, "task 1: must be text, a list of parts, or have a 'task'"),
        ([{"task": "a", "tool": []}], {}, "unknown keys tool; there are id, task, tools, files, options"),
        ([{"id": "i", "task": "a"}, {"id": "i", "task": "b"}], {}, "tasks 0 and 1 have the same id 'i'"),
        ([{"task": "a", "files": {"../x": "y"}}], {}, "must be a relative path without '..'"),
        ([{"task": "a", "files": ["/nowhere/at/all"]}], {}, "cannot be read: No such file"),
        ([{"task": "a"}], {"key": "name"}, "has no 'name', which key= names"),
        (["a"], {"concurrency": 0}, "concurrency must be a whole number of at least 1"),
        (["a"], {"retries": -1}, "retries must be a whole number of at least 0"),
        (["a"], {"budget": 7}, "budget must be a MapBudget, got int"),
        (["a"], {"name": "m"}, "keeps a journal in the fleet's store, and it has none"),
        (["a"], {"changed": "perhaps"}, "changed must be 'refuse' or 'allow'"),
    ],
)
def test_what_cannot_be_meant_is_refused(tasks: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        local().map(tasks, **settings)


def test_a_name_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="name must have 1 to 64 letters"):
        local(store=url).map(["a"], name="../m")


def test_the_fleet_says_where_a_session_works() -> None:
    with pytest.raises(ConfigError, match="cwd is the fleet's to say"):
        local(cwd="/tmp")


def test_a_task_stays_the_same_when_others_come_before_it() -> None:
    now, then = map_tasks(["a", "b", "b"]), map_tasks(["x", "a", "b", "b"])
    assert [task.id for task in now] == [task.id for task in then[1:]]
    assert all(task.conversation("m")[:2] == "m." for task in now)


def tasks_of_objects() -> Iterator[Any]:
    for number in range(2):
        yield type("Row", (), {"task": f"row {number}", "number": number})()


def test_a_key_names_what_a_task_is_known_by() -> None:
    assert [task.id for task in map_tasks(tasks_of_objects(), key="number")] == ["0", "1"]
    assert [task.id for task in map_tasks([{"task": "a", "row": 7}], key=lambda task: task["row"])] == ["7"]
    assert [task.id for task in map_tasks([{"task": "a", "row": 7}], key="row")] == ["7"]


async def test_a_session_of_a_local_fleet_is_a_session(url: str) -> None:
    async with local(store=url) as fleet:
        session = await fleet.session(conversation_id="c1")
        assert isinstance(session, Session)
        assert (await session.ask("hello")).text == "done: hello"


async def test_tasks_that_never_end_or_come_asynchronously_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def later() -> AsyncIterator[str]:
        yield "a"

    monkeypatch.setattr(reading, "MOST_TASKS", 5)
    with pytest.raises(ConfigError, match=r"more than 5; .*an iterator must end"):
        map_tasks(str(number) for number in itertools.count())
    with pytest.raises(ConfigError, match=r"got async_generator; .*async for"):
        map_tasks(later())
    assert len(map_tasks("abcde"[n] for n in range(5))) == 5


async def test_an_option_that_there_is_not_is_not_tried_again() -> None:
    async with local() as fleet:
        (result,) = await all_of(fleet.map([{"task": "a", "options": {"modle": "x"}}], progress=False))
        assert (result.status, result.attempts) == ("failed", 1)
        assert "modle" in (result.error or "")
