"""A batch of tasks over many sessions: in order or as they end, with retries, budgets over all, and a journal.

It needs of a fleet only that it opens sessions (`MapSessions`): `Fleet` on a cluster, `LocalFleet` in this process.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from agentd._concurrency.owner import GroupOwner
from agentd._concurrency.waiting import call_quietly, loop_caller
from agentd.errors import ConfigError

from agentd_ray.map_driver import MapDriver, MapSessions, MapSettings
from agentd_ray.map_progress import MapProgress
from agentd_ray.map_results import MapBudget, MapCounts, MapResult
from agentd_ray.map_tasks import MapTask, check_map_name, map_tasks

if TYPE_CHECKING:
    from agentd_ray.map_journal import MapJournal

__all__ = ["TaskMap"]


class TaskMap(AsyncIterator[MapResult]):
    """The results of a map. Iterate it once; leaving the iteration early ends what runs (`async with` waits for that).

        async for result in fleet.map(tasks, name="nightly"):
            print(result.id, result.status, result.text)

    After the last result, what the journal's store raised is raised, if that has ended the map.

    :ivar counts: how far it is.
    :param fleet: opens the sessions.
    :param tasks: texts; dicts with `task` and perhaps `id`, `tools`, `files`, `options`; objects with such attributes.
    :param concurrency: sessions at a time; None for as many as the fleet has places.
    :param ordered: give the results in the order of the tasks, not as they come.
    :param retries: further attempts at a task that fails. With a store, they go on from its last finished turn.
    :param retry_pause_s: seconds before the first of them; twice as long before each further one.
    :param budget: over all tasks; those of each one are `budgets`, as of any session.
    :param key: gives a task's id: the name of a key or an attribute, or a function of the task.
    :param name: keeps a journal under this name in the fleet's store. A second run of that name takes from there what
        is done, and goes on with the conversations of the rest.
    :param changed: `allow`: a second run may have other tasks.
    :param output: a type that each answer is to fit, as `Session.ask` has it; `MapResult.value` is of that.
    :param progress: draw a bar on standard error; None for: if that is a terminal.
    :param lease_s: after how many seconds without a sign of it a driver is taken for dead.
    :param options: further arguments of each session.
    :raises ConfigError: for what cannot be meant.
    """

    def __init__(
        self,
        fleet: MapSessions,
        tasks: Iterable[Any],
        *,
        concurrency: int | None = None,
        ordered: bool = False,
        retries: int = 2,
        retry_pause_s: float = 1.0,
        budget: MapBudget | None = None,
        key: str | Callable[[Any], object] | None = None,
        name: str | None = None,
        changed: Literal["refuse", "allow"] = "refuse",
        output: Any = None,
        progress: bool | None = None,
        lease_s: float = 30.0,
        **options: Any,
    ) -> None:
        _check_number("concurrency", concurrency, 1)
        _check_number("retries", retries, 0)
        if changed not in ("refuse", "allow"):
            raise ConfigError(f"map: changed must be 'refuse' or 'allow', got {changed!r:.80}")
        if budget is not None and not isinstance(budget, MapBudget):
            raise ConfigError(
                f"map: budget must be a MapBudget, got {type(budget).__name__}; what each task may use is budgets="
            )
        if name is not None and fleet.store_url is None:
            raise ConfigError(
                f"map: name={name!r:.80} keeps a journal in the fleet's store, and it has none: give the fleet store=, "
                "such as 's3://bucket/agents' or 'file:///srv/agents'"
            )
        self._tasks = map_tasks(tasks, key=key)
        self.counts = MapCounts(total=len(self._tasks))
        prefix = name if name is None else check_map_name(name)
        settings = MapSettings(
            concurrency=fleet.capacity if concurrency is None else concurrency,
            is_ordered=ordered,
            retries=retries,
            retry_pause_s=retry_pause_s,
            budget=budget or MapBudget(),
            output=output,
            form=None if output is None else _form_of(output),
            prefix=prefix or (f"map-{secrets.token_hex(4)}" if fleet.store_url else ""),
            options=options,
        )
        bar = MapProgress(name or "map", self.counts, shown=progress)
        tasks_now = self._tasks

        def open_journal() -> MapJournal:
            from agentd_ray.map_journal import MapJournal

            assert name is not None
            assert fleet.store_url is not None
            journal = MapJournal(fleet.store_url, name, lease_s=lease_s)
            journal.open(tasks_now, changed=changed)
            return journal

        self._driver = MapDriver(
            fleet, self._tasks, settings, self.counts, bar, None if name is None else open_journal
        )
        self._items: list[MapResult] = []
        self._owner: GroupOwner | None = None
        self._leave: Callable[[], object] | None = None

    @property
    def tasks(self) -> list[MapTask]:
        """The tasks, with their ids."""
        return self._tasks

    def __aiter__(self) -> TaskMap:
        return self

    async def __anext__(self) -> MapResult:
        try:
            if not self._items:
                if self._owner is None:
                    await self._begin()
                self._items = await self._driver.channel.batch()
                self._items.reverse()
        except BaseException:
            await self.aclose()
            raise
        if not self._items:
            await self.aclose()
            raise StopAsyncIteration
        return self._items.pop()

    async def _begin(self) -> None:
        driver = self._driver
        self._owner = owner = GroupOwner(driver.end)
        await owner.open(driver.begin)
        call, leave = loop_caller(), owner._leave.set
        self._leave = lambda: call_quietly(call, leave)
        assert owner.group is not None
        owner.group.start_soon(driver.drive)

    async def aclose(self) -> None:
        """End all that runs, and let the map's name go. May be called again."""
        self._leave = None
        if self._owner is not None:
            await self._owner.aclose()

    async def __aenter__(self) -> TaskMap:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if (leave := getattr(self, "_leave", None)) is not None:
            leave()


def _check_number(name: str, value: object, least: int) -> None:
    if value is None and name == "concurrency":
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"map: {name} must be a whole number of at least {least}, got {value!r:.80}")


def _form_of(output: Any) -> Any:
    from agentd_tools.answer_form import form_of

    return form_of(output)
