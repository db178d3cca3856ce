"""How a model acts, and one run of it: what sessions and the facade have in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import attrs

from agentd._concurrency.waiting import loop_caller
from agentd.errors import ConfigError
from agentd.events import RunEnd
from agentd.turn.loop import TurnLoop
from agentd.turn.native_tools import Offers
from agentd.turn.prompt import instructions, tool_instructions
from agentd.types import Budgets

if TYPE_CHECKING:
    from agentd._concurrency.channel import Channel
    from agentd.notation import Notation
    from agentd.protocols import Model
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources
    from agentd.turn.native_tools import StrictSchemas
    from agentd.turn.observer import Listener
    from agentd.turn.transcript import Transcript

__all__ = ["Acting", "Prepared"]


@attrs.frozen(kw_only=True)
class Prepared:
    """What one run works with. `instructions` is what the model is told of it; `offers` is None where it calls
    nothing natively, `notations` are empty where it writes no blocks."""

    instructions: str
    offers: Offers | None
    notations: Sequence[Notation] = ()


@attrs.define(eq=False)
class Acting:
    """The way in which a model acts: by writing code (`ptc`), or by calling tools natively (`tools`).

    :param resources: what its code works with; asked for each run. The others are those of `Session`.
    :raises ConfigError: for a mode that there is not, or `bash_tool` without `ptc`.
    """

    _resources: Callable[[], SessionResources]
    mode: Literal["ptc", "tools"] = attrs.field(default="ptc", kw_only=True)
    bash_tool: bool = attrs.field(default=False, kw_only=True)
    _parsers: Sequence[PluginSpec] | None = attrs.field(default=None, kw_only=True)
    budgets: Budgets = attrs.field(factory=Budgets, kw_only=True)
    _notations: list[Notation] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        if self.mode not in ("ptc", "tools"):
            raise ConfigError(f"mode: must be 'ptc' or 'tools', got {self.mode!r}")
        if self.bash_tool and self.mode != "ptc":
            raise ConfigError("bash_tool: goes with mode='ptc' only")

    async def prepare(
        self,
        *,
        own: str = "",
        mcp_servers: Sequence[object] = (),
        taken: Iterable[str] | None = None,
        strict: StrictSchemas | None = None,
    ) -> Prepared:
        """Bring up to date what a run works with.

        :param own: the caller's own instructions.
        :param mcp_servers: more servers from now on.
        :param taken: names of native tools of the caller's own; None if it has no say in them.
        :param strict: give native tools strict schemas, where that is possible.
        """
        resources = self._resources()
        if self.mode == "tools":
            tools = await resources.prepare_tools(mcp_servers)
            offers = Offers(tools, taken=taken or (), strict=strict)
            return Prepared(
                instructions=tool_instructions(own, tuple(tools.instructions().items())), offers=offers
            )
        skills = await resources.prepare(mcp_servers)
        native = None
        if self.bash_tool or taken is not None:
            native = Offers(bash=self.bash_tool, taken=taken or ())
        if not self.bash_tool and not self._notations:
            self._notations = resources.registry().create_notations(self._parsers)
        told = instructions(
            own=own,
            skills=skills,
            python_state=resources.python_state,
            notation=self._notations[0] if self._notations else None,
        )
        return Prepared(instructions=told, offers=native, notations=self._notations)

    async def run(
        self,
        prepared: Prepared,
        model: Model,
        *,
        transcript: Transcript,
        listener: Listener,
        task: str = "",
        channel: Channel[Any] | None = None,
        goes_on: bool = False,
        after_turn: Callable[[], Awaitable[None]] | None = None,
        review: Callable[[str], str] | None = None,
    ) -> RunEnd:
        """Let the model act until it has answered, a budget is used up, or something fails; see `TurnLoop.run`.

        :param model: told everything already, but the events of this run.
        :param channel: where the listener writes to; what waits for room goes on when its reader has caught up.
        :param goes_on: the model was told about the tools in an earlier run and not again.
        :param after_turn, review: see `TurnLoop`.
        """
        resources = self._resources()
        run, ids = resources.new_run()
        loop = TurnLoop(
            model=model,
            executor=resources.executor if self.mode == "ptc" else None,
            notations=prepared.notations,
            offers=prepared.offers,
            transcript=transcript,
            budgets=self.budgets,
            listener=listener,
            ids=ids,
            news=partial(resources.news, run),
            catch_up=partial(resources.events.deliver, run),
            after_turn=after_turn,
            review=review,
        )
        if channel is not None:
            channel.when_room(loop.resume)
        resources.events.add(run, loop_caller(), loop.tool_called, goes_on=goes_on)
        try:
            return await loop.run(task)
        finally:
            resources.end_run(run)
