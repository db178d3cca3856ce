"""`Rule`, and a list of them: the first that matches says what becomes of a request."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, TypeAlias

import attrs
from agentd.types import ToolSpec
from agentd_tools.policy import Decision, PolicyRequest

from agentd_policy.arguments import is_like, is_like_qualified, matcher, type_test
from agentd_policy.compiled import compiled
from agentd_policy.matching import ArgumentPattern, Ask, CostUsd, ToolCandidate, ToolVerdict, first_match

__all__ = ["Judge", "Rule", "RuleList", "Verdict"]

Verdict: TypeAlias = Literal["allow", "deny", "ask"]
MAX_CACHED: Final = 10_000


class Judge(Protocol):
    """What decides about a request without waiting."""

    def judge(self, request: PolicyRequest, cost_usd: CostUsd) -> Decision | Ask: ...


def _texts(value: object) -> tuple[str, ...] | None:
    return (value,) if isinstance(value, str) else value  # type: ignore[return-value]


@attrs.frozen
class Rule:
    """What becomes of the requests that it matches: those for which everything that it names holds.

    Patterns are those of file names (`*`, `?`, `[a-z]`), case counts, and `*` goes over slashes and dots.

    :param verdict: `allow`, `deny` or `ask`.
    :param kind: `tool`, `create` (a file that a block makes) or `host`.
    :param name: a pattern or several, of the tool's name in Python or at its source, of the path, or of `HOST:PORT`.
        With the kind `tool`, also `SOURCE:TOOL` or `SOURCE.TOOL`; a `deny` need not say the kind.
    :param source: the same for the tool's source: `local` for Python functions, else the MCP server's name. A host that
        the executor's own `allowed_hosts` allow has the source `allowed_hosts`.
    :param arguments: a pattern for the text of an argument, by its name; `*` is for all texts in the arguments, however
        deep. A number and the like is its JSON, in any spelling: `100` is `100.0`. Of several texts, an `allow` needs
        all to match, and takes none with a `..` in it; other verdicts need one. What is not there does not match. What
        has another type than the tool's schema says, or cannot be read, matches every `deny` and `ask`, and no `allow`.
    :param read_only: the tool says of itself that it changes nothing (MCP's `readOnlyHint`), or does not.
    :param destructive: the tool may destroy something; as MCP has it, that is so unless it says otherwise.
    :param cost_over_usd: the conversation has cost more than that; an unknown cost is more.
    :param reason: what the code reads if it is denied.
    """

    verdict: Verdict
    kind: Literal["tool", "create", "host"] | None = attrs.field(default=None, kw_only=True)
    name: tuple[str, ...] | None = attrs.field(default=None, kw_only=True, converter=_texts)
    source: tuple[str, ...] | None = attrs.field(default=None, kw_only=True, converter=_texts)
    arguments: Mapping[str, tuple[str, ...]] | None = attrs.field(default=None, kw_only=True)
    read_only: bool | None = attrs.field(default=None, kw_only=True)
    destructive: bool | None = attrs.field(default=None, kw_only=True)
    cost_over_usd: float | None = attrs.field(default=None, kw_only=True)
    reason: str = attrs.field(default="", kw_only=True)

    def may_match(self, request: PolicyRequest) -> bool:
        """Tell whether it matches as far as kind, name, source and annotations go."""
        return (
            (self.kind is None or self.kind == request.kind)
            and (self.name is None or self._is_named(self.name, request))
            and (self.source is None or is_like(self.source, request.source))
            and (self.read_only is None or self.read_only is is_read_only(request.spec))
            and (self.destructive is None or self.destructive is is_destructive(request.spec))
        )

    def _is_named(self, patterns: tuple[str, ...], request: PolicyRequest) -> bool:
        names = [request.name] if request.spec is None else [request.name, request.spec.name]
        if any(is_like(patterns, name) for name in names):
            return True
        # Without a kind, `api.example:*` may mean a host: more than that is never allowed by it.
        is_meant = self.kind == "tool" or (self.kind is None and self.verdict == "deny")
        return is_meant and request.kind == "tool" and is_like_qualified(patterns, request.source, names)

    @property
    def told(self) -> str:
        """What it matches, as text: the same for the same rule, wherever it stands."""
        parts = attrs.asdict(self, filter=lambda _, value: value is not None)
        return json.dumps({k: v for k, v in parts.items() if k not in ("verdict", "reason")}, sort_keys=True)

    @property
    def is_fixed(self) -> bool:
        """True if two requests for the same thing are the same to it."""
        return not self.arguments and self.cost_over_usd is None


def is_read_only(spec: ToolSpec | None) -> bool:
    """Tell whether a tool says of itself that it changes nothing."""
    return spec is not None and spec.annotations.get("readOnlyHint") is True


def is_destructive(spec: ToolSpec | None) -> bool:
    """Tell whether a tool may destroy something: any that does not deny it."""
    return (
        spec is not None and not is_read_only(spec) and spec.annotations.get("destructiveHint") is not False
    )


@attrs.frozen
class _KnownTool:
    """What the rules say of one tool: those that may match, and the decision if nothing else counts."""

    spec: ToolSpec | None
    candidates: tuple[ToolCandidate, ...]
    fixed: Decision | Ask | None


class RuleList:
    """Rules and what holds where none matches. What does not depend on arguments or cost is decided once for each tool.

    :param label: what the record calls the rules; `policy.yaml`, say.
    """

    def __init__(self, rules: Sequence[Rule], default: Verdict, *, label: str = "") -> None:
        self.rules = tuple(rules)
        self.default = default
        self._label = f" of {label}" if label else ""
        self._known: dict[tuple[str, str], _KnownTool] = {}
        self._default = self._said(None, default, "no rule allows it")
        self._says = [
            self._said(number, rule.verdict, rule.reason, rule) for number, rule in enumerate(self.rules, 1)
        ]

    def judge(self, request: PolicyRequest, cost_usd: CostUsd) -> Decision | Ask:
        """Return what the first matching rule says."""
        known = self._known_for(request)
        if known.fixed is not None:
            return known.fixed
        return first_match(known.candidates, self._default, cost_usd)(request.content, request.action_id)

    def for_tool(self, request: PolicyRequest, cost_usd: CostUsd) -> ToolVerdict:
        """Return what judges the calls of one tool."""
        known = self._known_for(request)
        if (fixed := known.fixed) is not None:
            return lambda content, action_id: fixed
        return compiled(known.candidates, self._default, cost_usd, request.spec)

    @property
    def asks(self) -> bool:
        """True if somebody may be asked."""
        return any(isinstance(said, Ask) for said in (*self._says, self._default))

    def _known_for(self, request: PolicyRequest) -> _KnownTool:
        if request.kind != "tool":
            return self._look(request)
        key = (request.name, request.source)
        known = self._known.get(key)
        if known is None or known.spec is not request.spec:
            known = self._look(request)
            if len(self._known) < MAX_CACHED:
                self._known[key] = known
        return known

    def _look(self, request: PolicyRequest) -> _KnownTool:
        candidates: list[ToolCandidate] = []
        for rule, said in zip(self.rules, self._says, strict=True):
            if rule.arguments and request.kind != "tool":
                continue  # there are none
            if rule.may_match(request):
                patterns = [
                    ArgumentPattern(
                        name, like := _texts(given) or (), matcher(like), type_test(name, request.spec)
                    )
                    for name, given in (rule.arguments or {}).items()
                ]
                candidates.append(
                    ToolCandidate(said, rule.cost_over_usd, tuple(patterns), rule.verdict == "allow")
                )
                if rule.is_fixed:
                    break
        first = candidates[0] if candidates else ToolCandidate(self._default)
        is_fixed = not first.patterns and first.cost_over_usd is None
        return _KnownTool(
            request.spec, tuple(candidates), attrs.evolve(first.said, is_fixed=True) if is_fixed else None
        )

    def _said(
        self, number: int | None, verdict: Verdict, reason: str, rule: Rule | None = None
    ) -> Decision | Ask:
        by = f"the default{self._label}" if number is None else f"rule {number}{self._label}"
        if verdict == "ask":
            return Ask(by, rule="default" if rule is None else rule.told)
        if verdict == "allow":
            return Decision(True, f"allowed by {by}")
        return Decision(False, f"denied by {by}", reason or f"{by} does not allow it")
