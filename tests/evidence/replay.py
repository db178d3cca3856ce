"""One replay: a case, one of the four ways, and how many tools are on offer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from agentd.errors import ToolError
from agentd.session.session import Session
from agentd.types import Budgets, ToolSpec
from agentd_model_openai.routing import open_model

from evidence.cases import Case, World
from evidence.scripted_client import Answer, scripted_client
from evidence.tokens import Meter, Spent
from evidence.ways import WIDER, Known, Way, answers, lookup

__all__ = ["Replayed", "replay"]

NO_LIMITS = Budgets(
    max_turns=None,
    max_tokens=None,
    max_tool_calls=None,
    max_result_chars=10**9,  # nothing is cut in any of the ways
    max_round_chars=10**9,
)


@attrs.frozen(kw_only=True)
class Replayed:
    """What became of a replay. `objection` is the checker's, empty if the end state is as it should be.

    `offered` is how many tools there were, `searches` how many bash blocks looked tools up.
    """

    case: str
    data_set: str
    way: Way
    offered: int
    calls: int
    turns: int
    spent: Spent
    searches: int
    objection: str
    seconds: float


class WorldTools:
    """A world's tools of one source, as a tool source. With `chosen`, those of them alone."""

    def __init__(self, name: str, world: World, chosen: frozenset[str] | None) -> None:
        self.name = name
        self._world, self._chosen = world, chosen
        self._host: Any = None

    async def list_tools(self, host: Any = None) -> list[ToolSpec]:
        self._host = host
        specs = [spec for spec in self._world.specs() if spec.source == self.name]
        return [spec for spec in specs if self._chosen is None or spec.name in self._chosen]

    async def call(self, name: str, arguments: Mapping[str, Any], on_progress: Any = None) -> object:
        return self._world.call(name, dict(arguments))

    def changed(self) -> None:
        self._host.changed()

    async def aclose(self) -> None: ...


class OtherTools:
    """Tools that are on offer and that nobody calls."""

    def __init__(self, name: str, specs: Sequence[ToolSpec]) -> None:
        self.name = name
        self._specs = specs

    async def list_tools(self, host: Any = None) -> Sequence[ToolSpec]:
        return self._specs

    async def call(self, name: str, arguments: Mapping[str, Any], on_progress: Any = None) -> object:
        raise ToolError(f"{name} is there to be offered only")

    async def aclose(self) -> None: ...


class GoldModel:
    """Says what the way has it say, in the current turn."""

    def __init__(self, case: Case, way: Way) -> None:
        self._case, self._way = case, way
        self._known = Known()
        self._left: list[Answer] | None = None
        self.turn = 0
        self.searches = 0

    def begin(self, turn: int) -> None:
        """Go on with this turn's script."""
        self.turn, self._left = turn, None

    def answer(self, body: Mapping[str, Any]) -> Answer:
        """Return the answer to a request."""
        for message in body["messages"]:
            if message["role"] in ("system", "user"):
                self._known.read(message["content"])
        if self._left is None:
            self._left = answers(self._way, self._case.turns[self.turn], self._known)
            self.searches += isinstance(self._left[0], str) and self._left[0].startswith("```bash")
            self._wider = iter(WIDER)
        elif self._way.startswith("code"):
            names = [call.name for call in self._case.turns[self.turn].calls]
            hits = next(self._wider, None)  # what is not found then is called all the same, and fails
            if hits and (missing := self._known.missing(names)):
                self.searches += 1
                return lookup(missing, hits)
        return self._left.pop(0)

    @property
    def is_done(self) -> bool:
        """True if the turn's script was said to its end."""
        return self._left == []


async def replay(
    case: Case,
    way: Way,
    count: Callable[[str], int],
    *,
    chosen: frozenset[str] | None = None,
    others: Mapping[str, Sequence[ToolSpec]] | None = None,
) -> Replayed:
    """Replay a case and return what it cost and whether the data set's checker is content.

    :param count: how many tokens a text has.
    :param chosen: which of the case's own tools are on offer; None for all.
    :param others: more tools, by source.
    """
    begin = time.perf_counter()
    world = case.world()
    meter, model = Meter(count), GoldModel(case, way)
    client = scripted_client(model.answer, meter)
    own = [WorldTools(name, world, chosen) for name in dict.fromkeys(s.source for s in world.specs())]
    extra = [OtherTools(name, specs) for name, specs in (others or {}).items() if specs]
    objection = ""
    with tempfile.TemporaryDirectory(prefix="agentd-evidence-", ignore_cleanup_errors=True) as folder:
        async with Session(
            open_model("gold", client=client),
            executor="subprocess",
            cwd=folder,
            tools=(),
            mcp_servers=[*own, *extra],
            mode="ptc" if way.startswith("code") else "tools",
            instructions=case.instructions,
            budgets=NO_LIMITS,
        ) as session:
            for number, turn in enumerate(case.turns):
                if world.begin(number):
                    for source in own:
                        source.changed()
                model.begin(number)
                await session.ask(turn.text)
                objection = world.end(number) or ("" if model.is_done else f"turn {number}: it was cut short")
                if objection:
                    break
            bindings = session.resources.tools.bindings if session.resources.tools else ()
    await client.close()
    return Replayed(
        case=case.id,
        data_set=case.data_set,
        way=way,
        offered=len(bindings),
        calls=case.calls,
        turns=len(case.turns),
        spent=meter.spent,
        searches=model.searches,
        objection=objection,
        seconds=time.perf_counter() - begin,
    )
