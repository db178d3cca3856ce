"""How a model acts, and one run of it: what sessions and the facade have in common."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from agentd._concurrency.waiting import loop_caller
from agentd.errors import ConfigError
from agentd.events import RunEnd
from agentd.turn.loop import TurnLoop
from agentd.turn.prompt import instructions, tool_instructions
from agentd.turn.transcript import Transcript
from agentd.types import Budgets

if TYPE_CHECKING:
    from agentd._concurrency.channel import Channel
    from agentd.notation import Notation
    from agentd.protocols import Model, Offers, StrictSchemas
    from agentd.registry.options import PluginSpec
    from agentd.session.resources import SessionResources
    from agentd.turn.observer import Listener

__all__ = ["SETTINGS", "Acting", "Prepared"]

_PATH: Final[Any] = str | os.PathLike
SETTINGS: Final[Mapping[str, Any]] = {
    **dict.fromkeys(("mcp_servers", "sinks", "skills"), list),
    **dict.fromkeys(("tools", "parsers"), list | None),
    **dict.fromkeys(("executor_options", "model_options", "prices"), dict | None),
    **dict.fromkeys(("bash_tool", "checkpoint_every_turn"), bool),
    **dict.fromkeys(("skills_dir", "snapshots_dir"), _PATH | None),
    **dict.fromkeys(("base_url", "api_key"), str | None),
    "cwd": _PATH,
    "instructions": str,
    "skills_prompt_tokens": int | None,
    "mode": Literal["ptc", "tools"],
    "api": Literal["chat", "responses"],
    "budgets": Budgets | None,
    "transcript": Transcript | None,
}
"""The types of a session's arguments, for `check_options`; plugins and what they take are `Acting.check`'s."""


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
    :raises ConfigError: for `bash_tool` without `ptc`.
    """

    _resources: Callable[[], SessionResources]
    mode: Literal["ptc", "tools"] = attrs.field(default="ptc", kw_only=True)
    bash_tool: bool = attrs.field(default=False, kw_only=True)
    _parsers: Sequence[PluginSpec] | None = attrs.field(default=None, kw_only=True)
    budgets: Budgets = attrs.field(factory=Budgets, kw_only=True)
    _notations: list[Notation] = attrs.field(init=False, factory=list)

    def __attrs_post_init__(self) -> None:
        if self.bash_tool and self.mode != "ptc":
            raise ConfigError("bash_tool: goes with mode='ptc' only")

    def check(self) -> None:
        """Raise now what the first run would raise for names of plugins and their options. Nothing starts."""
        if self.mode == "ptc":
            self._resources().check()
            if not self.bash_tool:
                self._notations = self._resources().registry().create_notations(self._parsers)

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
        await resources.settled()  # or the model would be told of tools that are no longer there
        if self.mode == "tools":
            tools = await resources.prepare_tools(mcp_servers)
            offers = resources.offers(tools=True, bash=False, taken=taken or (), strict=strict)
            return Prepared(
                instructions=tool_instructions(own, tuple(tools.instructions().items())), offers=offers
            )
        skills = await resources.prepare(mcp_servers)
        guide = getattr(resources.executor, "job_guide", None)  # as `job_news`: not by the protocol
        if guide is not None:
            skills = f"{guide(blocks=not self.bash_tool)}\n\n{skills}"
        native = None
        if self.bash_tool or taken is not None:
            native = resources.offers(tools=False, bash=self.bash_tool, taken=taken or (), strict=None)
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
        :param after_turn: see `TurnLoop`; `review`: one more for its `reviews`, asked after those of the notations.
        """
        resources = self._resources()
        run, ids = resources.new_run()
        resources.transcripts[run] = transcript
        executor = resources.executor if self.mode == "ptc" else None
        if executor is not None and resources.policy is not None:
            executor = resources.policy.guard(executor)
        loop = TurnLoop(
            model=model,
            executor=executor,
            notations=prepared.notations,
            offers=prepared.offers,
            transcript=transcript,
            budgets=self.budgets,
            listener=listener,
            ids=ids,
            news=partial(resources.news, run),
            catch_up=partial(resources.catch_up, run),
            after_turn=after_turn,
            reviews=[r for r in (*(n.review for n in prepared.notations), review) if r is not None],
        )
        if channel is not None:
            channel.when_room(loop.resume)
        resources.events.add(run, loop_caller(), loop.tool_called, goes_on=goes_on)
        try:
            return await loop.run(task)
        finally:
            resources.end_run(run)
