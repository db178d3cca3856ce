"""Modes: the policies that a session can have, of which the person at the editor chooses one at any time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs
from agentd_policy.matching import Ask
from agentd_policy.presets import PRESETS
from agentd_policy.questions import read_file
from agentd_policy.reading import read_policy
from agentd_policy.rules import Judge

if TYPE_CHECKING:
    from agentd_policy.matching import CostUsd
    from agentd_tools.policy import Decision, PolicyRequest

__all__ = ["ASK_WRITES", "FileBefore", "PolicyMode", "PolicyModes"]

ASK_WRITES: Final = "ask-writes"
_MAX_REMEMBERED: Final = 64


@attrs.frozen(kw_only=True)
class PolicyMode:
    """A policy as the editor's menu has it."""

    id: str
    name: str
    about: str


@attrs.frozen
class FileBefore:
    """A file that a block is about to write: its path in the workspace, and what is in it; None for no file, or no
    text."""

    path: str
    text: str | None


_KNOWN: Final = {
    ASK_WRITES: (
        "Ask",
        "You are asked about tools that may change something, files that are made, and new hosts.",
    ),
    "read-only": ("Read only", "Only tools that change nothing, and no files that are made by a block."),
    "yolo": ("Do not ask", "Everything that the sandbox allows is done unasked."),
}


class PolicyModes:
    """What decides in a session: the policy of the mode that was chosen last, from the next request on. Implements
    `agentd_policy.rules.Judge`.

    Rules from a file are a person's own: beside them there is only what is stricter, `read-only`.

    :param policy: the preset or file that a session begins with; None for `ask-writes`.
    :param workspace: where files are created.
    :ivar timeout_s: how long an answer may take, if the file says so.
    :raises ConfigError: for what is no policy.
    """

    def __init__(self, policy: str | None, workspace: Path) -> None:
        named = ASK_WRITES if policy is None else policy
        self._workspace = workspace
        self._judges: dict[str, Judge] = {}
        self.timeout_s: float | None = None
        self.listed: tuple[PolicyMode, ...] = ()
        if named in PRESETS:
            offered = [*_KNOWN]
            self.current = named
        else:
            judge, self.timeout_s = read_policy(named)
            self.current = "rules"
            self._judges["rules"] = judge
            self.listed = (PolicyMode(id="rules", name=Path(named).name, about=f"The rules of {named}."),)
            offered = ["read-only"]
        for id in offered:
            self._judges[id] = PRESETS[id]
            name, about = _KNOWN[id]
            self.listed += (PolicyMode(id=id, name=name, about=about),)
        self._before: dict[str, FileBefore] = {}

    def __contains__(self, id: str) -> bool:
        return id in self._judges

    def judge(self, request: PolicyRequest, cost_usd: CostUsd) -> Decision | Ask:
        """Decide as the current mode does. No decision is for good, as the mode may change."""
        if request.kind == "create":
            self._note(request)
        return attrs.evolve(self._judges[self.current].judge(request, cost_usd), is_fixed=False)

    def before(self, action_id: str) -> FileBefore | None:
        """Return what the block with this id was to write over; None if it never came so far."""
        return self._before.get(action_id)

    def _note(self, request: PolicyRequest) -> None:
        """Keep what is in a file that is about to be written: a policy is asked at the last moment before that."""
        while len(self._before) >= _MAX_REMEMBERED:
            del self._before[next(iter(self._before))]
        data = read_file(self._workspace, request.name)
        text = None if data is None or b"\0" in data else data.decode("utf-8", "replace")
        self._before[request.action_id] = FileBefore(request.name, text)
