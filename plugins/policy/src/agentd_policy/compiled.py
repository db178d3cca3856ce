"""The rules on the arguments of one tool, compiled into one function.

Every call of a tool goes through it, in a thread that has slept just before: there, each function, object and line on
the way costs several times what it costs in a loop. So the function is straight code for the usual case, which is
arguments that are texts or whole numbers, of the types that the tool's schema names. Whatever else comes (lists,
fractions, a wrong type, what is no JSON) goes to the plain reading of the rules (`matching`), from the first rule on.
The two say the same; tests hold them to it.

The code has no text of a rule in it: names, patterns and what rules say are bound to it as values.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import groupby
from types import CodeType
from typing import Any, Final

from agentd.types import ToolSpec
from agentd_tools.policy import Decision

from agentd_policy.arguments import DECODE, EXACT, MAGIC, PLAIN, climbs, matcher, plain_kinds
from agentd_policy.matching import ArgumentPattern, Ask, CostUsd, ToolCandidate, ToolVerdict, first_match

__all__ = ["compiled"]

MAX_RULES: Final = 200
MAX_PATTERNS: Final = 20  # of one rule, for each is a level of indentation
_WHOLE: Final = re.compile("0|-?[1-9][0-9]*", re.ASCII).fullmatch
_TO_PLAIN: Final = "return plain(content, action_id)"


def compiled(
    candidates: Sequence[ToolCandidate], default: Decision | Ask, cost_usd: CostUsd, spec: ToolSpec | None
) -> ToolVerdict:
    """Return what says what the first matching rule says, as `first_match` does, in a fraction of its time."""
    plain = first_match(candidates, default, cost_usd)
    patterns = [len(candidate.patterns) for candidate in candidates]
    if not any(patterns) or len(patterns) > MAX_RULES or max(patterns) > MAX_PATTERNS:
        return plain
    writer = _RulesWriter(spec, plain=plain, default=default, cost_usd=cost_usd)
    writer.rules(candidates)
    return writer.function()


@lru_cache(maxsize=256)  # of tools about which the same rules may say something, the text is the same
def _code(source: str) -> CodeType:
    return compile(source, "<rules of a policy>", "exec", dont_inherit=True)


class _RulesWriter:
    """Writes the function. Of an argument that a rule has looked at, `textN` is its text, None if it is not there, and
    `otherN` the other spelling of a whole number; `every` are all texts in the arguments."""

    def __init__(self, spec: ToolSpec | None, **values: Any) -> None:
        self._spec = spec
        self._values: dict[str, Any] = {"decode": DECODE, "climbs": climbs, **values}
        self._lines: list[str] = []
        self._depth = 2
        self._read: dict[
            str, tuple[str, str, bool]
        ] = {}  # by argument: the two names, and whether it may be a text
        self._has_every = False
        self._as_texts: set[str] = set()

    def rules(self, candidates: Sequence[ToolCandidate]) -> None:
        """Write all rules, one after the other. Rules in a row that do not allow are looked at together first: mostly,
        none of them matches."""
        self._as_texts = {
            pattern.name
            for candidate in candidates
            for pattern in candidate.patterns
            if any(MAGIC.intersection(like) and like.strip("*") for like in pattern.like)
        }
        for is_plain_no, group in groupby(
            candidates, lambda c: bool(c.patterns) and not c.allows and c.cost_over_usd is None
        ):
            row = list(group)
            if not is_plain_no or len(row) == 1:
                for candidate in row:
                    self._rule(candidate)
                continue
            with self._if(self._any_of(row)):
                for candidate in row:
                    self._rule(candidate)

    def function(self) -> ToolVerdict:
        """Return what was written."""
        source = "\n".join(
            [
                f"def make({', '.join(self._values)}):",
                "  def judge(content, action_id):",
                "    try:",
                "      given = decode(content)",
                "    except (ValueError, RecursionError):",
                f"      {_TO_PLAIN}",
                "    if type(given) is not dict:",
                f"      {_TO_PLAIN}",
                "    get = given.get",
                *self._lines,
                "    return default",
                "  return judge",
            ]
        )
        namespace: dict[str, Any] = {}
        exec(_code(source), namespace)
        return namespace["make"](**self._values)  # type: ignore[no-any-return]

    # --- one rule ----------------------------------------------------------------------------------

    def _rule(self, candidate: ToolCandidate) -> None:
        if candidate.allows and any(pattern.name == "*" for pattern in candidate.patterns):
            self._line(_TO_PLAIN)  # it wants all texts to match, names of arguments as well: few say that
            return
        conditions: list[str] = []
        if candidate.cost_over_usd is not None:
            limit = self._bind(candidate.cost_over_usd)
            conditions.append(f"(cost := cost_usd(action_id)) is None or not cost <= {limit}")
        patterns = sorted(
            candidate.patterns, key=lambda pattern: pattern.name == "*"
        )  # that one takes longest
        for pattern in patterns:
            if pattern.name != "*":
                self._read_argument(pattern)
                conditions.append(self._one_test(pattern, pattern.like, allows=candidate.allows))
        with self._if(" and ".join(f"({condition})" for condition in conditions) or "True"):
            if patterns and patterns[-1].name == "*":
                self._any_in_every(patterns[-1].like, "is_like")
                self._line(f"if is_like: return {self._bind(candidate.said)}")
            else:
                self._line(f"return {self._bind(candidate.said)}")

    def _any_of(self, row: Sequence[ToolCandidate]) -> str:
        """Write what tells whether any of these rules may match, by one argument of each; return the condition."""
        like: dict[str, tuple[ArgumentPattern, tuple[str, ...]]] = {}
        for candidate in row:
            pattern = min(candidate.patterns, key=lambda pattern: pattern.name == "*")
            first, known = like.get(pattern.name, (pattern, ()))
            like[pattern.name] = first, known + pattern.like
        conditions: list[str] = []
        for name, (pattern, patterns) in like.items():
            if name == "*":
                self._any_in_every(patterns, "may_match")
                conditions.append("may_match")
            else:
                self._read_argument(pattern)
                conditions.append(self._one_test(pattern, patterns, allows=False))
        return " or ".join(f"({condition})" for condition in conditions)

    # --- what it looks at --------------------------------------------------------------------------

    def _read_argument(self, pattern: ArgumentPattern) -> None:
        if pattern.name in self._read:
            return
        number = len(self._values)
        text, other = f"text{number}", f"other{number}"
        test = pattern.has_its_type
        may_be_text, may_be_whole = (test is None or test(""), test is None or test(0))
        has_two = may_be_whole and (may_be_text or pattern.name in self._as_texts)
        self._read[pattern.name] = text, other if has_two else text, may_be_text
        self._line(f"{text} = {other} = get({self._bind(pattern.name)})")
        if may_be_whole:
            self._line(f"if type({text}) is int and -{EXACT} < {text} < {EXACT}:")
            if has_two:
                self._line(f"  {text} = str({text})")
                self._line(f'  {other} = {text} + ".0"')
            else:  # it is only compared with whole texts, or taken whatever it is
                self._line("  pass")
        a_text = f"type({text}) is not str and " if may_be_text else ""
        self._line(f"{'elif' if may_be_whole else 'if'} {a_text}{text} is not None: {_TO_PLAIN}")

    def _one_test(self, pattern: ArgumentPattern, like: Sequence[str], *, allows: bool) -> str:
        text, other, may_be_text = self._read[pattern.name]
        conditions = [f"{text} is not None", f"({self._like(like, text, other)})"]
        if allows and may_be_text:
            conditions.append(f'not (".." in {text} and climbs({text}))')
        return " and ".join(conditions)

    def _any_in_every(self, like: Sequence[str], found: str) -> None:
        """Write what tells, in the variable `found`, whether any text in the arguments is like this."""
        if not self._has_every:
            self._has_every = True
            kinds = self._bind(plain_kinds(self._spec).get)
            self._line("every = [*given]")
            self._line("for name, value in given.items():")
            self._line("  kind = type(value)")
            self._line(f"  if kind not in {kinds}(name, {self._bind(PLAIN)}): {_TO_PLAIN}")
            self._line("  if kind is str: every.append(value)")
            self._line("  elif kind is int:")
            self._line(f"    if not -{EXACT} < value < {EXACT}: {_TO_PLAIN}")
            self._line("    text = str(value)")
            self._line('    every += (text, text + ".0")')
        self._line(f"{found} = False")
        self._line("for text in every:")
        self._line(f"  if {self._like(like, 'text', 'text')}:")
        self._line(f"    {found} = True")
        self._line("    break")

    def _like(self, like: Sequence[str], text: str, other: str) -> str:
        """Return the condition that a text is like one of these patterns, in one of its two spellings, of which the
        second begins with the first."""
        plain, begins, ends, within, others = _sorted_patterns(like)
        if "" in within:
            return "True"
        spellings = [text] if text == other else [text, other]
        conditions: list[str] = []
        if plain:
            words = self._bind(frozenset((*plain, *_whole_numbers(plain))))
            conditions += [f"{spelling} in {words}" for spelling in spellings]
        if begins:
            conditions.append(f"{other}.startswith({self._bind(tuple(begins))})")
        if ends:
            words = self._bind(tuple(ends))
            conditions += [f"{spelling}.endswith({words})" for spelling in spellings]
        conditions += [f"{self._bind(part)} in {other}" for part in within]
        if others:
            match = self._bind(matcher(tuple(others)))
            conditions += [f"{match}({spelling})" for spelling in spellings]
        return " or ".join(conditions) or "False"

    # --- lines -------------------------------------------------------------------------------------

    def _bind(self, value: Any) -> str:
        name = f"value{len(self._values)}"
        self._values[name] = value
        return name

    def _line(self, text: str) -> None:
        self._lines.append("  " * self._depth + text)

    @contextmanager
    def _if(self, condition: str) -> Iterator[None]:
        """Write what follows below a condition. What is looked at there is not known behind it."""
        self._line(f"if {condition}:")
        known, has_every = dict(self._read), self._has_every
        self._depth += 1
        yield
        self._depth -= 1
        self._read, self._has_every = known, has_every


def _whole_numbers(texts: Sequence[str]) -> Iterator[int]:
    """Return the numbers of which these are spellings, for what is compared as it is."""
    for text in texts:
        digits = text.removesuffix(".0")
        if len(digits) <= len(str(EXACT)) and _WHOLE(digits):
            yield int(digits)


def _sorted_patterns(
    like: Sequence[str],
) -> tuple[list[str], list[str], list[str], list[str], list[str]]:
    """Return the patterns apart: plain texts; what a text begins, ends or has within; all others."""
    plain: list[str] = []
    begins: list[str] = []
    ends: list[str] = []
    within: list[str] = []
    others: list[str] = []
    for pattern in like:
        inner = pattern.strip("*")
        if MAGIC.intersection(inner):
            others.append(pattern)
        elif not pattern.startswith("*"):
            (begins if pattern.endswith("*") else plain).append(inner)
        elif not pattern.endswith("*"):
            ends.append(inner)
        else:
            within.append(inner)
    return plain, begins, ends, within, others
